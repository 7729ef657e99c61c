"Measurements over somebody's model and questions, as a script starts them."
import shutil
import pytest
from processes import Forked, afresh, until
from carve_nb import measure_entropy, measure_layers
from carve_nb.core.errors import RunError
from carve_nb.data.records import read_entries
from carve_nb.runs.store import read_records

SCRIPT = """import carve_nb
from carve_nb.data.records import read_entries
carve_nb.{}(carve_nb.VLM.from_pretrained({!r}), read_entries({!r}), {!r})"""


@pytest.mark.parametrize('measure, family', [(measure_entropy, 'qwen2_5_vl'), (measure_layers, 'llava')])
def test_killed_and_resumed(folders, load, photos, tmp_path, measure, family):
    "A checkpoint folder and a data folder: killed in the middle, taken up again, the frame of a run in one piece; no other model goes on"
    lines = lambda: (tmp_path/'records.jsonl').read_text().splitlines() if (tmp_path/'records.jsonl').exists() else []
    questions, vlm = read_entries(photos), load(family)
    whole = measure(vlm, questions, progress=False)
    p = Forked(afresh, SCRIPT.format(measure.__name__, *map(str, (folders(family), photos, tmp_path))))
    until(lambda: len(lines()) >= 2, p)
    p.kill()
    p.communicate()
    kept = lines()
    assert whole.id.nunique() == 10 and len(kept) >= 2
    assert (measure(vlm, questions, tmp_path, progress=False).equals(whole)
        and set(kept) <= set(lines()))  # not measured again
    other = load('llava' if family != 'llava' else 'qwen2_5_vl')
    with pytest.raises(RunError, match='holds another run'): measure(other, questions, tmp_path, progress=False)
    assert len(lines()) == 10


def test_broken_image_keeps_the_others(load, photos, tmp_path):
    "One image cannot be opened: a warning names it, and nine questions are measured"
    shutil.copytree(photos, tmp_path/'d')
    (tmp_path/'d'/'coins.jpg').write_bytes(b'no image')
    with pytest.warns(UserWarning, match='1 of 10 questions have no record.*coins.jpg'):
        t = measure_entropy(load('llava'), read_entries(tmp_path/'d'), tmp_path/'o', progress=False)
    assert t.id.nunique() == len(read_records(tmp_path/'o')[0]) == 9
