"How a table is read and how an answer is read: files on disk, through `carve eval`, `load_benchmark` and `score_answer`"
import json, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
import pytest
from PIL import Image
from carve_nb.cli.main import main
from carve_nb.runs.store import read_run

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.fixture
def answerer(monkeypatch):
    "answerer({question: reply}) -> the address of a model that replies so; a reply is a text or a message"
    for k in ('HTTP_PROXY', 'http_proxy', 'ALL_PROXY', 'all_proxy'): monkeypatch.delenv(k, raising=False)
    servers = []

    def start(replies):
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args): pass
            def do_POST(self):
                sent = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
                asked = sent['messages'][0]['content'][-1]['text']
                reply = next(reply for question, reply in replies.items() if asked.startswith(question))
                message = dict(role='assistant') | (reply if isinstance(reply, dict) else dict(content=reply))
                raw = json.dumps(dict(choices=[dict(message=message, finish_reason='stop')])).encode()
                self.send_response(200)
                for k, v in {'Content-Type': 'application/json', 'Content-Length': len(raw)}.items(): self.send_header(k, str(v))
                self.end_headers()
                self.wfile.write(raw)
        servers.append(HTTPServer(('127.0.0.1', 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(.01,), daemon=True).start()
        return f'http://127.0.0.1:{servers[-1].server_port}/v1#m'

    yield start
    for server in servers: server.shutdown(), server.server_close()


def write_set(folder, rows):
    "A folder with one image and rows of questions"
    folder.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (64, 64), 'red').save(folder/'a.png')
    (folder/'questions.jsonl').write_text('\n'.join(json.dumps(dict(image='a.png') | row) for row in rows) + '\n', encoding='utf-8')
    return str(folder)


def evaluate(folder, url, out, *more): # lines by question
    "`carve eval` of a model elsewhere"
    assert main(['eval', folder, '--methods', 'none', '--answer-by', url, '--out', str(out), '--quiet', *more]) == 0
    return {line['question'].split('\n')[0]: line for line in read_run(out)[1]}


def test_unread_answers_are_counted(answerer, tmp_path, capsys):
    "Options, yes and no, and empty answers; where all could be read nothing is said"
    ways = dict(choices=['red', 'blue'], answer='A')
    replies = {
        'Which one?': ('I cannot tell.', ways), 'Which two?': ('Hard to say', ways), 'Which three?': ('A', ways), 'Which four?': ('B', ways),
        'Is it?': ('That depends.', dict(answer='yes')), 'Is it not?': ('No.', dict(answer='yes')), 'What is it?': ('Prose', dict(answer='red'))}
    folder = write_set(tmp_path/'set', [dict(question=k, **row) for k, (_, row) in replies.items()])
    lines = evaluate(folder, answerer({k: said for k, (said, _) in replies.items()}), tmp_path/'R')
    assert [lines[k]['score'] for k in replies] == [0, 0, 1, 0, 0, 0, 0]
    told = [
        '`none`: in 2 of 7 answers no option could be read (29 %), such as "I cannot tell."',
        '`none`: in 1 of 7 answers neither yes nor no could be read (14 %), such as "That depends."']
    for page in (capsys.readouterr().out, (tmp_path/'R'/'table.md').read_text(encoding='utf-8')):
        assert [line for line in page.splitlines() if 'could be read' in line] == told
    for said, rule, page in (('**No**', 'pope', 'neither yes nor no could be read (50 %), such as "**No**"'), ('No', 'pope', ''), ('Yes', 'exact', '')):
        out = tmp_path/f'R-{rule}-{len(said)}'
        folder = write_set(tmp_path/out.name, [dict(question='Is it?', answer='no'), dict(question='Is it so?', answer='yes')])
        evaluate(folder, answerer({'Is it?': said, 'Is it so?': 'Yes, it is' if rule == 'pope' else 'yes'}), out/'R', '--rule', rule)
        found = [line for line in capsys.readouterr().out.splitlines() if 'could be read' in line]
        assert len(found) == bool(page) and page in ''.join(found)
