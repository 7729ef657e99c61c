"What the pictures of README and of the first page say is what the package answers."

import json
import re
import pytest
from processes import ROOT
from carve_nb.data.scenes import make_scene
from recipes.living_figure import ASKED, picture_says

IMAGES = ROOT / 'nbs/images'
PAGES = ROOT / 'README.md', ROOT / 'nbs/index.ipynb'
SHOWN = {name for page in PAGES for name in re.findall(r'images/(\w+)\.(?:gif|png)', page.read_text('utf-8'))}
SAID = {name: json.loads((IMAGES / f'{name}.json').read_text('utf-8')) for name in sorted(SHOWN)}
STATES = [(name, k) for name, states in SAID.items() for k in range(len(states))]


@pytest.mark.parametrize('name, k', STATES)
def test_it_is_answered_anew(name, k):
    said = SAID[name][k]
    now = picture_says(said['heart'], bool(said['again']))
    sure = [pytest.approx(of, abs=0.002) for of in (now['confidence'], (now['again'] or [None, 0])[1])]
    assert said['confidence'] == sure[0]
    if said['again']:
        assert said['again'] == [now['again'][0], sure[1]]
    for key in now.keys() - {'confidence', 'again'}:
        assert said[key] == now[key], key


def test_the_first_picture_is_of_the_scene_as_it_is():
    box = make_scene(145).question('digit').box
    assert all(states[0]['heart'] == list(box[:2]) for states in SAID.values())
    assert all(states[0]['question'] == ASKED for states in SAID.values())
