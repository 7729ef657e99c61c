"""`carve serve` as a client sees it: OpenAI's library, our own `Endpoint`, raw bytes, a client that is killed."""

import base64
import http.client
import io
import json
import socket
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import urlopen
import openai
import pytest
import uvicorn
from PIL import Image
from processes import Forked, carve, until
from server import bad
from carve_nb.core.errors import RemoteError
from carve_nb.core.image import png_bytes
from carve_nb.data.scenes import samples
from carve_nb.method.registry import make_method
from carve_nb.models.api_client import Endpoint, data_url
from carve_nb.runs.pages import load_run
from carve_nb.runs.serve import Limits, MethodServer, Stopped, make_app, serve_app

SCENES = samples('digit', 4)
KEY = 'not-a-real-key-93'


def parts(scene):
    return [
        dict(type='image_url', image_url=dict(url=data_url(scene.image))),
        dict(type='text', text=scene.question),
    ]


def ask(address, scene=SCENES[0], model='none', key='none', messages=None, **kw):
    with openai.OpenAI(base_url=address, api_key=key, max_retries=0) as client:
        chat = messages or [dict(role='user', content=parts(scene))]
        return client.chat.completions.create(model=model, messages=chat, **dict(max_tokens=4) | kw)


def send(address, body=None, path='chat/completions', **headers):
    "Send raw bytes, or ask for a path without any"
    place = urlsplit(address)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=600)
    connection.request(
        'GET' if body is None else 'POST', f'/v1/{path}', body, {'Content-Type': 'application/json'} | headers
    )
    return connection


def status(*request, **headers):
    return send(*request, **headers).getresponse().status


@contextmanager
def serving(server, *settings):
    config = uvicorn.Config(make_app(server, *settings), port=0, log_level='critical')
    bound, running = config.bind_socket(), uvicorn.Server(config)
    thread = threading.Thread(target=running.run, args=([bound],))
    thread.start()
    assert until(lambda: running.started)
    try:
        yield f'http://127.0.0.1:{bound.getsockname()[1]}/v1'
    finally:
        running.should_exit = True
        thread.join()


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    return tmp_path_factory.mktemp('served')


@pytest.fixture(scope='module')
def address(place):
    "The command itself, in a folder of its own, with a log"
    p = Forked(carve, 'serve', '--model', 'carve-tiny', '--port', 0, '--log', 'log', cwd=str(place))
    try:
        assert until(lambda: '/v1' in p.files[0].read_text(), p), p.communicate()
        yield p.files[0].read_text().split()[-1]
    finally:
        p.terminate()
        p.communicate()


def logged(place):
    "Lines of the log; none before the first answer"
    path = place / 'log' / 'records.jsonl'
    return path.read_text().splitlines() if path.exists() else []


def test_answers_as_python(address, place, load, shell):
    """Each method answers as in Python, to a question and to a chat; the log has its box and the baseline's
    answer, which `carve report` reads; of the images nothing is kept"""
    vlm, before = load('carve-tiny'), logged(place)
    for spec in 'none', 'carve:p=.1:K=2', "lookup:suffix='Use one word, please.'":
        method = make_method(spec, max_new_tokens=4)
        if 'suffix' not in spec:
            method.suffix = None
        for scene in SCENES[:2]:
            reply, here = ask(address, scene, spec), method(vlm, scene.image, scene.question)
            assert (reply.choices[0].message.content, reply.carve['box']) == (
                str(here),
                list(map(int, here.crop.box)),
            )
            assert reply.carve['plain_answer'] == str(here.plain_answer)
            assert reply.carve['calls'] == here.calls
            assert (reply.usage.prompt_tokens, reply.model) == (here.answer.n_prompt, spec)
    chat = [dict(role='system', content='Be brief.'), dict(role='user', content=parts(SCENES[2]))]
    texts = (
        [dict(type='text', text='Be brief.')],
        [dict(type='image'), dict(type='text', text=SCENES[2].question)],
    )
    ours = [dict(role=role, content=text) for role, text in zip(('system', 'user'), texts)]
    here = make_method('lookup', suffix=None, max_new_tokens=4)(vlm, [SCENES[2].image], messages=ours)
    assert ask(address, model='lookup', messages=chat).choices[0].message.content == str(here)
    assert len(logged(place)) == len(before) + 7 == len({r['id'] for r in load_run(place / 'log').records})
    out = shell('report', place / 'log')[1]
    assert 'lookup' in out and 'not scored' in out
    assert 'base64' not in (place / 'log' / 'records.jsonl').read_text()


FAR = [
    dict(type='image_url', image_url=dict(url='https://example.org/a.png')),
    dict(type='text', text='What?'),
]
REFUSED = [
    (dict(model='oracle'), 'needs the true region'),
    (dict(model='sam:model=/etc'), 'no request may open a file'),
    (dict(model=''), 'GET /v1/models'),
    (dict(messages=[dict(role='user', content=FAR)]), 'nothing is fetched'),
    (
        dict(
            messages=[
                dict(
                    role='user',
                    content=[dict(FAR[0], image_url=dict(url='data:image/png;base64,AAAA')), FAR[1]],
                )
            ]
        ),
        'cannot be used',
    ),
    (dict(messages=[dict(role='user', content=[dict(type='input_audio')])]), 'Messages are a list of dict'),
    (dict(messages=[dict(role='user', content='A?'), dict(role='assistant', content='4')]), 'The last turn'),
    (dict(extra_body=dict(max_tokens='9')), "max_tokens='9'"),
    (dict(extra_body=dict(beams=3)), 'beams=3'),
]


@pytest.mark.parametrize('change, words', REFUSED)
def test_refused(address, change, words):
    "One sentence in OpenAI's form, which its client shows"
    with pytest.raises(openai.BadRequestError) as e:
        ask(address, **change)
    assert words in e.value.body['message'] and '\n' not in e.value.body['message'], e.value.body
    assert e.value.body['type'] == 'invalid_request_error'


def packed_profile(megabytes):
    "A PNG of one pixel with a packed color profile"
    file = io.BytesIO()
    Image.new('RGB', (1, 1)).save(file, 'PNG', icc_profile=bytes(megabytes * 2**20))
    return file.getvalue()


def huge_head(side):
    "A PNG whose head promises a square of this side"
    raw = png_bytes(Image.new('RGB', (1, 1)))
    head = b'IHDR' + side.to_bytes(4, 'big') * 2 + raw[24:29]
    return raw[:12] + head + zlib.crc32(head).to_bytes(4, 'big') + raw[33:]


@pytest.mark.parametrize('make, size', [(packed_profile, 60), (huge_head, 30_000)])
def test_an_image_that_unpacks_into_too_much(address, make, size):
    "A packed profile and a huge head are a 400 in one sentence"
    url = f'data:image/png;base64,{base64.b64encode(make(size)).decode()}'
    image = dict(type='image_url', image_url=dict(url=url))
    with pytest.raises(openai.BadRequestError, match='An image cannot be used'):
        ask(address, messages=[dict(role='user', content=[image, parts(SCENES[0])[1]])])


def test_bytes_that_are_no_request(address):
    for body in b'', b'{', b'[1]', b'\xff', b'[' * 100_000, b'{"messages": 1e999}':
        assert status(address, body) == 400, body[:20]
    assert status(address, b'{}', **{'Content-Type': 'text/plain'}) == 415  # as a page of the web sends it
    assert status(address, b'{}', **{'Content-Type': 'application/json-seq'}) == 415
    assert (
        status(address, b'{}', **{'Sec-Fetch-Site': 'cross-site'})
        == status(address, b'{}', Host='evil.example')
        == 403
    )
    for path, number in (
        ('nothing', 404),
        ('../openapi.json', 404),
        ('models/lookup', 200),
        ('models/lookupp', 400),
    ):
        assert status(address, None, path) == number, path


def test_health_and_a_request_without_messages(address):
    with urlopen(f'{address.removesuffix("/v1")}/health') as reply:
        assert json.load(reply).items() >= dict(status='ok', model='carve-tiny', here=0).items()
    refused = json.load(send(address, b'{"model": "none"}').getresponse())
    assert 'The request has no messages; send {"model"' in refused['error']['message']


def body(*content, **more):
    return json.dumps(
        dict(model='none', max_tokens=2, messages=[dict(role='user', content=[*content])]) | more
    ).encode()


def square(side):
    return dict(
        type='image_url',
        image_url=dict(
            url=f'data:image/png;base64,{base64.b64encode(png_bytes(Image.new("RGB", (side, side)))).decode()}'
        ),
    )


WORDS = dict(type='text', text='What?')
HEAVY = dict(
    pixels=lambda: body(*[square(9000)] * 8, WORDS),
    images=lambda: body(*[square(9)] * 17, WORDS),
    together=lambda: body(*[square(2800)] * 5, WORDS),
    letters=lambda: body(square(9), dict(WORDS, text=' ' * 5_000_000)),
    turns=lambda: body(messages=[dict(role='user', content='x')] * 2001),
    lists=lambda: b'{"messages": [' + b'[],' * 10_000_000 + b'[]]}',
)


@pytest.mark.parametrize('name', HEAVY)
def test_work_is_bounded(address, name):
    "A request that would take gigabytes or minutes is refused at the door, soon"
    request, begun = HEAVY[name](), time.monotonic()
    assert status(address, request) in (400, 413) and time.monotonic() - begun < 15


def test_a_stranger_takes_no_place(server):
    "80 connections without the key, each with half a body: the holder of the key is answered, and a stranger at once"
    with serving(server, KEY, Limits(waiting=1)) as address:
        place, open_ones = urlsplit(address), []
        for _ in range(80):
            s = socket.create_connection((place.hostname, place.port))
            s.sendall(
                b'POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n{'
            )
            open_ones.append(s)
        assert ask(address, key=KEY).choices and b' 401 ' in open_ones[0].recv(99)
        for s in open_ones:
            s.close()


def test_fields_without_effect(address):
    "What would change no answer is taken; one that streams gets its answer in one piece"
    neutral = dict(
        temperature=0,
        top_p=1,
        n=1,
        presence_penalty=0,
        frequency_penalty=0,
        logit_bias={},
        tools=[],
        seed=3,
        user='me',
        extra_body=dict(top_k=-1, repetition_penalty=1.0, min_p=0, best_of=1, ignore_eos=False),
    )
    plain = ask(address).choices[0].message.content
    assert ask(address, **neutral).choices[0].message.content == plain
    with openai.OpenAI(
        base_url=address, api_key='none', max_retries=0
    ) as client:  # closing it ends the stream
        chat = [dict(role='user', content=parts(SCENES[0]))]
        [last] = client.chat.completions.create(model='none', messages=chat, max_tokens=4, stream=True)
    assert (last.choices[0].delta.content, last.choices[0].finish_reason) == (plain, 'stop')
    assert last.usage.prompt_tokens


def test_a_text_before_the_image(address, load):
    "The same crop and answer as with the image first; that, a detail, and what was noted of the file, are notes of the reply"
    file = io.BytesIO()
    SCENES[0].image.save(file, 'GIF', save_all=True, append_images=[SCENES[1].image])
    url = f'data:image/gif;base64,{base64.b64encode(file.getvalue()).decode()}'
    image, words = dict(type='image_url', image_url=dict(url=url, detail='high')), parts(SCENES[0])[1]
    usual, turned = (
        ask(address, model='lookup', messages=[dict(role='user', content=turn)])
        for turn in ([image, words], [words, image])
    )
    assert (turned.choices[0].message.content, turned.carve['box']) == (
        usual.choices[0].message.content,
        usual.carve['box'],
    )
    notes = ' '.join(turned.carve['notes'])
    assert all(words in notes for words in ('send images first', 'has 2 frames', 'detail is not read'))


def test_a_log_that_cannot_be_written(load, tmp_path):
    "It costs no answer: the reply says so"
    server = MethodServer(load('llava'), tmp_path / 'log')
    lost = 'this answer is not in the log, which cannot be written'
    with serving(server) as address:
        assert lost not in ask(address).carve['notes']
        (tmp_path / 'log' / 'records.jsonl').unlink()
        assert lost in ask(address).carve['notes']


def test_a_log_goes_on_behind_a_gap(load, tmp_path):
    "An answer that a full disk kept out leaves its number free: no later one takes the place of another"
    server, path = MethodServer(load('llava'), tmp_path), tmp_path / 'records.jsonl'
    with serving(server) as address:
        ask(address, SCENES[0])
        kept = path.read_bytes()
        path.unlink()
        ask(address, SCENES[1])
        path.write_bytes(kept)
        ask(address, SCENES[2])
    server.log.store.close()
    with serving(MethodServer(load('llava'), tmp_path)) as address:
        ask(address, SCENES[3])
    asked = [SCENES[i].question for i in (0, 2, 3)]
    assert [line['question'] for line in load_run(tmp_path).records] == asked


@pytest.fixture(scope='module')
def server(load):
    return MethodServer(load('llava'))


def test_load(load, monkeypatch):
    "16 requests at once are all answered, one after another, and each is told how many were before it"
    server, full = MethodServer(load('carve-tiny')), threading.Event()
    read, answer, arrived, inside, most = server.read, server.answer, [], [], []

    def count_arrivals(body):
        arrived.append(body)
        if len(arrived) == 16:
            full.set()
        return read(body)

    def answer_when_full(request, deadline):
        assert full.wait(60)
        inside.append(request)
        most.append(len(inside))
        try:
            return answer(request, deadline)
        finally:
            inside.remove(request)

    with serving(server) as address, ThreadPoolExecutor(16) as pool:
        alone = [ask(address, scene).choices[0].message.content for scene in SCENES]
        monkeypatch.setattr(server, 'read', count_arrivals)
        monkeypatch.setattr(server, 'answer', answer_when_full)
        replies = [*pool.map(lambda i: ask(address, SCENES[i % 4]), range(16))]
    assert [reply.choices[0].message.content for reply in replies] == alone * 4
    assert sorted(reply.carve['ahead'] for reply in replies) == [*range(16)] and {*most} == {1}


def test_limits(server, monkeypatch):
    "413, 504 and 429 each with a sentence; after them the next request is answered"
    with serving(server, '', Limits(megabytes=0.5)) as address:
        assert status(address, b'x' * 2**25) == 413
        assert ask(address).choices[0].message.content is not None
    answer, refused, enough = server.answer, [], threading.Event()

    def hold(ready):  # a fast machine answers before the time is over, or before the queue is full
        def answer_later(request, deadline):
            until(lambda: ready(deadline), seconds=30)
            return answer(request, deadline)

        monkeypatch.setattr(server, 'answer', answer_later)

    hold(lambda deadline: deadline.left < 0)
    with serving(server, '', Limits(seconds=0.5)) as address:
        with pytest.raises(RemoteError) as e:
            Endpoint(address, 'none', None, retries=0, max_new_tokens=4).ask(SCENES[0].image, 'What?')
        assert e.value.status == 'timeout'
    hold(lambda deadline: enough.is_set())
    with serving(server, '', Limits(waiting=1)) as address, ThreadPoolExecutor(8) as pool:

        def wait_in_line(_):
            try:
                return ask(address) and 'answered'
            except openai.RateLimitError as e:
                refused.append(e.body['message'])
            if len(refused) == 6:
                enough.set()

        assert [*pool.map(wait_in_line, range(8))].count('answered') == 2
        assert len(refused) == 6 and all('wait already' in why for why in refused)


def test_a_killed_client(server, monkeypatch):
    "Its question is given up at the next pass of the model, and the next one is answered"
    ended, begun, answer = [], threading.Event(), server.answer

    def watched(request, deadline):
        begun.set()
        until(lambda: deadline.left < 0, seconds=30)  # a fast machine answers before the client is gone
        try:
            return answer(request, deadline)
        except Stopped as e:
            ended.append(e)

    monkeypatch.setattr(server, 'answer', watched)
    with serving(server) as address:
        client = send(address, body(*parts(SCENES[0])))
        assert begun.wait(600)
        client.close()
        assert until(lambda: ended)
        monkeypatch.setattr(server, 'answer', answer)
        assert ask(address).choices[0].message.content is not None


def test_those_who_wait_take_no_thread(server, monkeypatch):
    "With forty in line a request without sense is refused at once; those that hang up leave their places, unasked"
    enough, asked, answer = threading.Event(), [], server.answer

    def hold(request, deadline):
        asked.append(request)
        enough.wait(60)
        return answer(request, deadline)

    monkeypatch.setattr(server, 'answer', hold)
    with serving(server, '', Limits(waiting=40)) as address:
        clients = [send(address, body(*parts(SCENES[0]))) for _ in range(41)]
        assert until(lambda: status(address, b'{') == 429, seconds=60)
        clients.pop().close()
        assert until(lambda: status(address, b'{') == 400, seconds=30)
        for client in clients:
            client.close()
        enough.set()
        assert ask(address).carve['ahead'] <= 1
    assert len(asked) == 2


def test_a_late_answer_keeps_the_turn(server, monkeypatch):
    "One that does not end at its deadline is refused in time; the model is asked no second question meanwhile"
    inside, most, answer = [], [], server.answer

    def slow(request, deadline):
        inside.append(request)
        most.append(len(inside))
        until(lambda: deadline.left < -1, seconds=30)
        inside.remove(request)
        return answer(request, deadline)

    monkeypatch.setattr(server, 'answer', slow)
    with serving(server, '', Limits(seconds=0.5)) as address, ThreadPoolExecutor(4) as pool:
        request = body(*parts(SCENES[0]))
        assert [*pool.map(lambda _: status(address, request), range(4))] == [504] * 4
    assert {*most} == {1}


def test_key(server, shell, monkeypatch):
    "Another address than this machine's has a key, which is compared, and shown nowhere"
    with serving(server, KEY) as address:
        for key in 'none', KEY[:-1], KEY + 'x':
            with pytest.raises(openai.AuthenticationError) as e:
                ask(address, key=key)
            assert KEY not in str(e.value)
        assert ask(address, key=KEY).choices
        with (
            openai.OpenAI(base_url=address, api_key='none', max_retries=0) as client,
            pytest.raises(openai.AuthenticationError),
        ):
            client.models.list()
    assert 'needs --key' in shell('serve --help')[1]
    monkeypatch.setenv('MY_KEY', '')
    for words in 'serve --host 0.0.0.0', 'serve --host 0.0.0.0 --key MY_KEY', 'serve --key MY_KEY':
        code, _, err = shell(words)
        assert code == 2
        assert err.count('\n') == 1
        assert '--key' in err


def test_another_model_answers(address, load):
    "The model here finds the crop, the one at an address answers about it; a chat is refused, and so is a method without a crop"
    with serving(MethodServer(load('carve-small'), answer_by=f'{address}#none')) as here:
        far, method = (
            Endpoint(address, 'none', None, max_new_tokens=256),
            make_method('lookup', suffix=None, max_new_tokens=4),
        )
        ours = method(load('carve-small'), SCENES[0].image, SCENES[0].question, by=far)
        assert ask(here, model='lookup').choices[0].message.content == str(ours)
        chat = [dict(role='system', content='Be brief.'), dict(role='user', content=parts(SCENES[0]))]
        for change in dict(model='lookup', messages=chat), dict(model='vcd'):
            with pytest.raises(openai.BadRequestError):
                ask(here, **change)


@pytest.mark.parametrize('where, number', [('nobody', 502), ('slow', 504)])
def test_another_model_fails(load, serve, where, number):
    "A failure of the model behind is no fault of this server: 502, or 504 where it is late, and its sentence"
    endpoint, _ = serve(bad(504) if where == 'slow' else bad(401, 'No such key.'))
    answerer = f'{endpoint.base_url}#m'
    with (
        serving(MethodServer(load('carve-tiny'), answer_by=answerer)) as here,
        pytest.raises(openai.InternalServerError, match='no reply within|No such key') as e,
    ):
        ask(here, model='center')
    assert e.value.status_code == number


def test_an_address_can_be_opened_as_it_is_told(monkeypatch):
    "An address of IPv6 stands in brackets"
    told = []
    monkeypatch.setattr(uvicorn.Server, 'run', lambda self, sockets: [s.close() for s in sockets])
    serve_app(None, '::1', 0, told.append)
    assert urlsplit(told[0]).hostname == '::1' and urlsplit(told[0]).port


def test_a_taken_port(address, shell):
    port = urlsplit(address).port
    code, _, err = shell(f'serve --model carve-tiny --port {port}')
    assert code == 2 and f'{port} cannot be opened' in err


def test_stop_words_and_length(address):
    reply = ask(address, model='none', stop=['no such text'], max_tokens=1)
    assert reply.choices[0].finish_reason == 'length'
    whole = ask(address, max_tokens=8).choices[0]
    cut = ask(address, max_tokens=8, stop=whole.message.content[:1]).choices[0]
    assert cut.message.content == ''
    assert cut.finish_reason == 'stop'
    assert whole.finish_reason == 'stop'
