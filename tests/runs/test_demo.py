"The stored answers of `carve demo`, asked again: 480 of both models of this package."

import pytest
from carve_nb.data.scenes import scene_records
from carve_nb.runs.demo import ask_again, load_stored


@pytest.mark.soak
@pytest.mark.parametrize('name', ['carve-small', 'carve-tiny'])
def test_stored_answers(name, load):
    "The first forty questions in six ways; on another processor an answer may be rounded over the edge"
    lines = ask_again(load(name), load_stored()[name], scene_records(40))
    assert len(lines) == 240 and sum(line['answer'] == line['stored'] for line in lines) > 0.98 * 240
