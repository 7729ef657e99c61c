"""The drawing of one call, compared with the call."""
import re
import house
from processes import ROOT

def test_picture_of_a_call():
    "It has each pair of rooms between which `Lookup()(vlm, image, question)` passes, and no other"
    drawn = re.findall(r'>(\w+)</text><text[^>]*>→</text><text[^>]*>(\w+)<', (ROOT/'nbs/images/call.svg').read_text(encoding='utf-8'))
    assert set(drawn) == set(house.crossings(house.passed())), 'run `python tools/house.py`'
