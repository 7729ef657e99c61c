"The command `carve`, as a shell sees it."
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import numpy as np
import pytest
from PIL import Image
from processes import run, until
from carve_nb.cli.main import main
from carve_nb.method.registry import methods
from carve_nb.method.settings import field_table
from carve_nb.runs.store import RunStore, read_run

@pytest.fixture(scope='module')
def photo(tmp_path_factory):
    from skimage import data
    path = tmp_path_factory.mktemp('photo')/'astronaut.jpg'
    Image.fromarray(data.astronaut()[:300]).save(path)  # 512 x 300
    return path


@pytest.fixture(scope='module')
def models(folders): return {family: folders(family) for family in ('llava', 'qwen2_5_vl')}


LIGHT = '''
import json, os, sys
from carve_nb.cli.main import main
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
    "`light(words)`: status and output of `carve WORDS`, forked from a process that has imported the command line alone; 99 if it imports torch"
    place = tmp_path_factory.mktemp('light')
    with subprocess.Popen([sys.executable, '-c', LIGHT], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True) as server:
        def ask(words, **env):
            out, err = place/'out', place/'err'
            print(json.dumps([[str(w) for w in words], str(out), str(err), env]), file=server.stdin, flush=True)
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


PROFILE, IMAGE = ('checkup', '--only', 'profile'), 'nbs/images/switches.png'


@pytest.mark.parametrize('words, said', [
    (['ask', IMAGE, 'What?', '--model', 'nothing'], 'neither a folder nor a Hub id'),
    (['ask', IMAGE, 'What?', '--method', 'rel-at'], 'perhaps rel-att'),
    (['eval', 'textvqaa'], 'perhaps textvqa'), (['ask', IMAGE, 'What?', '--device', 'gpu'], 'cuda:1'),
    (['ask', IMAGE, 'What?', '--dtype', 'float8'], "'float8' is not one of 'auto', 'bf16'"),
    (['aks'], "Did you mean 'ask'"), (['ask', IMAGE, 'What?', '--methd', 'none'], '--method'),
    (['ask', IMAGE, 'Who', 'is', 'it?'], 'in quotation marks'),
    (['map', IMAGE, 'What?', '--out', 'S.xyz'], '.npy or .png'),
    (['map', IMAGE, 'What?', '--out', 'S.xbm'], '.npy or .png'),
    (['checkup', '--model', 'nothing'], 'neither a folder nor a Hub id'), (['checkup', '--n', '0'], "Invalid value for '--n': "),
    (['checkup', '--only', 'profil'], "'profil' is not "),
    (['checkup', '--force'], 'goes with --only profile'),
    (['checkup', '--only', 'profile', '--retry'], 'go with the whole checkup, not with --only profile'),
    ([*PROFILE, '--images', 'nowhere'], "'nowhere' does not exist"),
    ([*PROFILE, '--images', 'tests/faults'], 'holds no images'),
    (['ask', IMAGE, 'What?', '--min-side', '.3'], 'a field of a method is given as --set min_side=VALUE'),
    (['demo', '--n', '3'], 'No such option'), (['eval', 'nosuchfolder'], 'it is no file or folder either'),
    (['ask', 'tests', 'What?'], 'tests cannot be opened'),
    (['map', IMAGE, 'What?', '--method', 'vcd', '--out', 'S.npy'], 'there are: carve, lookup, official'),
    (['map', IMAGE, 'What?', '--method', 'LOOKUP', '--out', 'S.xyz'], '.npy or .png'),
    (['ask', IMAGE, 'What?', '--method', 'none', '--box', '40', '40', '10', '10'], 'other methods take no --box'),
    (['ask', IMAGE, IMAGE, 'What?', '--box', '10', '10', '40', '40'], 'other methods take no --box'),
    (['eval', 'scenes', '--answer-key', 'MY_KEY'], '--answer-key goes with --answer-by'),
    (['report', 'tests', '--out', 'page'], '--out goes with several runs'),
    (['ask', 'nbs/images/switches.png', 'What?', '--json', 'README.md'], 'name another, or --force'),
    (['report', 'nosuch'], 'holds no run'), (['report', 'tests'], 'holds no run')])
def test_refused_before_torch(words, said, light):
    "What is wrong with the words alone is said in one line before torch is imported, with what may have been meant"
    status, out, err = light(words)
    assert (status, out) == (2, '') and err.count('\n') == 1 and said in err, err


def test_the_crop_of_an_earlier_run_is_no_output(photo, tmp_path, light):
    "Who asks about a saved crop does not lose it, with --force either"
    shutil.copy(photo, crop := tmp_path/'crop.png')
    status, out, err = light(['ask', crop, 'What?', '--out', tmp_path, '--force'])
    assert (status, out) == (2, '') and 'is the image itself, which would be lost' in err
    assert crop.read_bytes() == photo.read_bytes()


@pytest.mark.parametrize('columns', [60, 100, 200])
def test_help_fits(columns, light):
    "No line is wider than the terminal, and NO_COLOR is kept"
    for words in ['--help'], ['eval', '--help'], ['methods'], ['families']:
        out = light(words, COLUMNS=str(columns), NO_COLOR='1')[1]
        assert ('\x1b' not in out and max(map(len, out.splitlines())) <= columns
            and (words[-1] == '--help' or '…' not in out)), words


def test_shell_completion(light):
    "A shell is offered commands, options and names"
    for typed, offered in (('ev', 'eval'), ('check', 'checkup'), ('checkup --im', '--images'),
            ('eval scenes --ma', '--maps'), ('ask a.jpg What --method rel', 'rel-att')):
        out = light([], _CARVE_COMPLETE='complete_bash', COMP_WORDS=f'carve {typed}',
            COMP_CWORD=str(len(typed.split())))[1]
        assert offered in out.split(), (typed, out)


def test_version_and_help():
    "With an option or a word; nothing at all is a wish for help"
    from carve_nb import __version__
    assert run('--version').stdout == run('version').stdout == f'carve {__version__}\n'
    bare, helped = run(), run('--help')
    assert (bare.returncode, bare.stdout, bare.stderr) == (0, helped.stdout, '') and run('help').stdout == helped.stdout
    assert run('help', 'map').stdout == run('map', '--help').stdout != helped.stdout


def test_lists_are_light(tmp_path, light):
    "Tables of what is known, and refusals of data, come without torch"
    from carve_nb.models.families import MEASURED, family_rows
    (tmp_path/'rows.csv').write_text('picture,ask\na.jpg,What?\n')
    for words, status in ((['methods'], 0), (['methods', '--json'], 0), (['families'], 0), (['families', '--json'], 0),
            (['eval', tmp_path], 2), (['eval', tmp_path/'rows.csv'], 2), (['eval', 'scenes', '--rule', 'no'], 2)):
        found, out, err = light(words)
        assert found == status and err.count('\n') == bool(status), (words, out, err)
    shown = json.loads(run('families', '--json').stdout)
    assert shown == [{k: row.get(k, '') for k in shown[0]}
        for row in family_rows()], f'{MEASURED} tells another table; `make families` writes it again'


def test_unknown_field(photo, monkeypatch, capsys):
    "A field that the method has not is refused before a model is loaded, with the nearest"
    monkeypatch.setattr('carve_nb.attention.vlm.VLM.from_pretrained',
        lambda *args, **kw: pytest.fail('a model was loaded'))
    for words, said in ((['ask', photo, 'What?', '--set', 'lamm=1'], "field of lookup 'lamm' is not known"),
            (['ask', photo, 'What?', '--method', 'carve:region_rul=x'], 'region_rule'),
            (['eval', 'scenes', '--methods', 'none,lookup:layres=2'], 'layers')):
        assert main([str(o) for o in [*words, '--model', 'carve-tiny']]) == 2
        err = capsys.readouterr().err
        assert err.count('\n') == 1 and said in err, err


@pytest.mark.parametrize('family, method', [('llava', 'official'), ('qwen2_5_vl', 'carve')])
def test_ask_a_photograph(models, photo, tmp_path, family, method):
    "Answer on the standard output; strip, crop and JSON where they were asked for"
    out = run('ask', photo, 'Who is this?', '--model', models[family], '--method', method, '--out', tmp_path/'o',
        '--json', tmp_path/'r.json')
    assert out.returncode == 0 and 'Traceback' not in out.stderr, out.stderr
    told = json.loads((tmp_path/'r.json').read_text())
    assert out.stdout == told['answer'] + '\n' and told['question'] == 'Who is this?'
    x0, y0, x1, y1 = told['crop']['box']
    assert 0 <= x0 < x1 <= 512 and 0 <= y0 < y1 <= 300
    assert {p.name for p in (tmp_path/'o').iterdir()} == {'result.png', 'crop.png', 'result.json'}


@pytest.mark.skipif(os.name == 'nt', reason='`make pytest` on Linux or macOS runs it')
def test_ask_on_a_terminal(models, photo, tmp_path):
    "A person is told both answers, where was looked and what was written; a pipe, and who asks for it, gets the answer alone"
    def seen(*words):
        ours, theirs = os.openpty()
        out = run('ask', photo, 'Who is this?', '--model', models['llava'], *words, out=os.ttyname(theirs))
        os.close(theirs)
        assert out.returncode == 0, out.stderr
        with open(ours, 'rb', buffering=0) as f: return f.read(10_000).decode().replace('\r', '')
    question, alone, again, box, *rest, written = seen('--out', tmp_path/'o').splitlines()
    told = json.loads((tmp_path/'o'/'result.json').read_text())
    assert question == 'Who is this?' and alone.startswith(f'baseline: "{told["plain_answer"]["text"]}" (0.')
    assert again.startswith(f'lookup: "{told["answer"]}" (0.')
    assert f'crop ({", ".join(map(str, told["crop"]["box"]))})' in box
    assert written == 'written: ' + ', '.join(str(tmp_path/'o'/n) for n in ('result.png', 'crop.png', 'result.json'))
    assert seen('--quiet') == told['answer'] + '\n'


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='`make pytest` on Linux runs it')
def test_stopped_while_it_asks(photo, tmp_path):
    command = [sys.executable, '-m', 'carve_nb', 'ask', str(photo), 'Who is this?', '--out', str(tmp_path/'o')]
    def listen(): signal.signal(signal.SIGINT, signal.SIG_DFL)   # a shell's background jobs are deaf to Ctrl-C
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listen) as p:
        assert until(lambda: 'libtorch' in open(f'/proc/{p.pid}/maps').read(), p)
        p.send_signal(signal.SIGINT)
        out, err = p.communicate()
    assert (p.returncode, out, err) == (130, '', 'carve: note: stopped: no answer, and nothing was written.\n')


def test_no_such_device(photo):
    import torch
    if torch.cuda.is_available(): pytest.skip('`make pytest` on a machine without a GPU runs it')
    out = run('ask', photo, 'Who?', '--device', 'cuda')
    assert (out.returncode, out.stdout, out.stderr.count('\n')) == (2, '', 1)
    assert out.stderr.startswith("carve: error: Device 'cuda' cannot be used here: ")   # the rest is torch's, and differs with its build


def test_several_images(tmp_path, capsys):
    "Which image, the region in it, and both answers; the baseline is shown all of them"
    from carve_nb.attention.vlm import VLM
    from carve_nb.data.scenes import make_scene
    from carve_nb.method.lookup import Lookup
    from carve_nb.models.prompts import SHORT_ANSWER
    question, names = 'What digit is on the blue cross?', [str(tmp_path/f'{seed}.png') for seed in (3, 0)]
    for seed, name in zip((3, 0), names): make_scene(seed).image.save(name)
    vlm, words = VLM.from_pretrained('carve-small'), [*names, question]
    want = Lookup()(vlm, names, question)
    assert main(['ask', *words, '--json', str(tmp_path/'r.json')]) == 0
    out, err = capsys.readouterr()
    told = json.loads((tmp_path/'r.json').read_text())
    assert out == f'{want}\n' and (told['image'], told['images'], told['crop']['box']) == (1, 2, list(want.crop.box))
    for part in (f'note: about {names[1]}\n', f'baseline: "{want.plain_answer}"', f'crop {want.crop.box}',
            'image 2 of 2: '):
        assert part in err
    assert main(['ask', *words, '--method', 'none']) == 0
    out, err = capsys.readouterr()
    assert out == f'{vlm.ask(names, question, SHORT_ANSWER)}\n' and 'with all images' in err and 'about' not in err
    assert main(['map', *words, '--out', str(tmp_path/'S.npy')]) == 0
    assert np.array_equal(np.load(tmp_path/'S.npy'), want.saliency.to_pixels())
    assert f'the map is that of {names[1]}, image 2 of 2' in capsys.readouterr().err
    for bad, said in (
            (['ask', *words, '--json', names[1]], 'is the image itself'),
            (['map', *names, 'no.png', question, '--out', 'S.npy'], 'no.png cannot be opened: No such file or directory. Images come first'),
            (['ask', *words, '--method', 'oracle', '--box', '1', '1', '9', '9'], 'takes one image'),
            (['ask', *names], 'and then the question in quotation marks'),
            (['ask', names[0]], 'and then the question in quotation marks'),
            (['ask', question], 'give an image, or several, and then the question')):
        assert main(bad) == 2 and said in capsys.readouterr().err, bad


def test_a_pipe_gets_the_answer_and_what_it_means(tmp_path, capsys):
    "The bare answer goes to the standard output; what changes its meaning to the standard error and the JSON: words that the model does not know, a crop that made it less sure"
    from carve_nb.data.scenes import make_scene
    make_scene(145).image.save(tmp_path/'s.png')
    for question, start, note in (('What is the zebra doing?', 'carve: note: ', "This model does not know the words 'zebra', 'doing'."),
            ('What color is the heart?', 'carve: note: lookup: "orange" (0.79); ', 'less sure with the crop (0.79) than without it (0.83)')):
        assert main(['ask', str(tmp_path/'s.png'), question, '--json', str(tmp_path/'r.json'), '--force']) == 0
        out, err = capsys.readouterr()
        told = json.loads((tmp_path/'r.json').read_text())
        assert out == told['answer'] + '\n' and f'note: baseline: "{told["plain_answer"]["text"]}" (0.' in err
        assert note in told['notes'] and err.count(note) == err.count(f'{start}{note}\n') == 1
        assert main(['ask', str(tmp_path/'s.png'), question, '--quiet']) == 0 and capsys.readouterr() == (out, '')


def test_map_has_the_size_of_the_image(models, photo, tmp_path, capsys):
    words = ['map', str(photo), 'Who is this?', '--model', str(models['qwen2_5_vl']), '--method', 'official', '--out',
        str(tmp_path/'S.npy')]
    assert main([*words, '--set', 'layers=3,4']) == 0
    S = np.load(tmp_path/'S.npy')
    assert S.shape == (300, 512) and S.dtype == np.float32 and np.isfinite(S).all()
    assert main([*words, '--set', 'layers=[99]', '--force']) == 2 and 'layers' in capsys.readouterr().err


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='`make pytest` on Linux runs it')
def test_results_are_not_lost(models, photo, tmp_path):
    "A file that cannot be made is bad input, after the answer was printed; a name that is no text is printed with backslashes, also where the output is strict"
    ask = run('ask', photo, 'Who is this?', '--model', models['llava'], '--method', 'none', '--json', '/proc/x.json')
    assert ask.returncode == 2 and ask.stdout.strip()
    assert ask.stderr.endswith('carve: error: /proc/x.json cannot be written: No such file or directory; name another file.\n')
    out = run('map', photo, 'Who is this?', '--model', models['llava'], '--out',
        os.fsdecode(os.fsencode(tmp_path) + b'/S\xff.npy'), errors='strict')
    assert (out.returncode == 0 and r'/S\udcff.npy: float32' in out.stdout
        and np.load(tmp_path/os.fsdecode(b'S\xff.npy')).shape == (300, 512)), out.stderr


def test_main_leaves_the_output_as_it_was(capsys):
    "Who calls `main` in a process of one's own has the same standard output afterwards"
    was = sys.stdout.errors
    assert main(['methods']) == 0 and main(['report', 'nowhere']) == 2
    assert sys.stdout.errors == was == 'strict'


def test_failure_is_status_1(models, photo, monkeypatch, capsys):
    from transformers import GenerationMixin
    for error, said in ((RuntimeError('no luck'), 'carve: error: RuntimeError: no luck (carve --debug'),
            (RuntimeError('out of memory'), 'carve: error: memory ran out: give a smaller image')):
        def fail(*args, **kw): raise error
        monkeypatch.setattr(GenerationMixin, 'generate', fail)
        assert main(['ask', str(photo), 'Who?', '--model', str(models['llava']), '--method', 'none']) == 1
        assert said in capsys.readouterr().err


def test_nobody_reads():
    "`carve methods | head -1`: the end of the pipe is no error"
    p = subprocess.Popen([sys.executable, '-m', 'carve_nb.cli.main', 'methods'], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE)
    p.stdout.close()
    said = p.stderr.read()
    assert (p.wait(), said) == (141, b'')


def test_another_pipe_breaks(monkeypatch, capsys):
    "A worker that dies is no reader that has gone"
    monkeypatch.setattr('carve_nb.cli.commands.print_table', lambda *_: (_
        for _ in ()).throw(BrokenPipeError(32, 'Broken pipe')))
    assert main(['methods']) == 1 and 'BrokenPipeError' in capsys.readouterr().err


def test_report_again(models, tmp_path):
    "A run, measured twice with the same lines, whose tables `carve report` makes again, of one or side by side"
    found, folders = [], [tmp_path/'1', tmp_path/'2']
    for d in folders:
        out = run('eval', 'scenes', '--kinds', 'digit', '--n', 2, '--methods', 'none,random,carve,lookup', '--model',
            models['llava'], '--out', d, '--quiet')
        assert out.returncode == 0, out.stderr
        found.append([{k: v for k, v in r.items() if k != 'seconds'} for r in read_run(d).records])
        assert {r['method'] for r in found[-1]} == {'none', 'random', 'carve', 'lookup'}
        assert 'accuracy, %' in out.stdout and run('report', d).stdout.split('written to')[0] in out.stdout
    assert found[0] == found[1]
    both = run('report', *folders, '--out', tmp_path/'both')
    assert both.returncode == 0 and f'{folders[1]}: scenes, llava, 2 questions' in ' '.join(both.stdout.split())
    assert sorted(p.name for p in (tmp_path/'both').iterdir()) == ['leaderboard.md']
    again = run('report', *folders, '--out', tmp_path/'both')
    assert again.returncode == 2
    assert 'leaderboard.md is there already and would be lost; name another, or --force' in again.stderr
    assert run('report', *folders, '--out', tmp_path/'both', '--force').stdout == both.stdout


def test_demo_keeps_the_files_of_others(tmp_path, monkeypatch, capsys):
    "A folder with a run is refused before a model is loaded, and nothing in it is changed"
    monkeypatch.setattr('carve_nb.attention.vlm.VLM.from_pretrained',
        lambda *args, **kw: pytest.fail('a model was loaded'))
    for name in 'records.jsonl', 'protocol.json':
        (tmp_path/name).mkdir()
        (tmp_path/name/name).write_text('mine')
        assert main(['demo', '--out', str(tmp_path/name), '--quiet']) == 2
        err = capsys.readouterr().err
        assert err.count('\n') == 1 and err.startswith(f'carve: error: {tmp_path/name}') and name in err
        assert 'ive another folder' in err
        assert [(p.name, p.read_text()) for p in (tmp_path/name).iterdir()] == [(name, 'mine')]
    RunStore(tmp_path/'run', dict(methods={})).close()
    assert main(['demo', '--out', str(tmp_path/'run')]) == 2
    assert 'holds a run, whose page would be lost' in capsys.readouterr().err


def test_short_demo(tmp_path, monkeypatch, capsys):
    "Four scenes with both answers and the truth, answers asked again, and the table of the stored runs at the end, in 60 columns too; a page with the images"
    from carve_nb.runs import demo
    monkeypatch.setenv('COLUMNS', '60')
    monkeypatch.setattr(demo, 'load_benchmark', lambda name, n, known=demo.load_benchmark, **kw: known(name, n//20, **kw))
    assert main(['demo', '--out', str(tmp_path), '--quiet']) == 0
    out = capsys.readouterr().out
    assert out.count('baseline: "') == out.count('truth: "') == 4
    assert out.count('12 of 12 answers are the stored ones') == 2
    first, *table = out[out.index('Right answers'):].splitlines()
    assert max(map(len, table)) <= 60 and '75.7 [70.5, 80.2]' in '\n'.join(table)
    assert out.index('baseline: "8"') < out.index('lookup: "2"')
    assert main(['demo', '--out', str(tmp_path), '--quiet']) == 2
    assert 'demo.html is there already' in capsys.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} == {'demo.html', *(f'demo_{case}.png' for case in demo.CASES)}


def test_image_tokens(folders, photo, capsys):
    "Fewer tokens where the processor keeps an image's own pixels; said in a note"
    from carve_nb.attention.vlm import VLM
    model = folders('qwen2_5_vl')
    words = ['ask', photo, 'Who is this?', '--model', model, '--max-new-tokens', 2, '--image-tokens', 24]
    assert main([str(o) for o in words]) == 0
    assert 'carve: note: Resolution: at most 24 tokens for each image' in capsys.readouterr().err
    counts = [sum(map(len, VLM.from_pretrained(model, image_tokens=n).prompt(photo, 'Who?').spans)) for n in (None, 24)]
    assert counts[0] > 24 >= counts[1], counts


@pytest.mark.parametrize('family', ['llava', 'internvl', 'smolvlm', 'llava_next'])
def test_nothing_to_limit(folders, photo, capsys, family):
    "A processor with a number of tokens of its own says so, and the answer comes"
    assert main(['ask', str(photo), 'Who is this?', '--model', str(folders(family)), '--method', 'none',
        '--image-tokens', '9']) == 0
    assert 'no number of tokens to set' in capsys.readouterr().err


def test_center_crop_is_said_and_padded(models, photo, tmp_path, capsys):
    "LLaVA sees the center of a wide photograph: ask and map say so; --pad shows all of it"
    words = ['ask', str(photo), 'Who is this?', '--model', str(models['llava']), '--max-new-tokens', '2']
    assert main(words) == 0 and 'the model sees 59% of the image' in capsys.readouterr().err
    assert main([*words, '--pad']) == 0 and 'the model sees' not in capsys.readouterr().err
    words = ['map', str(photo), 'Who is this?', '--model', str(models['llava']), '--out', str(tmp_path/'S.npy')]
    assert main(words) == 0 and 'the model sees 59%' in capsys.readouterr().err
    assert not np.load(tmp_path/'S.npy')[:, :50].any()
    assert main([*words, '--pad', '--force']) == 0 and 'the model sees' not in capsys.readouterr().err
    assert np.load(tmp_path/'S.npy')[:, :50].any()
    assert main(['ask', str(photo), 'Who?', '--model', str(models['qwen2_5_vl']), '--pad']) == 2
    assert 'cuts nothing off' in capsys.readouterr().err


def test_plain_answer_once(models, photo, capsys):
    "--method none in a pipe: one line with the answer and its confidence"
    assert main(['ask', str(photo), 'Who is this?', '--model', str(models['llava']), '--method', 'none',
        '--max-new-tokens', '2']) == 0
    out, err = capsys.readouterr()
    assert err.count(f'"{out.strip()}"') == 1 and err.count('baseline:') == 0


def test_profile(models, photo, tmp_path, monkeypatch, capsys):
    "A profile is printed, kept for these weights, and not measured again unasked; images without boxes get one too"
    from carve_nb.attention.vlm import VLM
    from carve_nb.method.carve import Carve
    from carve_nb.method.lookup import Lookup
    from carve_nb.method.profiles import find_profile
    monkeypatch.setenv('CARVE_PROFILES', str(tmp_path/'kept'))
    monkeypatch.setattr('carve_nb.method.profiles.IMAGES', 4)    # time
    words = [*PROFILE, '--model', 'carve-tiny', '--n', '4', '--quiet']
    assert main(words) == 0
    vlm, (file,) = VLM.from_pretrained('carve-tiny'), (tmp_path/'kept').iterdir()
    assert f'kept in {file}\n' in capsys.readouterr().out
    assert (find_profile(vlm).n, find_profile(vlm).query) == (4, 'last')
    assert main(words) == 2 and '--force measures again' in capsys.readouterr().err
    file.write_text('{"kind": "model profile"}')     # a damaged one is replaced too
    assert main([*words, '--force']) == 0 and find_profile(vlm).n == 4
    with pytest.warns(UserWarning, match='Take the default'): Carve.for_model(vlm)
    capsys.readouterr()
    assert main([*PROFILE, '--model', str(models['llava']), '--images', str(photo.parent)]) == 0
    out, err = capsys.readouterr()
    assert 'asked: What color is the car?' in err and 'pointing' not in out and '1 images are fewer than 4' in out
    assert 'but not used, as it is not sure' in out
    llava = VLM.from_pretrained(models['llava'])
    assert Lookup().settled(llava).query == 'last' and 'is not sure' in Lookup().choose(llava)[1][0]
    assert find_profile(llava).n < 3


def test_an_unsure_profile_hides_no_sure_one(tmp_path, monkeypatch, capsys):
    "One image makes no profile: the one that ships is read on, also where an earlier version kept such a file"
    from dataclasses import replace
    from carve_nb.attention.vlm import VLM
    from carve_nb.data.scenes import make_scene
    from carve_nb.method.lookup import Lookup
    from carve_nb.method.profiles import find_profile, profile_path
    monkeypatch.setenv('CARVE_PROFILES', str(tmp_path/'kept'))
    (tmp_path/'ex').mkdir()
    make_scene(145).image.save(tmp_path/'ex'/'0.png')
    assert main([*PROFILE, '--model', 'carve-small', '--images', str(tmp_path/'ex'), '--quiet']) == 0
    out, vlm = capsys.readouterr().out, VLM.from_pretrained('carve-small')
    assert 'not kept: another profile of this model is sure, and stays' in out and 'kept in' not in out
    assert not [*(tmp_path/'kept').iterdir()]
    assert Lookup().choose(vlm) == (Lookup(query='noun', layers=[2], subtract='none'), [])
    replace(find_profile(vlm), n=1, query='last', layers=[9]).save(profile_path(vlm))
    assert Lookup().choose(vlm) == (Lookup(query='noun', layers=[2], subtract='none'), [])


def test_the_shell_tells_what_changes_an_answer(models, photo, tmp_path, monkeypatch, capsys):
    "That no query token is known and that an answer was cut: `ask` on stderr, `eval` and `report` under the table, with counts"
    monkeypatch.setenv('CARVE_PROFILES', str(tmp_path/'kept'))
    how = ['--model', str(models['llava']), '--max-new-tokens', '2']
    assert main(['ask', str(photo), 'What is this?', *how, '--method', 'lookup']) == 0
    err = capsys.readouterr().err
    assert 'carve: note: no query token is known for this model, so the last position was read' in err
    assert err.count('cut at 2 tokens') == 1
    assert main(['ask', str(photo), 'What is this?', *how, '--method', 'lookup', '--quiet']) == 0
    assert capsys.readouterr().err == ''
    run = str(tmp_path/'R')
    assert main(['eval', 'scenes', '--n', '2', '--methods', 'none,lookup', *how, '--out', run, '--quiet']) == 0
    lines = ('`lookup`, 2 of 2: no query token is known for this model, so the last position was read: `carve checkup --only profile` finds one',
             '`none`, 2 of 2: the answer was cut at 2 tokens: max_new_tokens gives it more')
    shown = capsys.readouterr().out, (tmp_path/'R'/'table.md').read_text()
    assert main(['report', run]) == 0
    for told in (*shown, capsys.readouterr().out):
        words = ' '.join(told.split())    # lines break at the terminal's width
        assert all(words.count(line) == 1 for line in lines) and words.count('cut at') == 2, told
    for method in 'none', 'lookup':
        assert main(['ask', str(photo), str(photo), 'What is this?', *how, '--method', method]) == 0
        assert capsys.readouterr().err.count('cut at 2 tokens') == 1


@pytest.mark.parametrize('wins', [True, False])
def test_profile_suggests_what_wins(wins, tmp_path, monkeypatch, capsys):
    "A query token is suggested, and taken by `for_model`, only where it wins on what did not choose it"
    from dataclasses import replace
    from carve_nb.attention.vlm import VLM
    from carve_nb.core.io import load_with_digest
    from carve_nb.method.carve import Carve
    from carve_nb.method.profiles import find_profile
    vlm = VLM.from_pretrained('carve-tiny')
    shipped = replace(find_profile(vlm), layers=[2], query='noun', gain=[.2, .1, .3] if wins else [.2, -.1, .5])
    monkeypatch.setenv('CARVE_PROFILES', str(tmp_path/'kept'))
    monkeypatch.setattr('carve_nb.studies.profile.make_profile', lambda *_, **kw: shipped)
    assert main([*PROFILE, '--model', 'carve-tiny', '--n', '20', '--quiet', '--out', str(tmp_path/'O')]) == 0
    said, best = capsys.readouterr().out, Carve(layers=[2], query='noun')
    if wins:
        assert Carve.for_model(vlm) == best
        assert f'suggested: {best}' in said
    else:
        with pytest.warns(UserWarning):
            assert Carve.for_model(vlm) == Carve()
        assert 'Take the default, Carve()' in said and 'suggested' not in said
    assert 'Lookup() reads this query token; for Carve, ' in said and said.endswith('in a shell: --method lookup\n')     # one advice
    assert load_with_digest(tmp_path/'O'/'profile.json')['layers'] == [2]


@pytest.mark.parametrize('family, limited', [('llava', False), ('qwen2_5_vl', True)])
def test_eval_of_a_folder(models, photos, tmp_path, capsys, monkeypatch, family, limited):
    "Somebody's checkpoint, somebody's questions, the paper's resolution: tables on the standard output, the rest on the other"
    monkeypatch.delenv('COLUMNS', raising=False)     # a pipe is as wide as the table
    words = ['eval', photos, '--model', models[family], '--methods', 'none,paper,rel-att', '--image-tokens', 256,
        '--max-new-tokens', 2, '--n', 3, '--out', tmp_path/'o']
    status, printed = main([str(o) for o in words]), capsys.readouterr()
    assert (status == 0 and 'Resolution: ' in printed.err and 'n = 3 is too few: no difference' in printed.err
        and 'Traceback' not in printed.err), printed.err
    assert ('at most 256 tokens' in printed.err) == limited
    assert printed.out.startswith(f'{photos.name}, ')
    assert all(f'\n{m} ' in printed.out for m in ('none', 'paper', 'rel-att'))
    assert {'protocol.json', 'records.jsonl', 'table.md', 'accuracy.png',
        'results.csv'} <= {p.name for p in (tmp_path/'o').iterdir()}
    assert '| rel-att |' in (tmp_path/'o'/'table.md').read_text()
    assert main(['report', str(tmp_path/'o')]) == 0 and capsys.readouterr().out == printed.out
    assert '<section' in (tmp_path/'o'/'answers.html').read_text()
    protocol = json.loads((tmp_path/'o'/'protocol.json').read_text())
    assert protocol['data']['name'] == photos.name and str(tmp_path) not in json.dumps(protocol)
    assert protocol['decoding']['max_new_tokens'] == 2


def test_set_carries_text(models, photos, photo, tmp_path, capsys):
    "A text with commas, colons and quotation marks is one value, in a shell and beside other methods of a run, which is taken up"
    words = ['eval', str(photos), '--model', str(models['qwen2_5_vl']), '--methods', 'none,carve', '--n', '1',
        '--max-new-tokens', '1', '--quiet', '--out', str(tmp_path/'o')]
    for _ in range(2):
        assert main([*words, '--set', "instruction=Describe: it's all, please"]) == 0, capsys.readouterr().err
    protocol = json.loads((tmp_path/'o'/'protocol.json').read_text())
    assert [m.get('instruction') for m in protocol['methods'].values()] == [None, "Describe: it's all, please"]
    assert main(['report', str(tmp_path/'o')]) == 0
    ask = ['ask', str(photo), 'What is the green square?', '--model', str(models['qwen2_5_vl']), '--method', 'carve',
        '--set']
    capsys.readouterr()
    for given in 'instruction=Describe: all', 'query=green,square', "query=['green', 'square']":
        assert main([*ask, given]) == 0, capsys.readouterr().err


def test_eval_of_this_folder(models, photos, tmp_path, monkeypatch, capsys):
    "`carve eval ..` does not write among one's own files"
    shutil.copytree(photos, tmp_path/'mine')
    (tmp_path/'mine'/'inner').mkdir()
    monkeypatch.chdir(tmp_path/'mine'/'inner')
    words = ['eval', '..', '--model', str(models['llava']), '--methods', 'none', '--n', '1', '--max-new-tokens', '1',
        '--quiet']
    assert main(words) == 0
    assert capsys.readouterr().out.endswith(f'{os.path.join("eval_out", "mine-llava", "answers.html")}\n')
    assert os.listdir() == ['eval_out'] and os.listdir('eval_out') == ['mine-llava']


def test_eval_says_what_is_wrong(photos, tmp_path, capsys):
    for more, said in ((['--methods', 'none,best'], "'best' is not known"), (['--methods', 'carve:q=1'], "'q'"),
            (['--methods', 'carve:p=2'], 'p=2'), (['--methods', 'carve:p=.1:p=.2'], 'each once'), (['--kinds', 'digit'], 'kinds'),
                       (['--model', 'nothing'], 'nothing'), (['--part', '5/4'], '--part'),
                       (['--methods', 'detector'], 'second model'),
                       (['--methods', 'carve:layers=foo'], "layers='foo'"),
                       (['--methods', 'none,carve:layers=99'], 'layers [99]'), (['--rule', 'foo'], "Rule 'foo'")):
        status = main(['eval', str(photos), '--out', str(tmp_path/'o'), '--quiet', *more])
        printed = capsys.readouterr()
        assert (status, printed.out, printed.err.count('\n')) == (2, '', 1) and said in printed.err, (more, printed.err)
        assert not (tmp_path/'o'/'records.jsonl').exists()
    assert main(['eval', 'textvqa', '--out', str(tmp_path/'o')]) == 2 and 'root' in capsys.readouterr().err
    assert main(['report', str(tmp_path)]) == 2 and 'holds no run' in capsys.readouterr().err


def test_one_default(tmp_path, capsys):
    "Without a word, each command shows `lookup` on `carve-small`; `ask` and `map` show it on scene 145 and say that it was chosen"
    from inspect import signature
    import typer
    from carve_nb.cli.commands import app
    from carve_nb.data.scenes import make_scene
    from carve_nb.runs.runner import run_eval
    from carve_nb.studies.checkup import run_checkup
    defaults = [{o.name: o.default for o in c.params} for c in typer.main.get_command(app).commands.values()]
    for name, default in dict(model='carve-small', method='lookup', methods='none,random,lookup').items():
        assert {d[name] for d in defaults if name in d} == {default}
    assert {signature(f).parameters['model'].default for f in (run_eval, run_checkup)} == {'carve-small'}
    assert ','.join(signature(run_eval).parameters['methods'].default) == 'none,random,lookup'
    question = make_scene(145).question('digit').question
    assert main(['ask']) == 0
    out, err = capsys.readouterr()
    assert out == '2\n' and err.startswith(f'carve: note: scene 145, which we chose: {question}\ncarve: note: baseline: "8"')
    assert main(['map', '--out', str(tmp_path/'S.png')]) == 0 and question in capsys.readouterr().err


def test_methods_are_listed(capsys):
    assert main(['methods', '--json']) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [r for r in rows if r['method'] == 'carve'] and {'category', 'source'} <= set(rows[0])
    assert main(['methods']) == 0
    listed = {l.split()[0] for l in capsys.readouterr().out.splitlines()}
    assert {'carve', 'none', 'rel-att', 'vcd', 'oracle'} <= listed


def test_fields_are_explained_where_people_look(capsys, monkeypatch):
    "`carve methods NAME` and `help` show each field with default, meaning and range; no field of a method lacks a meaning"
    monkeypatch.setenv('COLUMNS', '300')
    assert main(['methods', 'lookup']) == 0
    line, = [line for line in capsys.readouterr().out.splitlines() if line.startswith('p ')]
    assert line.split(None, 2) == ['p', '0.04', 'kept share of the pixels; above 0 to 1']
    for method in methods().values():
        assert all(meaning for _, _, meaning in field_table(method)[1:]), method
    text = inspect.getdoc(methods()['lookup'])
    assert 'p = 0.04: kept share of the pixels; above 0 to 1' in text and 'Source: arXiv 2509.06461' in inspect.getdoc(methods()['carve'])
    assert main(['methods', 'lokup']) == 2 and 'perhaps lookup' in capsys.readouterr().err


def test_errors_know_their_status(capsys):
    "Bad input gives status 2, all other errors of this package and of others 1"
    from carve_nb.cli.main import print_error
    from carve_nb.core.errors import IncompleteError, StatisticsError
    assert [print_error(e('x')) for e in (StatisticsError, IncompleteError, ValueError, KeyError)] == [2, 1, 1, 1]
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ['carve: error: x']*2 and all('--debug' in l for l in lines[2:])
