"What changes with the installed transformers: the name of the cache, and how long its older name is taken."

import re
import tomllib
from pathlib import Path
import transformers
from processes import ROOT, afresh, run
from carve_nb.models.kernel import CACHE

CALLS = """
import warnings
warnings.simplefilter('error', FutureWarning)
from carve_nb import VLM, Carve
from carve_nb.attention.session import Session
from carve_nb.method.vicrop import grad_rows
from carve_nb.data.scenes import make_scene
from carve_nb.method.registry import make_method
from carve_nb.models.prompts import Ask
scene, vlm = make_scene(145), VLM.from_pretrained('carve-tiny')
image, question = scene.image, scene.question('count').question
vlm.ask([image, image], question)
s = Session(vlm); s.ask(Ask((image, image), question)); s.ask(Ask((image, image), 'What is it?'))
for name in 'carve', 'lookup', 'pai', 'vcd': make_method(name)(vlm, image, question)
grad_rows(vlm, vlm.prompt(image, question))
"""


def test_own_calls_are_not_deprecated():
    "Neither a warning nor a line in the log of transformers"
    done = run(CALLS, work=afresh)
    assert done.returncode == 0 and 'deprecated' not in done.stderr, done.stderr[-2000:]


def test_allowed_as_long_as_the_older_name():
    """Layers of remote code and of older releases name the cache as before; the cap of pyproject.toml lies at
    or below its end"""
    needs = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['dependencies']
    cap = next(re.search(r'<([\d.]+)', need)[1] for need in needs if need.startswith('transformers'))
    number = lambda version: [*map(int, version.split('.'))]
    files = Path(transformers.__file__).parent.glob('models/*/modeling_*.py')
    ends = {
        v
        for f in files
        for v in re.findall(r'@deprecate_kwarg\("past_key_values", "([\d.]+)"', f.read_text(encoding='utf-8'))
    }
    assert all(number(cap) <= number(end) for end in ends), (cap, ends)
    assert CACHE == ('cache' if ends else 'past_key_values')
