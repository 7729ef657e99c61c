"The promises of SECURITY.md: no code out of data, no call that nobody ordered, no markup out of a model's mouth, no file elsewhere"
import ast, json, os, socket, sys, tempfile, threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch
import pytest
from carve_nb import VLM, Carve, make_scene, open_image
from carve_nb.core.errors import CarveError
from carve_nb.core.io import tame_markdown
from carve_nb.data.datasets import DataSet
from carve_nb.data.records import Record
from carve_nb.explorer.widgets import html_text
from carve_nb.runs.runner import run_eval
from recipes.tiny_models import make_tiny_checkpoint

CALLS = {'eval', 'exec', 'compile', '__import__', 'os.system', 'os.popen', 'os.startfile', 'torch.load', 'torch.hub.load', 'joblib.load', 'dill.load', 'marshal.loads',
         'pickle.load', 'pickle.loads', 'pickle.Unpickler', 'shelve.open', 'yaml.load', 'yaml.unsafe_load', 'np.fromregex', 'pd.read_pickle'}
MODULES = {'pickle', 'dill', 'cloudpickle', 'joblib', 'marshal', 'shelve', 'requests', 'urllib.request', 'http', 'httpx', 'aiohttp', 'ftplib', 'smtplib',
           'socket', 'ctypes', 'webbrowser', 'huggingface_hub', 'openai', 'datasets', 'subprocess'}
# What of it may be there: the cluster of your own, a model behind an address, a data set of the Hub, each only when you name it
MAY = {'import socket': {'runs/distributed.py'}, 'import pickle': {'runs/distributed.py'}, 'pickle.loads()': {'runs/distributed.py'},
       'import openai': {'models/api_client.py'}, 'import datasets': {'data/records.py'}}


def risks(text):
    "Calls and imports of a piece of Python that can run code, or speak to others"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in CALLS or name.endswith('pickle.loads'): yield f'{name}()'
            yield from (f'{k.arg}={ast.unparse(k.value)}' for k in node.keywords if k.arg in ('shell', 'allow_pickle', 'weights_only'))
        names = [o.name for o in node.names] if isinstance(node, ast.Import) else [node.module or ''] if isinstance(node, ast.ImportFrom) and not node.level else []
        yield from (f'import {n}' for n in names if n in MODULES or n.split('.')[0] in MODULES)


def test_no_code_out_of_data():
    "No call or import of the package runs what a file or a string carries, but for the five that MAY names"
    assert [*risks('import pickle, json\nsubprocess.run(x, shell=True)\ntorch.load(f)\nnp.load(f, allow_pickle=False)')] == [
        'import pickle', 'shell=True', 'torch.load()', 'allow_pickle=False']
    package = Path(__file__).parents[1]/'carve_nb'
    found = {p.relative_to(package).as_posix(): Counter(risks(p.read_text(encoding='utf-8'))) for p in sorted(package.rglob('*.py'))}
    assert {r: {m for m, f in found.items() if r in f} for r in {r for f in found.values() for r in f}} == MAY


def test_no_pickled_weights_and_no_code_of_a_repository(tmp_path):
    pickled, own = make_tiny_checkpoint('llava', tmp_path/'pickled'), make_tiny_checkpoint('llava', tmp_path/'own')
    for p in pickled.glob('*.safetensors'): p.rename(p.with_name('pytorch_model.bin'))
    config = json.loads((own/'config.json').read_text()) | dict(model_type='mine', auto_map={'AutoConfig': 'code.MyConfig'})
    (own/'config.json').write_text(json.dumps(config)), (own/'code.py').write_text('raise SystemExit("the code was run")')
    with pytest.raises(CarveError, match='no safetensors weights'): VLM.from_pretrained(pickled)
    with pytest.raises(CarveError, match='trust_remote_code=True'): VLM.from_pretrained(own)
    with pytest.raises(CarveError): VLM.from_pretrained('carve-tiny', use_safetensors=False)


class Watch:
    "What this thread, and those that it starts, do to the world outside: connections, processes, pickles, files that are written"
    on = None
    def __enter__(self):
        self.seen, self.others = [], {t.ident for t in threading.enumerate()} - {threading.get_ident()}
        Watch.on = self
        return self
    def __exit__(self, *args): Watch.on = None
    def hear(self, event, args):
        if threading.get_ident() in self.others: return
        if event in ('socket.connect', 'socket.getaddrinfo', 'socket.sendto', 'subprocess.Popen', 'os.system', 'os.exec', 'pickle.find_class', 'os.remove', 'os.rename'):
            self.seen.append((event, str(args[-1])))
        if event == 'open' and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT): self.seen.append(('write', os.fsdecode(args[0])))


sys.addaudithook(lambda event, args: Watch.on and Watch.on.hear(event, args))


class Blocked(OSError): pass


def refuse(*args, **kw): raise Blocked('nothing may be asked here')


@pytest.fixture
def no_network():
    "Every way out through Python's sockets is closed"
    with ExitStack() as ways:
        ways.enter_context(patch.multiple(socket.socket, connect=refuse, connect_ex=refuse, sendto=refuse))
        ways.enter_context(patch.multiple(socket, getaddrinfo=refuse, create_connection=refuse))
        yield


def test_the_watch_hears():
    with Watch() as alarm, tempfile.TemporaryFile():
        with socket.socket() as s: s.connect_ex(('127.0.0.1', 9))
    assert alarm.seen[-1][0] == 'socket.connect'


def test_asking_calls_nobody(no_network):
    "Loading a packaged model, reading its attention and answering make no connection, no process and no file"
    with Watch() as quiet: Carve()(VLM.from_pretrained('carve-tiny'), make_scene(16).image, 'What digit is on the blue cross?')
    assert not quiet.seen


def test_a_folder_is_not_looked_up(no_network):
    with Watch() as local:
        for name in './my-model', 'my-model', '~/no/such/folder', 'a/b/c':
            with pytest.raises(CarveError): VLM.from_pretrained(name)
    assert not local.seen


def test_an_address_is_no_image(no_network):
    with Watch() as deaf:
        for address in 'https://example.org/a.png', 'http://127.0.0.1:8000/secret', 'file:///etc/passwd', 's3://bucket/a.png', 'data:image/png;base64,AAAA':
            with pytest.raises(ValueError): open_image(address)
    assert not deaf.seen


def test_text_is_shown_as_text():
    bad = '<script>alert(1)</script><img src=x onerror="alert(2)">'
    for text in html_text(bad), Record('x', make_scene(16).image, bad, [bad])._repr_html_():
        assert '<script' not in text and '<img' not in text and '&lt;script&gt;' in text
    assert '<' not in tame_markdown(bad)


def test_a_run_writes_into_its_folder(tmp_path):
    "Whatever ids, names and paths stand in the data set"
    ids = '../../escaped', '/absolute', 'a/b:c', 'CON', '..\\up', '\u202egnp.exe'
    hostile = DataSet('../set', [Record(i, make_scene(16).image, 'What digit is on the blue cross?', ['6']) for i in ids])
    vlm, out = VLM.from_pretrained('carve-tiny'), tmp_path/'out'
    with Watch() as pen: run_eval(hostile, vlm, methods=('none',), out=out, progress=False)
    assert all(p.is_relative_to(out) for p in tmp_path.rglob('*') if p.is_file())
    written = {p for e, p in pen.seen if e == 'write' and not Path(p).resolve().is_relative_to(out.resolve())}
    assert written <= {os.devnull}
