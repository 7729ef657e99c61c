"The command `carve`, as a shell sees it."

import json
import os
import re
import shlex
import subprocess
import sys
import pytest
from PIL import Image
from processes import ROOT, run
from carve_nb.attention.vlm import VLM
from carve_nb.core.io import tame_terminal
from carve_nb.data.scenes import make_scene
from carve_nb.method.lookup import Lookup
from carve_nb.method.registry import methods
from carve_nb.method.settings import field_table


@pytest.fixture
def photo(tmp_path):
    from skimage import data

    Image.fromarray(data.astronaut()[:300]).save(tmp_path / 'photo.jpg')  # 512 x 300
    return tmp_path / 'photo.jpg'


@pytest.fixture
def models(folders, tmp_path):
    "The folders `llava` and `qwen2_5_vl` in the folder of the test"
    for family in 'llava', 'qwen2_5_vl':
        (tmp_path / family).symlink_to(folders(family))


LIGHT = '''
import json, os, sys
import carve_nb.data.datasets, carve_nb.runs.pages     # of those that commands import, the slow ones, without torch
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
    with subprocess.Popen(
        [sys.executable, '-c', LIGHT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as server:

        def ask(words, **env):
            out, err = place / 'out', place / 'err'
            print(json.dumps([shlex.split(words), str(out), str(err), env]), file=server.stdin, flush=True)
            answer = int(server.stdout.readline()), out.read_text(), err.read_text()
            out.unlink(), err.unlink()
            return answer

        yield ask


def test_help_is_light():
    "Help loads nothing heavy, and little: 384 modules take about 0.2 s of a free core, and a count is the same on a busy one"
    code = 'import sys; from carve_nb.cli.main import main; main(["--help"]); print(sorted({"torch", "numpy", "PIL"} & set(sys.modules)), len(sys.modules))'
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    heavy, count = out.stdout.splitlines()[-1].rsplit(' ', 1)
    assert out.returncode == 0
    assert 'Usage: carve' in out.stdout
    assert heavy == '[]'
    assert int(count) < 450, count


ASK = 'ask nbs/images/size.png What?'


@pytest.mark.parametrize(
    'words, sentence',
    [
        (f'{ASK} --model nothing/', "'nothing/' is neither a folder nor a Hub id"),
        ('eval scenes --methods ,', 'no method is named; give one, such as lookup'),
        ('eval scenes --methods lookup,foo', "'foo' is not known"),
        (f'{ASK} --method rel-at', 'perhaps rel-att'),
        (f'{ASK} --method carve:pp=.1', "field of carve 'pp' is not known; perhaps p; `carve methods carve`"),
        (f'{ASK} --method carve:p=.1,min_side=3', 'each after a colon, such as carve:p=.1:K=2'),
        ('eval scenes --methods carve:p=.1,min_side=3', 'each after a colon, such as carve:p=.1:K=2'),
        (
            'eval textvqaa',
            'perhaps textvqa or textvqa-boxes; it is no file or folder either; `carve eval` lists the sets',
        ),
        (f'{ASK} --dtype float8', "'float8' is not one of 'auto', 'bf16'"),
        ('aks', "Did you mean 'ask'"),
        (f'{ASK} --min-side .3', "--method lookup:min_side=96 or random:of='carve:p=.1'"),
        (f'{ASK} --p .1', '--method lookup:min_side=96'),
        (f'{ASK} --map m.pdf', 'the folder of ask --out DIR'),
        ('--model carve-tiny', 'options come after a command, as in carve ask --model M'),
        (f'{ASK} --import nbs/images/size.png', 'size.png is no file of Python; its name ends in .py'),
        ('eval scenes --workers 2 --import nbs/tutorials/my_method.py', 'leave --workers out'),
        ('ask nbs/images/size.png Who is it?', 'in quotation marks'),
        ('eval scenes carve-tiny', 'write --model carve-tiny'),
        ('eval scenes --methods none lookup', 'joined by commas, as --methods none,lookup'),
        ('checkup photos', 'given as --data FOLDER'),
        ('explore --port 8899', 'it takes --no-browser, --model'),
        ('methods carve lookup', 'it takes no option'),
        ('checkup --n 0', "Invalid value for '--n': "),
        ('checkup --images nowhere', "'nowhere' does not exist"),
        ('eval nosuchfolder', 'it is no file or folder either'),
        (f'{ASK} --method none --box 40 40 10 10', 'other methods take no --box'),
        ('ask photo.jpg photo.jpg "Who is this?" --method oracle', 'oracle takes one image'),
        (f'{ASK} --out tests', 'tests is there already and would be lost; name another --out'),
        ('report tests', 'holds no run'),
        ('eval scenes --ray-address auto', 'goes with --workers'),
    ],
)
def test_refused_before_torch(words, sentence, light):
    "What is wrong with the words alone is said in one line before torch is imported, with what may have been meant"
    status, out, err = light(words)
    assert (status, out) == (2, ''), err
    assert err.count('\n') == 1, err
    assert sentence in err, err
    assert err.lower().count('did you mean') + err.count('perhaps') < 2


@pytest.mark.parametrize('words', ['eval scenes --n 2', 'checkup --n 2', 'ask --out seen'])
def test_a_model_that_is_not_there_leaves_no_folder(words, shell, tmp_path):
    status, _, err = shell(f'{words} --model nosuch/model')
    assert status
    assert 'nosuch/model' in err
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize('columns', [60, 100])
def test_help_fits(columns, light):
    "No line is wider than the terminal, and NO_COLOR is kept"
    for words in '--help', 'eval --help', 'methods', 'families':
        out = light(words, COLUMNS=str(columns), NO_COLOR='1')[1]
        assert out, words
        assert '\x1b' not in out, words
        assert max(map(len, out.splitlines())) <= columns, words


def test_shell_completion(light):
    "A shell is offered commands, options and names"
    for words, offer in (
        ('ev', 'eval'),
        ('checkup --im', '--images'),
        ('ask a.jpg What --method rel', 'rel-att'),
    ):
        count = str(len(words.split()))
        out = light('', _CARVE_COMPLETE='complete_bash', COMP_WORDS=f'carve {words}', COMP_CWORD=count)[1]
        assert offer in out.split(), (words, out)


def test_lists_are_light(light):
    "Tables of what is known come without torch; a family is found by a Hub id"
    assert light('methods')[::2] == (0, '') and 'sharing' in light('families')[1]
    status, out, err = light('families Qwen/Qwen2.5-VL-3B-Instruct')
    assert (status, err) == (0, '') and re.search('family +qwen2_5_vl', out), out


def test_one_default(shell):
    "Without a word `ask` shows `lookup` on `carve-small` about scene 145, and says that it was hand-picked"
    status, out, err = shell('ask')
    assert (status, out) == (0, '2\n')
    assert err.startswith(
        'carve: note: scene 145, hand-picked: What digit is on the orange heart?\nbaseline: "8"'
    )


@pytest.mark.skipif(os.name == 'nt', reason='`make pytest` on Linux or macOS runs it')
def test_ask_on_a_terminal(models, photo, tmp_path):
    "A terminal and a pipe get the same: the answer, and on the standard error both answers and where was looked; a folder has all of it"
    ours, theirs = os.openpty()
    words = 'ask', 'photo.jpg', 'Who is this?', '--model', 'llava'
    done = run(*words, '--out', 'o', out=os.ttyname(theirs), cwd=tmp_path)
    os.close(theirs)
    assert done.returncode == 0, done.stderr
    with open(ours, 'rb', buffering=0) as f:
        out = f.read(10_000).decode().replace('\r', '')
    facts = json.loads((tmp_path / 'o' / 'answer.json').read_text())
    assert out == tame_terminal(facts['answer'], '\n\t') + '\n'
    assert f'crop ({", ".join(map(str, facts["crop"]["box"]))})' in done.stderr
    assert '\nlookup: "' in done.stderr
    assert sorted(os.listdir(tmp_path / 'o')) == ['answer.json', 'crop.png', 'result.png']


def test_several_images(shell):
    "Which image, the region in it, and both answers"
    question, names = 'What digit is on the blue cross?', ['3.png', '0.png']
    for seed, name in zip((3, 0), names):
        make_scene(seed).image.save(name)
    want = Lookup()(VLM.from_pretrained('carve-small'), names, question)
    status, out, err = shell(f'ask 3.png 0.png "{question}" --out r')
    facts = json.load(open('r/answer.json'))
    assert (status, out) == (0, f'{want}\n')
    assert facts['image'] == 1
    assert facts['images'] == 2
    assert facts['crop']['box'] == list(want.crop.box)
    for part in f'baseline: "{want.plain_answer}"', f'crop {want.crop.box}', 'image 2 of 2: ':
        assert part in err


def test_a_pipe_gets_the_answer_and_what_it_means(shell):
    "The bare answer goes to the standard output; what changes its meaning, words that the model does not know, to the standard error and the JSON"
    question, note = 'What is the zebra doing?', "This model does not know the words 'zebra', 'doing'."
    make_scene(145).image.save('s.png')
    status, out, err = shell(f'ask s.png "{question}" --out r')
    facts = json.load(open('r/answer.json'))
    assert (status, out) == (0, facts['answer'] + '\n')
    assert f'\nbaseline: "{facts["plain_answer"]["text"]}" (confidence 0.' in err
    assert err.startswith('carve: note: carve-small is a small model that we trained on synthetic scenes')
    assert note in facts['notes'] and err.count(note) == 1


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='`make pytest` on Linux runs it')
def test_results_are_not_lost(models, photo, shell, tmp_path):
    "A folder that cannot be made is an error after the answer was printed; a name that is no text is printed with backslashes, also where the output is strict"
    status, out, err = shell('ask photo.jpg "Who is this?" --model llava --method none --out /proc/x')
    assert status == 1
    assert out.strip()
    assert '/proc/x' in err.splitlines()[-1]
    name = os.fsdecode(b'S\xff.jpg')
    done = run('ask', 'none' + name, 'Who is this?', '--model', 'llava', errors='strict', cwd=tmp_path)
    assert done.returncode == 2 and r'noneS\udcff.jpg cannot be opened' in done.stderr, done.stderr


def test_nobody_reads():
    "`carve methods | head -1`: the end of the pipe is the end, without a word"
    p = subprocess.Popen(
        [sys.executable, '-m', 'carve_nb.cli.main', 'methods'], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    p.stdout.close()
    err = p.stderr.read()
    assert (p.wait(), err) == (1, b'')


def test_report_again(models, shell, monkeypatch):
    "`carve report` makes the tables of a run again, of one, or of a run and a result.json side by side"
    monkeypatch.setenv('COLUMNS', '200')
    status, out, err = shell('eval scenes --n 2 --methods none,random,carve,lookup --model llava --out a')
    assert status == 0 and 'accuracy, %' in out, err
    status, again, _ = shell('report a')
    tables = again.split('written to')[0]
    assert status == 0 and 'accuracy, %' in tables and tables in out
    status, both, _ = shell('report a a/result.json')
    rows = [
        re.split('  +', line.strip())
        for line in both.splitlines()
        if re.search(r'  a(/result\.json)?  ', line)
    ]
    assert status == 0 and [row[1] for row in rows] == ['a'] * 4 + ['a/result.json'] * 4
    assert [row[2:5] for row in rows[:4]] == [row[2:5] for row in rows[4:]]  # accuracy, n, gain
    os.rename('a', 'carve-tiny')
    assert shell('report carve-tiny')[0] == 0  # what is there is meant, not the model of that name


def test_a_part_without_images(models, shell):
    "More parts than images: the part says so, and ends well"
    status, out, err = shell('eval scenes --n 1 --methods none --model llava --out R --part 2/2')
    assert (status, out) == (0, '') and 'part 2/2 holds no images' in err, err


def test_demo(monkeypatch, shell):
    "Four scenes with both answers and the truth, 24 answers asked again, and the table of the stored runs at the end, whole in a narrow terminal too; a page with the images"
    monkeypatch.setenv('COLUMNS', '60')
    os.mkdir('scenes')  # of the user's; the demo never reads it
    status, out, err = shell('demo --out D')
    assert (status, err) == (0, '') and out.count(' without a crop, ') == out.count('truth: "') == 4
    assert '24 of 24 answers of carve-small are the stored ones' in out
    first, *table = out[out.index('Accuracy in %') :].splitlines()
    assert 'n = 300: the first held-out scenes' in first and 'n = 300' in open('D/demo.html').read()
    assert any(
        line.startswith('lookup ') and '78.7 [73.7, 82.9]' in line and '67.3' in line for line in table
    )
    assert '"8" without a crop, "2" with the crop of lookup; truth: "2"' in out
    assert 'D is there already' in shell('demo --out D')[2]


def test_image_tokens(models, photo, shell):
    "Fewer tokens where the processor keeps an image's own pixels; said in a note"
    status, _, err = shell(
        'ask photo.jpg "Who is this?" --model qwen2_5_vl --max-new-tokens 2 --image-tokens 24'
    )
    assert status == 0 and err.count('Resolution: at most 24 tokens for each image') == 1


@pytest.fixture
def profiles(tmp_path, monkeypatch):
    "The folder of profiles"
    monkeypatch.setenv('CARVE_PROFILES', str(tmp_path / 'profiles'))


def test_the_shell_tells_what_changes_an_answer(models, photo, profiles, shell):
    "That the image's edges are cut off, that no query token of this model is known and that an answer was cut: `ask` on stderr, `eval` and `report` under the table, with counts"
    err = shell('ask photo.jpg "What is this?" --model llava --max-new-tokens 2')[2]
    assert 'the model sees 59% of the image' in err and err.count('cut at 2 tokens') == 1
    assert 'no query token of this model is known, so the last position was read' in err
    run_out = shell('eval scenes --n 2 --methods none,lookup --model llava --max-new-tokens 2 --out R')[1]
    lines = (
        '`lookup`, 2 of 2: no query token of this model is known, so the last position was read: `carve checkup` finds one',
        '`none`, 2 of 2: the answer was cut at 2 tokens: max_new_tokens gives it more',
        '`lookup`, 2 of 2: the answer was cut at 2 tokens: max_new_tokens gives it more',
    )
    for text in run_out, shell('report R')[1], open('R/table.md').read():
        words = ' '.join(text.split())  # lines break at the terminal's width
        assert all(words.count(line) == 1 for line in lines) and words.count('cut at') == 2, text


@pytest.mark.parametrize(
    'family, note', [('llava', 'no number of tokens to set'), ('qwen2_5_vl', 'own limit is lower')]
)
def test_eval_of_a_folder(models, photos, tmp_path, shell, monkeypatch, family, note):
    "Somebody's checkpoint, somebody's questions, the paper's resolution: tables on the standard output, the rest on the other"
    monkeypatch.delenv('COLUMNS', raising=False)  # a pipe is as wide as the table
    status, out, err = shell(
        f'eval {photos} --model {family} --methods none,paper,rel-att --image-tokens 256 --max-new-tokens 2 --n 3 --out o'
    )
    assert status == 0, err
    assert 'Resolution: ' in err, err
    assert note in err, err
    assert out.startswith(f'{photos.name}, ') and all(f'\n{m} ' in out for m in ('none', 'paper', 'rel-att'))
    assert {'records.jsonl', 'accuracy.png', 'results.csv'} <= {*os.listdir('o')}
    assert '| rel-att |' in open('o/table.md').read() and '<section' in open('o/answers.html').read()
    assert str(tmp_path) not in open('o/protocol.json').read()


def test_eval_says_where_the_answers_are_that_a_packaged_model_knows_no_photographs(photos, shell):
    knows = 'carve-tiny is a small model that we trained on synthetic scenes; it knows nothing else'
    for data, count in (photos, 1), ('scenes', 0):
        out = shell(f'eval {data} --model carve-tiny --methods none --n 2 --out {count}')[1]
        for text in out, open(f'{count}/table.md').read(), open(f'{count}/answers.html').read():
            assert ' '.join(text.split()).count(knows) == count, text


def test_fields_carry_text(models, photos, photo, shell):
    "A text with commas, colons and quotation marks is one value, in a shell and beside other methods of a run, which is taken up"
    words = f'eval {photos} --model qwen2_5_vl --n 1 --max-new-tokens 1 --out o --methods'
    for _ in range(2):
        assert shell(words, '''none,carve:instruction="Describe: it's all, please"''')[0] == 0
    protocol = json.load(open('o/protocol.json'))
    assert [m.get('instruction') for m in protocol['methods'].values()] == [
        None,
        "Describe: it's all, please",
    ]
    assert shell('report o')[0] == 0
    assert (
        shell(
            'ask photo.jpg "What is the green square?" --model qwen2_5_vl --method',
            "carve:query=['green', 'square']",
        )[0]
        == 0
    )


def test_a_failure_is_measured_again(models, photos, tmp_path, shell):
    "A question whose image is gone fails the run, whose tables are there; the same command measures it when it is back"
    import shutil

    mine = shutil.copytree(photos, tmp_path / 'mine')
    (mine / 'coffee.jpg').rename(tmp_path / 'coffee.jpg')
    words = 'eval mine --model llava --methods none --max-new-tokens 1 --out o'
    status, out, err = shell(words)
    assert status == 1
    assert '1 of 10 answers could not be measured' in err
    assert 'the same command' in err
    assert 'accuracy' in out
    (tmp_path / 'coffee.jpg').rename(mine / 'coffee.jpg')
    assert shell(words)[0] == 0 and len({json.loads(line)['id'] for line in open('o/records.jsonl')}) == 10


def test_a_method_of_ones_own(tmp_path):
    "`--import` makes the method of the tutorial's file one that `ask` and `eval` know by its name"
    file = ROOT / 'nbs/tutorials/my_method.py'
    words = '--import', file, '--model', 'carve-tiny'
    (tmp_path / 'capital.py').write_text(file.read_text().replace("'my-method'", "'My-Method'"))
    named = '--methods', 'none,My-Method', '--import', 'capital.py', *words[2:]
    done = run('eval', 'scenes', '--n', 2, *named, '--out', 'R', cwd=tmp_path)
    assert done.returncode == 0 and '\nMy-Method ' in done.stdout, done.stderr
    make_scene(0).image.save(tmp_path / 's.png')
    asked = 'ask', 's.png', 'What digit is on the blue cross?', '--method', 'my-method'
    done = run(*asked, *words, cwd=tmp_path)
    assert done.returncode == 0 and '\nmy-method: "' in done.stderr, done.stderr
    assert 'the crop was ' in done.stderr and '--out DIR draws image, map and crop' in done.stderr
    assert 'is not known' in run(*asked, cwd=tmp_path).stderr


def test_fields_are_explained_where_people_look(shell, monkeypatch):
    "`carve methods NAME` shows each field with default, meaning and range; no field of a method lacks a meaning"
    monkeypatch.setenv('COLUMNS', '300')
    (line,) = [line for line in shell('methods lookup')[1].splitlines() if line.startswith('p ')]
    assert re.split('  +', line.strip()) == [
        'p',
        '0.04',
        'kept share of the pixels',
        'a number, above 0 and at most 1',
    ]
    for method in methods().values():
        assert all(meaning for _, _, meaning, _ in field_table(method)[1:]), method
    assert 'perhaps lookup' in shell('methods lokup')[2]
