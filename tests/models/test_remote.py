"""The crop from here, the answer from there: what is sent, to whom, what may come back, and that no key is
left anywhere.

Where fastapi and uvicorn are installed, `transformers serve` is started with the reference model as a
real other side."""

import io
import json
import logging
import sys
import time
import numpy as np
import pytest
from PIL import Image
from processes import Forked, afresh, free_port, served, until
from server import bad, images, ok
from carve_nb.attention.session import Session
from carve_nb.cli.main import main
from carve_nb.core.errors import CarveError, RemoteError
from carve_nb.core.text import SHORT_ANSWER
from carve_nb.data.scenes import samples
from carve_nb.method import registry, wrappers
from carve_nb.method.carve import Carve
from carve_nb.method.controls import DirectAnswer
from carve_nb.method.wrappers import record_of
from carve_nb.models.api_client import Endpoint
from carve_nb.models.checkpoints import CHECKPOINTS

KEY = 'sk-Q7f2-not-a-real-key-93'


@pytest.fixture(scope='module')
def tiny(load):
    return load('llava')


@pytest.fixture(scope='module')
def photo():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))


WITH_CROP = [name for name, m in registry.methods().items() if 'model' not in m.needs]


@pytest.mark.parametrize('name', WITH_CROP)
def test_every_method(name, serve, tiny, photo):
    """One request, with the images that the model here would be shown: it answers them as here; guided
    methods are refused"""

    def play(server, sent):
        sent_images, words = images(sent)
        return ok(str(tiny.ask(sent_images, words, None, sent['max_tokens'])))

    method = registry.make_method(name, max_new_tokens=4)
    far, requests = serve(play, max_new_tokens=4)
    if hasattr(method, 'edit'):
        with pytest.raises(CarveError, match='changes how the model itself answers'):
            method(tiny, photo, 'What is it?', by=far)
        return
    session = Session(tiny)
    local, remote = (method(session, photo, 'What is it?', box=(30, 20, 70, 60), by=by) for by in (None, far))
    assert str(remote) == str(local)
    assert remote.method == local.method
    assert remote.crop.box == local.crop.box
    assert len(requests) == 1
    assert remote.plain_answer == local.plain_answer
    assert any(n.startswith('answered by m at 127.0.0.1') for n in remote.notes)
    sent_images, words = images(requests[0][2])
    assert np.array_equal(sent_images[-1], remote.crop.image) and words == f'What is it? {SHORT_ANSWER}'


BUSY = bad(429, 'slow down', Retry_After='0.01')
ENDS = [  # replies, tries, status, part of the reason or the answer
    ((BUSY, ok('red')), 2, 'ok', 'red'),
    ((BUSY,), 2, 'error', 'status 429: slow down'),
    ((bad(404, 'no model m'),), 1, 'error', 'status 404: no model m'),
    ((ok(None, refusal='I will not.'),), 1, 'refused', 'declined'),
    *(
        (((200, raw, {}, 0),), 1, 'malformed', 'no chat completion')
        for raw in (b'{"choices": [', b'', bytes(range(50)))
    ),
    *(((ok(text, end='length'),), 1, 'malformed', 'has no text') for text in (None, ' ', [])),
    (((200, b'short', {'Content-Length': '99', 'Connection': 'close'}, 0),), 2, 'error', 'no connection'),
]


@pytest.mark.parametrize('plays, tries, status, words', ENDS)
def test_what_may_come(serve, plays, tries, status, words):
    "A reply is an answer, or has a status and a reason"
    far, requests = serve(*plays, timeout=2, retries=1)
    try:
        answer = far.ask(Image.new('RGB', (8, 8)), 'What?')
    except RemoteError as e:
        assert e.status == status and words in str(e)
    else:
        assert status == 'ok'
        assert answer.text == words
        assert answer.tokens == []
        assert answer.n_prompt == 3
        assert np.isnan(answer.confidence)
        assert answer.finished
    assert len(requests) == tries


def test_the_newer_name_of_the_limit(serve):
    "A server that refuses `max_tokens`, as OpenAI's for its current models, is asked by the newer name, and stays so"
    newer = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    far, requests = serve(bad(400, newer, 'unsupported_parameter'), ok('red'))
    assert [str(far.ask(Image.new('RGB', (8, 8)), 'What?')) for _ in range(2)] == ['red', 'red']
    names = [{'max_tokens', 'max_completion_tokens'} & set(sent) for *_, sent in requests]
    assert names == [{'max_tokens'}, {'max_completion_tokens'}, {'max_completion_tokens'}]
    assert requests[-1][2]['max_completion_tokens'] == far.max_new_tokens


def test_nothing_else_is_sent(serve, tiny, photo, tmp_path, monkeypatch):
    "Words, pixels, model and limits: no file name, no EXIF, no organization, no key that was not named"
    monkeypatch.setenv('OPENAI_API_KEY', KEY)
    monkeypatch.setenv('OPENAI_ORG_ID', 'org-secret')
    monkeypatch.setenv('OPENAI_PROJECT_ID', 'proj-secret')
    exif = Image.Exif()
    exif[0x010E] = 'my garden'
    photo.save(tmp_path / 'private-name.jpg', exif=exif, comment=b'my garden')
    far, requests = serve(ok())
    DirectAnswer()(tiny, tmp_path / 'private-name.jpg', 'What is it?', by=far)
    path, headers, sent = requests[0]
    assert path == '/v1/chat/completions' and set(sent) == {'model', 'messages', 'max_tokens', 'temperature'}
    [image], _ = images(sent)
    everything = json.dumps(sent) + str(headers) + str(image.info)
    assert not [w for w in ('private-name', 'garden', 'org-secret', 'proj-secret', KEY) if w in everything]
    assert 'authorization' not in headers and not image.getexif()


def test_no_redirect(serve):
    "Images go to no address that was not named"
    other, elsewhere = serve(ok())
    for status in (301, 302, 307, 308):
        far, requests = serve(bad(status, Location=f'{other.base_url}/chat/completions'))
        with pytest.raises(RemoteError, match=f'status {status}'):
            far.ask(Image.new('RGB', (8, 8)), 'What?')
        assert len(requests) == 1 and not elsewhere


def test_time_limit(serve):
    far, _ = serve(lambda server, sent: time.sleep(1) or ok(), timeout=0.3, retries=0)
    with pytest.raises(RemoteError, match='within 0.3 s') as e:
        far.ask(Image.new('RGB', (8, 8)), 'What?')
    assert e.value.status == 'timeout'


def test_no_key_anywhere(serve, monkeypatch, tiny, photo, tmp_path):
    "The key is sent, and stands in no repr, pickle, error, log line or result"
    import pickle
    import traceback

    monkeypatch.setenv('CARVE_TEST_KEY', KEY)
    log, texts = logging.StreamHandler(stream := io.StringIO()), []
    root = logging.getLogger()
    root.addHandler(log)
    names = 'openai', 'httpx', 'httpx2', 'httpcore', 'httpcore2'
    for n in names:
        logging.getLogger(n).setLevel(logging.DEBUG)
    try:
        far, requests = serve(
            ok(),
            bad(400, f'the key {KEY} is bad'),
            bad(401, f'bad {KEY}'),
            (200, f'<{KEY}>'.encode(), {}, 0),
            key_env='CARVE_TEST_KEY',
            retries=0,
        )
        r = DirectAnswer()(tiny, photo, 'What?', by=far)
        for _ in range(3):
            try:
                far.ask(photo, 'What?')
            except RemoteError as e:
                texts += [str(e), repr(e), ''.join(traceback.format_exception(e)), str(pickle.dumps(e))]
    finally:
        root.removeHandler(log)
        for n in names:
            logging.getLogger(n).setLevel(logging.NOTSET)
    assert {h['authorization'] for _, h, _ in requests} == {f'Bearer {KEY}'} and len(requests) == 4
    texts += [
        repr(far),
        str(pickle.dumps(far)),
        repr(vars(far)),
        repr(r),
        str(record_of(far)),
        stream.getvalue(),
    ]
    assert len(stream.getvalue()) > 100 and not [t for t in texts if KEY in t]
    monkeypatch.setenv('CARVE_TEST_KEY', 'another')
    with pytest.raises(RemoteError):
        far.ask(photo, 'What?')
    assert requests[-1][1]['authorization'] == 'Bearer another'


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, 'openai', None)
    with pytest.raises(CarveError, match='pip install openai'):
        Endpoint('http://localhost:1/v1', 'm', None).ask(Image.new('RGB', (8, 8)), 'What?')


@pytest.fixture(scope='module')
def real():
    "transformers serve with the reference model"
    port, model = free_port(), str(CHECKPOINTS / 'carve-tiny')
    words = [
        'transformers',
        'serve',
        model,
        '--port',
        str(port),
        '--host',
        '127.0.0.1',
        '--device',
        'cpu',
        '--dtype',
        'float32',
    ]
    p = Forked(
        afresh, f'import sys; sys.argv = {words}; from transformers.cli.transformers import main; main()'
    )
    try:
        assert until(lambda: served(f'http://127.0.0.1:{port}/health'), p), 'transformers serve ended'
        yield Endpoint(f'http://127.0.0.1:{port}/v1', model, None, timeout=120)
    finally:
        p.terminate()
        p.communicate()


def test_the_real_one(real, load):
    """The reference model behind transformers serve answers as the reference model here, to one image and to
    two"""
    vlm = load('carve-tiny')
    methods = (DirectAnswer(), Carve(), Carve.paper())
    for s in samples('digit', 1):
        session = Session(vlm)
        for m in methods:
            assert str(m(session, s.image, s.question, by=real)) == str(m(session, s.image, s.question)), (
                s.id,
                m.name,
            )
    with pytest.raises(RemoteError) as e:
        wrappers.replace(real, model='no-such-model').ask(samples('digit', 1)[0].image, 'What?')
    assert e.value.status == 'error'


def test_a_run(serve, monkeypatch, tiny, tmp_path):
    "`carve eval --answer-by`: failures there are statuses, a second run asks only for them, no file holds the key"
    from carve_nb.runs.runner import run_eval

    monkeypatch.setenv('CARVE_TEST_KEY', KEY)
    far, requests = serve(
        ok('7'), ok(None, refusal='no'), (200, b'<html>', {}, 0), bad(401, f'bad {KEY}'), ok('7')
    )
    where = dict(
        answer_by=f'{far.base_url}#m',
        answer_key='CARVE_TEST_KEY',
        out=tmp_path / 'R',
        progress=False,
        max_new_tokens=2,
        kinds=('digit',),
    )

    def statuses(**kw):
        return [
            r['status']
            for r in run_eval('scenes', tiny, 'none,vcd', 4, **where | kw).records
            if r['method'] == 'none'
        ]

    assert statuses() == ['ok', 'refused', 'malformed', 'error'] and len(requests) == 4
    assert statuses() == ['ok'] * 4
    assert not [p.name for p in (tmp_path / 'R').iterdir() if KEY.encode() in p.read_bytes()]


def test_an_address_with_a_secret(tmp_path, capsys):
    "Refused before anything is said of it"
    for url in (
        'http://user:S3CRET@host/v1#m',
        'https://host/v1?key=S3CRET#m',
        'https://S3CRET@host/v1#m',
        'https://host/v1?key=S3CRET',
    ):
        assert (
            main(
                [
                    'eval',
                    'scenes',
                    '--n',
                    '2',
                    '--methods',
                    'none',
                    '--answer-by',
                    url,
                    '--out',
                    str(tmp_path / 'R'),
                ]
            )
            == 2
        )
        output = capsys.readouterr()
        assert 'S3CRET' not in output.out + output.err
        assert 'Images leave' not in output.err
        assert 'carve: error:' in output.err
