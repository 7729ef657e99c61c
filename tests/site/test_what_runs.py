"The page *One call, step by step* names the functions and files that run today, in the order in which they run."

import json
import re
from processes import ROOT, afresh, run


def test_page_is_the_trace():
    "A call enters the stored steps in the stored order; only line numbers may have moved since the page was saved"
    page = json.loads((ROOT / 'nbs/tutorials/what_runs.ipynb').read_text(encoding='utf-8'))
    outputs = [o.get('data', {}) for c in page['cells'] if c['cell_type'] == 'code' for o in c['outputs']]
    stored = '\n'.join(''.join(data['text/markdown']) for data in outputs if 'text/markdown' in data)
    live = run(
        'from recipes.what_runs import step_table, trace_carve, trace_lookup, way_table; '
        'print(step_table(trace_carve())); print(way_table(trace_lookup()))',
        work=afresh,
    ).stdout
    assert re.sub(r':\d+`', '`', stored).split() == re.sub(r':\d+`', '`', live).split(), (
        'save it: nbdev-test nbs/tutorials/what_runs.ipynb --save'
    )
