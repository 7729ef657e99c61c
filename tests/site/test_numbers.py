"The prose says what the records say: tools/recompute.py over docs/numbers.toml."

import recompute  # noqa: E402

def test_numbers_agree(capsys):
    "Every decimal and percentage of the pages that the table names has a record, or a reason"
    assert recompute.main([]) == 0, capsys.readouterr().out


def test_a_wrong_number_is_found():
    entry = dict(page='08_does_it_work', says='on `carve-tiny` (alone 41.3)', **{'is': ["acc(T, 'random')"]})
    found = list(recompute.check([entry], ['08_does_it_work']))
    assert any('says 41.3, the record 43.33' in line for line in found) and any('no entry' in line for line in found)
    assert any('is no longer there' in line for line in recompute.check([entry | dict(says='nowhere')],
        ['08_does_it_work']))


def test_a_gain_needs_its_corrected_p():
    entry = dict(page='08_does_it_work', says='`Carve()` gains 5.7 points here', **{'is': ['5.7']}, p='.074')
    def claims(e): return [line for line in recompute.check([e], ['08_does_it_work']) if 'with a corrected p' in line]
    assert len(claims(entry)) == 1 and 'gains' in claims(entry)[0]
    assert not claims(entry | dict(p='.04')) and not claims(entry | dict(says='`Carve()` is 5.7 points above'))
