"The numbers in README's prose are those of the records; README is made from the front page, nbs/index.ipynb."

import re
import numpy as np
import pytest
from processes import ROOT
from safetensors import safe_open
from carve_nb.core.stats import difference
from carve_nb.method.registry import methods
from carve_nb.models.checkpoints import CHECKPOINTS, stored_table
from recipes import other_maps
from recipes.records import load_trial
from recipes.replay import show_share

README = (ROOT / 'README.md').read_text(encoding='utf-8')
CODE = re.compile(r'```.*?```|`[^`\n]*`|\]\([^)]*\)', re.S)
NUMBER = re.compile(r'(?<![\w./:-])(?:\d+\.\d+(?![\w.]*[\w/])|\d+(?= ?%))')  # decimals and percentages
ELSEWHERE = {'with Python 3.11+': 'the version that pyproject.toml asks for', 'Figure 0.1': 'of a caption'}


def trial(name):
    return load_trial(name, ROOT / 'nbs/results/trial')


def gained(model, crop):
    "Points that a crop gains over no crop, where a question has both"
    answers = [r['right'] for r in trial(f'other_crops-{model}') if crop in r['right']]
    return 100 * np.mean([right[crop] - right['none'] for right in answers])


def carried() -> str:
    "What README says of clutter: shares of its cost with intervals, of the three models"
    tiny, small, smol = (
        show_share(other_maps.to_dataframe(trial(f'other_maps-color-{model}')))
        for model in ('carve-tiny', 'carve-small', 'carve-smol')
    )
    return (
        f'can carry {tiny} of what it costs `carve-tiny`, {small} on `carve-small` and {smol} on `carve-smol`'
    )


def contrast_cost():
    "Points that `carve` scores below the same attention without contrast, on `carve-smol`"
    answers = [r['made'] for r in trial('front_page-carve-smol')]
    return 100 * np.mean([m['question-only']['right'] - m['carve']['right'] for m in answers])


def contrast_by_peak() -> str:
    "The same with the region of the highest peak, with its interval"
    answers = [r['made'] for r in trial('front_page-peak-carve-smol')]
    raw, divided = ([m[f'{name}, peak']['right'] for m in answers] for name in ('question-only', 'carve'))
    return f'by the highest peak {difference(raw, divided)}'


def right(method):
    return 100 * np.mean([r['made'][method]['right'] for r in trial('front_page-carve-small')])


def parameters(model):
    "Millions of parameters of a packaged model"
    shapes = []
    for file in (CHECKPOINTS / model).glob('*.safetensors'):
        with safe_open(file, 'pt') as weights:
            shapes += [weights.get_slice(name).get_shape() for name in weights.keys()]
    return sum(map(np.prod, shapes)) / 1e6


SENTENCES = {
    'a model of 9.0 M parameters': lambda: [parameters('carve-small')],
    'reads 39 % of': lambda: [right('none')],
    'small digits right, and 74 % with that crop': lambda: [right('lookup')],
    'at that of `carve-small` `carve` reads 74.6 % right, `lookup`, which does not divide, 74.2 %': lambda: [
        100 * np.mean([r['right'] for r in trial('front_page-profile-carve-small')]),
        right('lookup'),
    ],
    "On 600 other questions the target's crop gains 59.3 points (`carve-tiny`) and 44.3 (`carve-small`), and a crop of another digit "
    'costs 7.4 and 4.5': lambda: [
        600,
        gained('carve-tiny', 'target'),
        gained('carve-small', 'target'),
        -gained('carve-tiny', 'another digit'),
        -gained('carve-small', 'another digit'),
    ],
    'On `carve-smol` it costs 4.8 points': lambda: [contrast_cost()],
}


@pytest.mark.parametrize('sentence', SENTENCES)
def test_numbers_agree(sentence):
    assert sentence in README
    words = re.findall(r'\d+(?:\.\d+)?', CODE.sub('', sentence))
    for word, value in zip(words, SENTENCES[sentence](), strict=True):
        assert word == f'{value:.{len(word.partition(".")[2])}f}'


def test_the_other_methods_are_counted():
    own = 'carve', 'lookup', 'paper', 'official'
    categories = [m.category for name, m in methods().items() if m.category != 'control' and name not in own]
    edit = sum(category in ('edit', 'logits') for category in categories)
    words = 'none one two three four five six seven eight nine ten eleven twelve thirteen fourteen'.split()
    crop = len(categories) - edit
    assert f'**[{len(categories)} methods beside `lookup` and `carve`](' in README
    assert f'{words[crop]} crop; {words[edit]} edit attention or logits' in README
    assert ('Twenty-two methods' in README) == (len(categories) + 2 == 22)


@pytest.mark.parametrize('sentence', [carried, contrast_by_peak])
def test_intervals_agree(sentence):
    assert sentence() in README


def test_each_number_has_a_record():
    prose = README
    for sentence in (*SENTENCES, *ELSEWHERE, carried(), contrast_by_peak()):
        prose = prose.replace(sentence, '')
    prose = '\n'.join(
        line for line in CODE.sub('', prose).splitlines() if not line.startswith('|')
    )  # a table is displayed by its cell
    assert NUMBER.findall(prose) == []


def test_families():
    "The rows of all families of the stored table differ from eager ones by at most what README says"
    (head, *families) = stored_table('families')
    rows = head.index('rows against eager')
    largest = max(float(family[rows].partition(',')[0]) for family in families)
    assert (
        f'by at most {largest:.0e} on the small models of all [{len(families)} families]'.replace('e-0', 'e-')
        in README
    )
