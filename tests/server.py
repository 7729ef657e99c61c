"A model behind an address: a server on the loopback interface, which notes each request and plays replies."

import base64
import io
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import pytest
from PIL import Image


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *args):
        pass

    def do_POST(self):
        sent = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        with self.server.turn:
            self.server.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, sent))
            play = self.server.plays.pop(0) if len(self.server.plays) > 1 else self.server.plays[0]
        status, raw, headers, drops = play(self.server, sent) if callable(play) else play
        try:
            self.send_response(status)
            for k, v in (
                {'Content-Type': 'application/json', 'Content-Length': str(len(raw))} | headers
            ).items():
                self.send_header(k, v)
            self.end_headers()
            step = 4 if drops else max(1, len(raw))
            for i in range(0, len(raw), step):
                self.wfile.write(raw[i : i + step])
                self.wfile.flush()
                time.sleep(drops)
        except OSError:
            pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args):
        pass


@pytest.fixture
def serve():
    "serve(*plays) -> (endpoint, requests)"
    from carve_nb.models.api_client import Endpoint

    running = []

    def start(*plays, **kw):
        server = Server(('127.0.0.1', 0), Handler)
        server.plays, server.seen, server.turn = list(plays), [], threading.Lock()
        running.append((server, threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)))
        running[-1][1].start()
        url = f'http://127.0.0.1:{server.server_port}/v1'
        return (
            Endpoint(**dict(dict(base_url=url, model='m', key_env=None, timeout=60, retries=2), **kw)),
            server.seen,
        )

    yield start
    for server, thread in running:
        server.shutdown(), server.server_close(), thread.join()


def chat(content='red', end='stop', **kw):
    return json.dumps(
        dict(
            choices=[dict(message=dict(role='assistant', content=content, **kw), finish_reason=end)],
            usage=dict(prompt_tokens=3),
        )
    ).encode()


def ok(content='red', drops=0, **kw):
    return 200, chat(content, **kw), {}, drops


def bad(status, message='', code=None, **headers):
    return (
        status,
        json.dumps(dict(error=dict(message=message, code=code))).encode(),
        {k.replace('_', '-'): v for k, v in headers.items()},
        0,
    )


def images(sent):
    "The images in a request, and its words"
    *parts, words = sent['messages'][0]['content']
    return (
        [Image.open(io.BytesIO(base64.b64decode(p['image_url']['url'].split(',')[1]))) for p in parts],
        words['text'],
    )
