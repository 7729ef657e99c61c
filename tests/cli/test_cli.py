"The command `carve`, as a shell sees it."
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import numpy as np
import pytest
from PIL import Image
from processes import ROOT, run, until
from carve_nb.attention.vlm import VLM
from carve_nb.cli.main import main
from carve_nb.core.io import one_line, tame_terminal
from carve_nb.data.scenes import make_scene
from carve_nb.method.lookup import Lookup
from carve_nb.method.registry import methods
from carve_nb.method.settings import field_table

@pytest.fixture
def photo(tmp_path):
    from skimage import data
    Image.fromarray(data.astronaut()[:300]).save(tmp_path/'photo.jpg')  # 512 x 300
    return tmp_path/'photo.jpg'


@pytest.fixture
def models(folders, tmp_path):
    "The folders `llava` and `qwen2_5_vl` in the folder of the test"
    for family in 'llava', 'qwen2_5_vl': (tmp_path/family).symlink_to(folders(family))


@pytest.fixture
def unloaded(monkeypatch):
    "A model that is loaded fails the test"
    monkeypatch.setattr('carve_nb.attention.vlm.VLM.from_pretrained', lambda *args, **kw: pytest.fail('a model was loaded'))


LIGHT = '''
import json, os, sys
import carve_nb.data.datasets, carve_nb.runs.report     # of those that commands import, the slow ones, without torch
from contextlib import redirect_stdout
from carve_nb.cli.main import main
with open(os.devnull, 'w') as nowhere, redirect_stdout(nowhere): main(['methods'])
for line in sys.stdin:
    words, out, err, env = json.loads(line)
    if not (child := os.fork()):
        for fd, path in ((1, out), (2, err)): os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), fd)
        os.environ.update(env)
        sys.argv = ['carve', *words]
        status = main(words)
        sys.stdout.flush()
        os._exit(99 if 'torch' in sys.modules else status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
'''


@pytest.fixture(scope='module')
def light(tmp_path_factory):
    "`light(words)`: status and output of `carve WORDS`, forked from a process that has imported what needs no torch; 99 if it imports torch"
    place = tmp_path_factory.mktemp('light')
    with subprocess.Popen([sys.executable, '-c', LIGHT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        def ask(words, **env):
            out, err = place/'out', place/'err'
            print(json.dumps([shlex.split(words), str(out), str(err), env]), file=server.stdin, flush=True)
            status, said = int(server.stdout.readline()), (out.read_text(), err.read_text())
            out.unlink(), err.unlink()
            return status, *said
        yield ask


def test_help_is_light():
    "Help loads nothing heavy, and little: 384 modules take about 0.2 s of a free core, and a count is the same on a busy one"
    code = 'import sys; from carve_nb.cli.main import main; main(["--help"]); print(sorted({"torch", "numpy", "PIL"} & set(sys.modules)), len(sys.modules))'
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    heavy, count = out.stdout.splitlines()[-1].rsplit(' ', 1)
    assert out.returncode == 0 and 'Usage: carve' in out.stdout and heavy == '[]'
    assert int(count) < 450, count


ASK = 'ask nbs/images/size.png What?'


@pytest.mark.parametrize('words, said', [
    (f'{ASK} --model nothing', 'neither a folder nor a Hub id'), (f'{ASK} --method rel-at', 'perhaps rel-att'),
    ('eval textvqaa', 'perhaps textvqa'), (f'{ASK} --device gpu', 'cuda:1'),
    (f'{ASK} --dtype float8', "'float8' is not one of 'auto', 'bf16'"), ('aks', "Did you mean 'ask'"),
    (f'{ASK} --methd none', '--method'), ('ask nbs/images/size.png Who is it?', 'in quotation marks'),
    (f'{ASK} --map S.xyz', '.npy or .png'), ('checkup --model nothing', 'neither a folder nor a Hub id'),
    ('checkup --n 0', "Invalid value for '--n': "), ('checkup --images nowhere', "'nowhere' does not exist"),
    (f'{ASK} --min-side .3', 'a field of a method is given as --set min_side=VALUE'), ('demo --n 3', 'No such option'),
    ('eval nosuchfolder', 'it is no file or folder either'), ('ask tests What?', 'tests cannot be opened'),
    (f'{ASK} --method LOOKUP --map S.xyz', '.npy or .png'),
    (f'{ASK} --method none --box 40 40 10 10', 'other methods take no --box'),
    ('ask nbs/images/size.png nbs/images/size.png What? --box 10 10 40 40', 'other methods take no --box'),
    ('eval scenes --answer-key MY_KEY', '--answer-key goes with --answer-by'),
    ('report tests --out page', '--out goes with several runs'),
    ('report nosuch', "'nosuch' does not exist"), ('report tests', 'holds no run')])
def test_refused_before_torch(words, said, light):
    "What is wrong with the words alone is said in one line before torch is imported, with what may have been meant"
    status, out, err = light(words)
    assert (status, out) == (2, '') and err.count('\n') == 1 and said in err, err


@pytest.mark.parametrize('words', ['eval scenes --n 2', 'checkup --n 2', 'ask --out seen'])
def test_a_model_that_is_not_there_leaves_no_folder(words, shell, tmp_path):
    status, _, err = shell(f'{words} --model nosuch/model')
    assert status and 'nosuch/model' in err and not [*tmp_path.iterdir()]


def test_the_crop_of_an_earlier_run_is_no_output(photo, shell):
    "Who asks about a saved crop does not lose it, with --force either"
    photo.rename('crop.png')
    assert 'is the image itself, which would be lost' in shell('ask crop.png What? --out . --force')[2]
    assert os.path.getsize('crop.png') > 1000


@pytest.mark.parametrize('columns', [60, 100, 200])
def test_help_fits(columns, light):
    "No line is wider than the terminal, and NO_COLOR is kept"
    for words in '--help', 'eval --help', 'methods', 'families':
        out = light(words, COLUMNS=str(columns), NO_COLOR='1')[1]
        assert '\x1b' not in out and max(map(len, out.splitlines())) <= columns, words
        assert words.endswith('--help') or '…' not in out, words


def test_shell_completion(light):
    "A shell is offered commands, options and names"
    for typed, offered in (('ev', 'eval'), ('check', 'checkup'), ('checkup --im', '--images'),
            ('eval scenes --ma', '--maps'), ('ask a.jpg What --method rel', 'rel-att')):
        count = str(len(typed.split()))
        out = light('', _CARVE_COMPLETE='complete_bash', COMP_WORDS=f'carve {typed}', COMP_CWORD=count)[1]
        assert offered in out.split(), (typed, out)


def test_version_and_help(shell):
    "With an option or a word; nothing at all is a wish for help"
    from carve_nb import __version__
    assert shell('--version') == shell('version') == (0, f'carve {__version__}\n', '')
    assert shell('') == shell('--help') == shell('help')
    assert shell('help ask') == shell('ask --help') != shell('help')


def test_lists_are_light(tmp_path, light, shell):
    "Tables of what is known, and refusals of data, come without torch"
    from carve_nb.core.io import stored_table
    from carve_nb.models.families import FAMILIES
    (tmp_path/'rows.csv').write_text('picture,ask\na.jpg,What?\n')
    for words, status in (('methods', 0), ('methods --json', 0), ('families', 0), ('families --json', 0),
            (f'eval {tmp_path}', 2), (f'eval {tmp_path}/rows.csv', 2), ('eval scenes --rule no', 2)):
        found, out, err = light(words)
        assert found == status and err.count('\n') == bool(status), (words, out, err)
    shown = json.loads(shell('families --json')[1])
    assert [*shown[0]] == stored_table('families')[0] and [row['family'] for row in shown] == [*FAMILIES]


@pytest.mark.skipif(os.name == 'nt', reason='`make pytest` on Linux or macOS runs it')
def test_ask_on_a_terminal(models, photo, tmp_path):
    "A person is told both answers, where was looked and what was written; a pipe, and who asks for it, gets the answer alone"
    def seen(*words):
        ours, theirs = os.openpty()
        out = run('ask', 'photo.jpg', 'Who is this?', '--model', 'llava', *words, out=os.ttyname(theirs), cwd=tmp_path)
        os.close(theirs)
        assert out.returncode == 0, out.stderr
        with open(ours, 'rb', buffering=0) as f: return f.read(10_000).decode().replace('\r', '')
    question, alone, again, box, *rest, written = seen('--out', 'o').splitlines()
    told = json.loads((tmp_path/'o'/'answer.json').read_text())
    assert question == 'Who is this?' and alone.startswith(f'baseline: "{one_line(told["plain_answer"]["text"])}" (confidence 0.')
    assert again.startswith(f'lookup: "{one_line(told["answer"])}" (confidence 0.')
    assert f'crop ({", ".join(map(str, told["crop"]["box"]))})' in box
    assert written == 'written: o/result.png, o/crop.png, o/answer.json'
    assert seen('--quiet') == tame_terminal(told['answer'], '\n\t') + '\n'


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='`make pytest` on Linux runs it')
@pytest.mark.parametrize('words, said', [
    ('ask photo.jpg Who? --out o', 'no answer, and nothing was written'),
    ('checkup', 'the same command goes on; an unfinished profile begins anew')])
def test_stopped_while_it_asks(words, said, photo, tmp_path):
    "Ctrl-C: status 130, and what is there; a checkup in its first stage says too how to go on"
    command = [sys.executable, '-m', 'carve_nb', *words.split()]
    def listen(): signal.signal(signal.SIGINT, signal.SIG_DFL)   # a shell's background jobs are deaf to Ctrl-C
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listen, cwd=tmp_path) as p:
        assert until(lambda: 'libtorch' in open(f'/proc/{p.pid}/maps').read(), p)
        p.send_signal(signal.SIGINT)
        out, err = p.communicate()
    assert (p.returncode, out, err) == (130, '', f'carve: note: stopped: {said}.\n')


def test_several_images(shell):
    "Which image, the region in it, and both answers; the baseline is shown all of them"
    from carve_nb.core.text import SHORT_ANSWER
    question, names = 'What digit is on the blue cross?', ['3.png', '0.png']
    for seed, name in zip((3, 0), names): make_scene(seed).image.save(name)
    vlm, words = VLM.from_pretrained('carve-small'), f'3.png 0.png "{question}"'
    want = Lookup()(vlm, names, question)
    status, out, err = shell(f'ask {words} --json r.json')
    told = json.load(open('r.json'))
    assert (status, out) == (0, f'{want}\n')
    assert (told['image'], told['images'], told['crop']['box']) == (1, 2, list(want.crop.box))
    for part in 'note: about 0.png\n', f'baseline: "{want.plain_answer}"', f'crop {want.crop.box}', 'image 2 of 2: ':
        assert part in err
    status, out, err = shell(f'ask {words} --method none')
    assert (status, out) == (0, f'{vlm.ask(names, question, SHORT_ANSWER)}\n')
    assert 'with all images' in err and 'about' not in err
    assert 'carve: note: about 0.png' in shell(f'ask {words} --map S.npy')[2]
    assert np.array_equal(np.load('S.npy'), want.saliency.to_pixels())
    for bad, said in (
            (f'ask {words} --method oracle --box 1 1 9 9', 'takes one image'),
            ('ask 3.png 0.png', 'and then the question in quotation marks'),
            ('ask 3.png', 'and then the question in quotation marks'),
            (f'ask "{question}"', 'give an image, or several, and then the question')):
        status, _, err = shell(bad)
        assert status == 2 and said in err, bad


def test_a_pipe_gets_the_answer_and_what_it_means(shell):
    "The bare answer goes to the standard output; what changes its meaning, words that the model does not know, to the standard error and the JSON"
    question, note = 'What is the zebra doing?', "This model does not know the words 'zebra', 'doing'."
    make_scene(145).image.save('s.png')
    status, out, err = shell(f'ask s.png "{question}" --json r.json')
    told = json.load(open('r.json'))
    assert (status, out) == (0, told['answer'] + '\n') and f'\nbaseline: "{told["plain_answer"]["text"]}" (confidence 0.' in err and err.startswith('carve: note: carve-small is a small model that we trained on synthetic scenes')
    assert note in told['notes'] and err.count(note) == err.count(f'carve: note: {note}\n') == 1
    assert err.index(note) < err.index('\nbaseline: ')     # it is read before the answer
    assert shell(f'ask s.png "{question}" --quiet') == (0, out, '')


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='`make pytest` on Linux runs it')
def test_results_are_not_lost(models, photo, shell, tmp_path):
    "A file that cannot be made is bad input, after the answer was printed; a name that is no text is printed with backslashes, also where the output is strict"
    status, out, err = shell('ask photo.jpg "Who is this?" --model llava --method none --json /proc/x.json')
    assert status == 2 and out.strip()
    assert err.endswith('carve: error: /proc/x.json cannot be written: No such file or directory; name another file.\n')
    name = os.fsdecode(b'S\xff.npy')
    out = run('ask', 'photo.jpg', 'Who is this?', '--model', 'llava', '--map', name, errors='strict', cwd=tmp_path)
    assert out.returncode == 0 and r'S\udcff.npy: float32' in out.stderr, out.stderr
    status, _, err = shell('ask photo.jpg Who? --model llava --method none --map T.npy')
    assert status == 2 and 'none makes no map, so T.npy was not written; another --method does' in err and not os.path.exists('T.npy')
    assert np.load(name).shape == (300, 512)
    words = 'ask', 'photo.jpg', 'Who?', '--model', 'carve-tiny', '--method', 'none', '--quiet', '--json', '/dev/stdout'
    (tmp_path/'sent').touch()
    sent = run(*words, out=str(tmp_path/'sent'), cwd=tmp_path)
    assert (sent.returncode, sent.stderr) == (0, '') and '"question": "Who?"' in (tmp_path/'sent').read_text()


def test_main_leaves_the_output_as_it_was(capsys):
    "Who calls `main` in a process of one's own has the same standard output afterwards"
    was = sys.stdout.errors
    assert main(['methods']) == 0 and main(['report', 'nowhere']) == 2
    assert sys.stdout.errors == was == 'strict'


def test_memory_that_runs_out_is_status_1(models, photo, monkeypatch, shell):
    def fail(*args, **kw): raise RuntimeError('out of memory')
    monkeypatch.setattr('transformers.GenerationMixin.generate', fail)
    status, _, err = shell('ask photo.jpg Who? --model llava --method none')
    assert status == 1 and 'carve: error: memory ran out: give a smaller image' in err


def test_nobody_reads():
    "`carve methods | head -1`: the end of the pipe is no error"
    p = subprocess.Popen([sys.executable, '-m', 'carve_nb.cli.main', 'methods'], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdout.close()
    said = p.stderr.read()
    assert (p.wait(), said) == (141, b'')


def test_another_pipe_breaks(monkeypatch, shell):
    "A worker that dies is no reader that has gone"
    def broken(*_): raise BrokenPipeError(32, 'Broken pipe')
    monkeypatch.setattr('carve_nb.cli.commands.print_table', broken)
    status, _, err = shell('methods')
    assert status == 1 and 'BrokenPipeError' in err


def test_report_again(models, shell, monkeypatch):
    "`carve report` makes the tables of a run again, of one, or of runs and a result.json side by side"
    monkeypatch.setenv('COLUMNS', '200')
    for folder in 'a', 'b':
        status, out, err = shell(f'eval scenes --n 2 --methods none,random,carve,lookup --model llava --quiet --out {folder}')
        assert status == 0 and 'accuracy, %' in out, err
        assert shell(f'report {folder}')[1].split('written to')[0] in out
    both = shell('report a b/result.json --out both')
    assert both[0] == 0 and 'a: scenes, llava: 2 questions' in both[1] and os.listdir('both') == ['leaderboard.md']
    rows = [line.split('|') for line in open('both/leaderboard.md').read().splitlines() if line.startswith('| ')][2:]
    assert [row[2].strip() for row in rows] == ['a']*4 + ['b/result.json']*4
    assert [row[3:6] for row in rows[:4]] == [row[3:6] for row in rows[4:]]    # accuracy, n, gain
    status, _, err = shell('report a b/result.json --out both')
    assert status == 2 and 'leaderboard.md is there already and would be lost; name another, or --force' in err
    assert shell('report a b/result.json --out both --force') == both


def test_demo(monkeypatch, shell):
    "Four scenes with both answers and the truth, 24 answers asked again, and the table of the stored runs at the end, in 60 columns too; a page with the images"
    monkeypatch.setenv('COLUMNS', '60')
    os.mkdir('scenes')    # of the user's; the demo never reads it
    status, out, err = shell('demo --out .')
    assert (status, err) == (0, '') and out.count(' without a crop, ') == out.count('truth: "') == 4
    assert '24 of 24 answers of carve-small are the stored ones' in out
    first, *table = out[out.index('Accuracy in %'):].splitlines()
    assert 'n = 300: the first held-out scenes' in first and 'n = 300' in open('demo.html').read()
    assert max(map(len, table)) <= 60 and '75.7 [70.5, 80.2]' in '\n'.join(table)
    assert '"8" without a crop, "2" with the crop of lookup; truth: "2"' in out
    assert 'demo.html is there already' in shell('demo --out .')[2]
    assert sorted(os.listdir()) == ['demo.html', 'scenes']


def test_image_tokens(models, photo, shell):
    "Fewer tokens where the processor keeps an image's own pixels; said in a note"
    status, _, err = shell('ask photo.jpg "Who is this?" --model qwen2_5_vl --max-new-tokens 2 --image-tokens 24')
    assert status == 0 and 'carve: note: Resolution: at most 24 tokens for each image' in err


@pytest.mark.parametrize('family', ['llava', 'internvl', 'smolvlm', 'llava_next'])
def test_nothing_to_limit(folders, photo, shell, family):
    "A processor with a number of tokens of its own says so, and the answer comes"
    status, _, err = shell('ask photo.jpg "Who is this?" --method none --image-tokens 9 --model', folders(family))
    assert status == 0 and 'no number of tokens to set' in err


def test_center_crop_is_said_and_padded(models, photo, shell):
    "LLaVA sees the center of a wide photograph: ask says so; --pad shows all of it"
    words = 'ask photo.jpg Who? --max-new-tokens 2 --map S.npy --force --model'
    status, _, err = shell(f'{words} llava')
    assert status == 0 and 'the model sees 59% of the image' in err
    assert not np.load('S.npy')[:, :50].any()
    status, _, err = shell(f'{words} llava --pad')
    assert status == 0 and 'the model sees' not in err
    assert np.load('S.npy')[:, :50].any()
    status, _, err = shell('ask photo.jpg Who? --pad --model qwen2_5_vl')
    assert status == 2 and 'cuts nothing off' in err


@pytest.fixture
def kept(tmp_path, monkeypatch):
    "The folder of profiles"
    monkeypatch.setenv('CARVE_PROFILES', str(tmp_path/'kept'))
    return tmp_path/'kept'


def test_the_shell_tells_what_changes_an_answer(models, photo, kept, shell):
    "That no query token of this model is known and that an answer was cut: `ask` on stderr, `eval` and `report` under the table, with counts"
    ask, short = 'ask photo.jpg "What is this?" --model llava --max-new-tokens 2 --method', '--model llava --max-new-tokens 2'
    err = shell(f'{ask} lookup')[2]
    assert 'carve: note: no query token of this model is known, so the last position was read' in err
    assert err.count('cut at 2 tokens') == 1 and shell(f'{ask} lookup --quiet')[2] == ''
    shown = shell(f'eval scenes --n 2 --methods none,lookup {short} --out R --quiet')[1], shell('report R')[1], open('R/table.md').read()
    lines = (
        '`lookup`, 2 of 2: no query token of this model is known, so the last position was read: `carve checkup` finds one',
        '`none`, 2 of 2: the answer was cut at 2 tokens: max_new_tokens gives it more',
        '`lookup`, 2 of 2: the answer was cut at 2 tokens: max_new_tokens gives it more')
    for told in shown:
        words = ' '.join(told.split())    # lines break at the terminal's width
        assert all(words.count(line) == 1 for line in lines) and words.count('cut at') == 2, told
    for method in 'none', 'lookup':
        assert shell(f'ask photo.jpg photo.jpg "What is this?" {short} --method {method}')[2].count('cut at 2 tokens') == 1


@pytest.mark.parametrize('family, said', [('llava', 'no number of tokens to set'), ('qwen2_5_vl', 'own limit is lower')])
def test_eval_of_a_folder(models, photos, tmp_path, shell, monkeypatch, family, said):
    "Somebody's checkpoint, somebody's questions, the paper's resolution: tables on the standard output, the rest on the other"
    monkeypatch.delenv('COLUMNS', raising=False)     # a pipe is as wide as the table
    status, out, err = shell(
        f'eval {photos} --model {family} --methods none,paper,rel-att --image-tokens 256 --max-new-tokens 2 --n 3 --out o')
    assert status == 0 and 'Resolution: ' in err, err
    assert said in err
    assert out.startswith(f'{photos.name}, ') and all(f'\n{m} ' in out for m in ('none', 'paper', 'rel-att'))
    assert {'records.jsonl', 'accuracy.png', 'results.csv'} <= {*os.listdir('o')}
    assert '| rel-att |' in open('o/table.md').read() and '<section' in open('o/answers.html').read()
    assert shell('report o')[:2] == (0, out)
    text = open('o/protocol.json').read()
    protocol = json.loads(text)
    assert protocol['data']['name'] == photos.name and str(tmp_path) not in text
    assert protocol['decoding']['max_new_tokens'] == 2


def test_set_carries_text(models, photos, photo, shell):
    "A text with commas, colons and quotation marks is one value, in a shell and beside other methods of a run, which is taken up"
    words = f'eval {photos} --model qwen2_5_vl --methods none,carve --n 1 --max-new-tokens 1 --quiet --out o --set'
    for _ in range(2):
        assert shell(words, "instruction=Describe: it's all, please")[0] == 0
    protocol = json.load(open('o/protocol.json'))
    assert [m.get('instruction') for m in protocol['methods'].values()] == [None, "Describe: it's all, please"]
    assert shell('report o')[0] == 0
    for given in 'instruction=Describe: all', 'query=green,square', "query=['green', 'square']":
        assert shell('ask photo.jpg "What is the green square?" --model qwen2_5_vl --method carve --set', given)[0] == 0


def test_eval_of_this_folder(models, photos, tmp_path, monkeypatch, shell):
    "`carve eval ..` does not write among one's own files"
    (tmp_path/'mine').symlink_to(photos)
    (inner := tmp_path/'mine'/'inner').mkdir()
    monkeypatch.chdir(inner)
    status, out, _ = shell(f'eval {tmp_path}/mine --methods none --n 1 --max-new-tokens 1 --quiet --model', tmp_path/'llava')
    assert status == 0 and out.endswith(f'{os.path.join("eval_out", "mine-llava", "answers.html")}\n')
    assert os.listdir() == ['eval_out'] and os.listdir('eval_out') == ['mine-llava']


@pytest.mark.parametrize('more, said', [
    ('--methods carve:q=1', "'q'"), ('--methods carve:p=2', 'p=2'), ('--methods carve:p=.1:p=.2', 'each once'),
    ('--kinds digit', 'kinds'), ('--part 5/4', '--part'), ('--methods detector', 'second model'),
    ('--methods none,carve:layers=99', 'layers [99]')])
def test_eval_says_what_is_wrong(photos, shell, more, said):
    status, out, err = shell(f'eval {photos} --out o --quiet {more}')
    assert (status, out, err.count('\n')) == (2, '', 1) and said in err
    assert not os.path.exists('o/records.jsonl')


def test_one_default(shell):
    "Without a word, each command shows `lookup` on `carve-small`; `ask` and `map` show it on scene 145 and say that it was chosen"
    from inspect import signature
    import typer
    from carve_nb.cli.commands import app
    from carve_nb.runs.runner import run_eval
    from carve_nb.studies.checkup import run_checkup
    defaults = [{o.opts[0].strip('-'): o.default for o in c.params} for c in typer.main.get_command(app).commands.values()]
    for name, default in dict(model='carve-small', method='lookup', methods='none,random,lookup').items():
        assert {d[name] for d in defaults if name in d} == {default}
    assert {signature(f).parameters['model'].default for f in (run_eval, run_checkup)} == {'carve-small'}
    assert signature(run_eval).parameters['methods'].default == 'none,random,lookup'
    question = make_scene(145).question('digit').question
    status, out, err = shell('ask')
    assert (status, out) == (0, '2\n')
    assert err.startswith(f'carve: note: scene 145, which we chose: {question}\nbaseline: "8"')


def test_fields_are_explained_where_people_look(shell, monkeypatch):
    "`carve methods NAME` shows each field with default, meaning and range; no field of a method lacks a meaning"
    monkeypatch.setenv('COLUMNS', '300')
    line, = [line for line in shell('methods lookup')[1].splitlines() if line.startswith('p ')]
    assert re.split('  +', line.strip()) == ['p', '0.04', 'kept share of the pixels', 'a number, above 0 and at most 1']
    for method in methods().values():
        assert all(meaning for _, _, meaning, _ in field_table(method)[1:]), method
    assert 'perhaps lookup' in shell('methods lokup')[2]
