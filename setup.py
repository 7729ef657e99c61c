"Packaging: everything that is said about the package stands in settings.ini."
import re
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

here = Path(__file__).parent
ini = ConfigParser(interpolation=None)
ini.read(here/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
statuses = ['1 - Planning', '2 - Pre-Alpha', '3 - Alpha', '4 - Beta', '5 - Production/Stable']
readme = here/'README.md'

def described():
    "The README, whose links and pictures a package index can follow where the repository has an address"
    text, base = readme.read_text(encoding='utf-8') if readme.exists() else '', cfg['repository'].rstrip('/')
    if not base: return text
    text = re.sub(r'(!\[[^]]*\]\()(?!\w+:)', rf'\g<1>{base}/raw/{cfg["branch"]}/', text)
    return re.sub(r'((?<!!)\[[^]]*\]\()(?![\w]+:|#)', rf'\g<1>{base}/blob/{cfg["branch"]}/', text)

urls = dict(Source=cfg['repository'], Documentation=cfg['site'], Paper='https://arxiv.org/abs/2509.06461')

def lines(key): return [o.strip() for o in cfg[key].splitlines() if o.strip()]

extras = {k.removesuffix('_requirements'): lines(k) for k in cfg if k.endswith('_requirements')}
extras['all'] = sorted({o for k in cfg['all_extras'].split() for o in extras[k]})

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'],
    long_description=described(), long_description_content_type='text/markdown', project_urls={k: v for k, v in urls.items() if v},
    author=cfg['author'], license=cfg['license'], keywords=cfg['keywords'].split(),
    classifiers=[f'Development Status :: {statuses[int(cfg["status"])-1]}', 'Intended Audience :: Science/Research',
                 'Programming Language :: Python :: 3',
                 *[f'Programming Language :: Python :: {v}' for v in cfg['tested_python'].split()]],
    package_dir={'': '.'},   # an editable install finds recipes/ too
    packages=find_packages(include=[cfg['lib_path'], f'{cfg["lib_path"]}.*']),
    package_data={cfg['lib_path']: ['checkpoints/**/*', 'records/**/*']},
    python_requires=f'>={cfg["min_python"]}', install_requires=lines('requirements'),
    extras_require=extras,
    entry_points={'console_scripts': lines('console_scripts'), 'lmms_eval.models': lines('lmms_eval_models'),
                  'nbdev': [f'{cfg["lib_path"]}={cfg["lib_path"]}._modidx:d']},
    zip_safe=False)
