"""The prose says what the records say: tools/recompute.py over docs/numbers.toml, and intervals of the
chapters beside the code."""
import json
import re
import recompute  # noqa: E402

def test_numbers_agree(capsys):
    "Every decimal and percentage of the pages that the table names has a record, or a reason"
    assert recompute.main([]) == 0, capsys.readouterr().out


def test_a_wrong_number_is_found():
    entry = dict(page='08_does_it_work', says='on `carve-tiny` (alone 41.3)', **{'is': ["acc(T, 'random')"]})
    found = list(recompute.check([entry], ['08_does_it_work']))
    assert any('says 41.3, the record 43.33' in line for line in found)
    assert any('no entry' in line for line in found)
    assert any('is no longer there' in line for line in recompute.check([entry | dict(says='nowhere')],
        ['08_does_it_work']))


def test_a_gain_needs_its_corrected_p():
    entry = dict(page='08_does_it_work', says='`Carve()` gains 5.7 points here', **{'is': ['5.7']}, p='.074')
    def claims(e):
        return [line for line in recompute.check([e], ['08_does_it_work']) if 'with a corrected p' in line]
    assert len(claims(entry)) == 1 and 'gains' in claims(entry)[0]
    assert not claims(entry | dict(p='.04'))
    assert not claims(entry | dict(says='`Carve()` is 5.7 points above'))


def test_controls_near_zero_show_what_they_change():
    "A control that nets nothing may still change answers: both counts are printed, and large effects are not"
    lines = [*recompute.near_zero()]
    assert 'other_crops, carve-tiny, black: -0.3 points net, 30 won, 32 lost of 600' in lines
    assert lines and not any(', target' in line or ', oracle' in line for line in lines)


INTERVAL = re.compile(r'\[\+?(-?\d*\.?\d+), ?\+?(-?\d*\.?\d+)\]')

def intervals(text): # either sign, since a loss is a gain the other way round
    return [tuple(sorted(abs(float(end)) for end in ends)) for ends in INTERVAL.findall(text)]


def test_intervals_are_computed():
    "Each interval that a chapter tells stands in the code or an output of a page, or in the table of numbers"
    pages = {path: json.loads(path.read_text())['cells'] for path in (recompute.ROOT/'nbs').rglob('*.ipynb')}
    texts = [''.join(c['source']) + json.dumps(
        [o.get('text') or o.get('data', {}).get('text/plain') for o in c['outputs']])
        for of in pages.values() for c in of if c['cell_type'] == 'code']
    computed = {*intervals((recompute.ROOT/'docs/numbers.toml').read_text() + ' '.join(texts))}
    told = [(path.name, ends) for path, of in pages.items() if path.parent.name == 'nbs'
        for c in of if c['cell_type'] == 'markdown' for ends in intervals(''.join(c['source']))]
    assert len(told) > 60 and [one for one in told if one[1] not in computed] == []
