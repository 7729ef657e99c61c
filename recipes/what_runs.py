"""Trace the steps of one call of `Carve()`, and the functions behind each line of the book's program.

`python -m recipes.what_runs` prints the lists of `nbs/tutorials/what_runs.ipynb`; a second."""
import ast
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from fastcore.script import call_parse
import carve_nb
from carve_nb import VLM, Carve, make_scene
from carve_nb.core.errors import CarveError
from carve_nb.core.text import GENERAL_INSTRUCTION, SHORT_ANSWER
from carve_nb.runs.report import markdown_table
from . import program as program_file
from .program import program

ROOT = Path(carve_nb.__file__).parent

@dataclass(frozen=True)
class Passed:
    """A function that a call passes: its name, file and first line, and the line of the caller under which it
    was first entered"""
    name: str
    file: str
    line: int
    under: int
    @property
    def page(self) -> str:
        "The notebook, below `nbs`, that the function is exported from"
        above = (ROOT/self.file).read_text(encoding='utf-8').splitlines()[:self.line]
        cells = re.findall(r'# %% (?:\.\./)+nbs/(\S+\.ipynb)', '\n'.join(above))
        return cells[-1] if cells else ''

def lines_under(frame: FrameType|None, caller: CodeType) -> int:
    "Return the line at which the caller stands while a frame below it runs; 0 if the frame is not below it"
    while frame and frame.f_code is not caller: frame = frame.f_back
    return frame.f_lineno if frame else 0

def trace(call: Callable, caller: CodeType) -> list[Passed]:
    "Return the functions of the package that a call passes, in the order in which they are first entered"
    passed = {}
    def note(frame, event, arg):
        code = frame.f_code
        if event != 'call' or not code.co_filename.startswith(f'{ROOT}/') or code.co_name.startswith('<'):
            return
        file = str(Path(code.co_filename).relative_to(ROOT))
        key = code.co_qualname, file
        if key not in passed: passed[key] = Passed(*key, code.co_firstlineno, lines_under(frame, caller))
    sys.setprofile(note)
    try: call()
    finally: sys.setprofile(None)
    return list(passed.values())

def program_lines() -> dict:
    "Return the lines of the program: number -> (its code, the chapters that its comment names)"
    text = Path(program_file.__file__).read_text(encoding='utf-8')
    function, = (node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef))
    lines = {node.lineno: text.splitlines()[node.lineno - 1] for node in function.body}
    return {number: (line.partition('#')[0].strip(), re.findall(r'\d+', line.partition('#')[2]))
        for number, line in lines.items()}

def trace_both() -> tuple[list[Passed], list[Passed]]:
    "Trace the program of the book and `Carve()` on the running scene"
    vlm = VLM.from_pretrained('carve-small')
    scene = make_scene(145)
    image = scene.image
    question = scene.question('digit').question
    texts = (question, SHORT_ANSWER), (GENERAL_INSTRUCTION, SHORT_ANSWER)
    own = trace(lambda: program(vlm, image, *texts), program.__code__)
    return own, trace(lambda: Carve(query='noun')(vlm, image, question), Carve.__call__.__code__)

def chapter_links(chapters: list[str]) -> str:
    "Return links to some chapters of the book"
    pages = sorted(Path(__file__).parents[1].glob('nbs/0*.ipynb'))
    return ', '.join(f'[{c}](../{pages[int(c) - 1].name})' for c in chapters)

def program_list(own: list[Passed]) -> str:
    """Write each line of the program with the chapters that explain it, and the files that run it with the
    first function in each"""
    lines = []
    for number, (code, chapters) in program_lines().items():
        first = {p.file: p for p in reversed(own) if p.under == number}
        entered = [f'`{p.file}` (`{p.name}`)' for p in own if p in first.values()]
        lines.append(
            f'- `{code}`, chapter {chapter_links(chapters)}: {", ".join(entered) or "no function of the package"}')
    return '\n'.join(lines)

STEPS = {    # the functions of one call, in the order in which they are entered -> what each does
    'Method.__call__': 'takes a model or a session, and refuses a model that lacks what the method needs',
    'Method.asked': 'opens the image and makes the `Ask`, which nothing changes any more',
    'CropMethod.look': 'does all that comes before the last question',
    'Carve.locate': 'returns a `Look`: the map S, and the attention rows that led to it',
    'Session.capture': 'asks the model under the question, then under the general instruction; remembers both',
    'Carve.contrast': 'divides one map by the other',
    'CropMethod.crop_out': 'chooses regions of the map, cuts their crop, and begins the `Result`',
    'CropMethod.ask_again': 'asks with the crop, unless the baseline is sure of its answer',
    'Session.ask': 'answers what is asked, once',
    'Method.finish': 'adds what changes what the answer means, and what it took'}

def step_table(whole: list[Passed]) -> list[list[str]]:
    "Return the steps of one call with file, line and page; they must be among the functions passed, in this order"
    at = {p.name: place for place, p in reversed([*enumerate(whole)])}
    places = [at[name] for name in STEPS]
    if places != sorted(places): raise CarveError(f'The steps are entered in another order: {places}.')
    rows = [['step', 'function', 'file and line', 'what it does', 'page']]
    for number, (name, what) in enumerate(STEPS.items(), 1):
        p = whole[at[name]]
        rows.append([str(number), f'`{name}`', f'`{p.file}:{p.line}`', what, f'[{Path(p.page).stem}](../{p.page})'])
    return rows

def left_table(rows: list[list[str]]) -> str:
    "Write a table in Markdown whose columns are all aligned to the left"
    head, *body = rows
    return markdown_table(body, head).replace('--:', '---')

@call_parse
def main():
    "Print both"
    own, whole = trace_both()
    print(program_list(own), left_table(step_table(whole)), sep='\n\n')
