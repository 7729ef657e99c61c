"Each of the sixty cases has a test or a reason, and the saved table is that of these tests."
import json
from .cases import HELD, LONG, NBS, NO_GPU, NOT_RUN, PART, SOAK, cases, how, marked_cells, marked_tests, result

NUMBERS = range(1, 61)


def test_cases_are_held_or_reasoned():
    assert [c['number'] for c in cases()] == list(NUMBERS)
    held = marked_tests()
    assert [c['number'] for c in cases() if ('reason' in c) == (c['number'] in held)] == [], 'neither a test nor a reason, or both'
    assert {*held, *marked_cells()} <= {*NUMBERS}


def test_saved_table_is_up_to_date():
    "`pytest --faults-json=nbs/results/faults.json` writes it"
    saved, tests, cells = json.loads((NBS/'results'/'faults.json').read_text(encoding='utf-8')), marked_tests(), marked_cells()
    assert [{k: o[k] for k in c} for o, c in zip(saved, cases(), strict=True)] == cases()
    assert {o['number']: [*o['tests']] for o in saved if o['tests']} == tests
    assert {o['number']: o['notebooks'] for o in saved if o['notebooks']} == cells
    assert [(o['number'], o['result']) for o in saved if o['result'] not in (HELD, LONG, f'{PART}: {NO_GPU}', 'does not apply')] == []


def test_results_in_words():
    "A case is held only when all of its tests passed; what was left out is named"
    long, no_gpu = f'{NOT_RUN}: {SOAK}', f'{NOT_RUN}: {NO_GPU}'
    for ended, want in (([{'passed'}, {'passed'}], HELD), ([{'passed'}, {long}], LONG), ([{'passed', long}], LONG), ([{'passed'}, {no_gpu}], f'{PART}: {NO_GPU}'),
                        ([{'passed', no_gpu}, {long}], f'{PART}: {NO_GPU}'), ([{'passed'}, {'passed', 'failed'}, {long}], 'failed'), ([{long}], NOT_RUN), ([], NOT_RUN)):
        assert result({}, ended) == want
    assert result(dict(reason='no'), []) == 'does not apply'
    assert [how(e) for e in ({'passed'}, {'passed', 'failed'}, {no_gpu}, {'passed', long, no_gpu})] == ['passed', 'failed', no_gpu, f'passed; {NOT_RUN}: {SOAK}, {NO_GPU}']
