"""Trace the steps of one call of `Carve()`, and the way of what is asked from `Lookup` to the answer.

`python -m recipes.what_runs` prints the table of `nbs/tutorials/what_runs.ipynb`; a second."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
import carve_nb
from carve_nb import VLM, Carve, Lookup, make_scene
from carve_nb.attention.session import Session
from carve_nb.core.errors import CarveError
from carve_nb.method.base import CropMethod, Method
from carve_nb.models.prompts import Ask, Prompt
from carve_nb.runs.report import markdown_table

ROOT = Path(carve_nb.__file__).parent
STEPS = {  # the functions of one call, in the order in which they are entered -> what each does
    Method.__call__: 'takes a model or a session, and refuses a model that lacks the layers of the method',
    Method.asked: 'opens the image and makes the `Ask`, which nothing changes any more',
    CropMethod.look: 'does all that comes before the last question',
    Carve.locate: 'returns a `Look`: the map S, and the attention rows that led to it',
    Session.capture: 'asks the model under the question, then under the general instruction; remembers both',
    Carve.contrast: 'divides one map by the other',
    CropMethod.show: 'cuts the crop of the regions that `select` chose of the map',
    CropMethod.ask_again: 'asks with the crop, unless the baseline is sure of its answer',
    Session.ask: 'answers what is asked, once',
    Method.finish: 'adds what changes what the answer means, and what it took',
}


def trace(call: Callable) -> list[CodeType]:
    "Return the functions of the package that a call passes, in the order in which they are first entered"
    entered = {}

    def note(frame, event, arg):
        code = frame.f_code
        if event == 'call' and code.co_filename.startswith(f'{ROOT}/') and code.co_name[0] != '<':
            entered[code] = True

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return list(entered)


def trace_carve() -> list[CodeType]:
    "Trace `Carve()` on the running scene"
    vlm, scene = VLM.from_pretrained('carve-small'), make_scene(145)
    question = scene.question('digit').question
    return trace(lambda: Carve(query='noun')(vlm, scene.image, question))


def step_table(entered: list[CodeType]) -> str:
    "Write the steps with file, line and page; they must be among the functions entered, in this order"
    places = [entered.index(step.__code__) for step in STEPS]
    if places != sorted(places):
        raise CarveError(f'The steps are entered in another order: {places}.')
    rows = []
    for number, (step, what) in enumerate(STEPS.items(), 1):
        file = Path(step.__code__.co_filename)
        page = re.search(r'File to edit: (?:\.\./)+nbs/(\S+)\.ipynb', file.read_text(encoding='utf-8'))[1]
        place = f'`{file.relative_to(ROOT)}:{step.__code__.co_firstlineno}`'
        rows.append(
            [str(number), f'`{step.__qualname__}`', place, what, f'[{Path(page).name}](../{page}.ipynb)']
        )
    return markdown_table(rows, ['step', 'function', 'file and line', 'what it does', 'page']).replace(
        '--:', '---'
    )


FLOORS = 'core', 'formulas', 'models', 'attention', 'method'  # a room imports from those before it


def file_of(code: CodeType) -> str:
    "Name the file of a function, '' of one that is not the package's"
    inside = code.co_filename.startswith(f'{ROOT}/') and code.co_name[0] != '<'
    return Path(code.co_filename).relative_to(ROOT).as_posix() if inside else ''


def caller_of(frame: FrameType) -> str:
    "Name the file of the package's function that called another, perhaps through others' code"
    back = frame.f_back
    while back and not file_of(back.f_code):
        back = back.f_back
    return file_of(back.f_code) if back else ''


def trace_asked(call: Callable) -> list[tuple[str, str, str]]:
    "List the functions that are handed an `Ask` or its `Prompt`, as file, name and file of the caller, once each"
    handed = {}

    def note(frame, event, arg):
        code = frame.f_code
        if event != 'call' or not file_of(code) or code.co_name.startswith('__'):
            return
        values = map(frame.f_locals.get, code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
        if any(isinstance(value, Ask | Prompt) for value in values):
            handed.setdefault((file_of(code), code.co_qualname), caller_of(frame))

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return [(file, name, caller) for (file, name), caller in handed.items()]


def trace_lookup() -> list[tuple[str, str, str]]:
    "Trace what is asked by `Lookup` on the running scene, up to the rows and the baseline answer"
    vlm, scene = VLM.from_pretrained('carve-small'), make_scene(145)
    method = Lookup(query='noun')
    ask = method.asked(vlm, scene.image, scene.question('digit').question)
    return trace_asked(lambda: method.locate(Session(vlm), ask))


def climbs(way: list[tuple[str, str, str]]) -> list[str]:
    "Name the functions that a lower room hands what is asked to"

    def floor(file):
        return FLOORS.index(file.split('/')[0])

    return [name for file, name, caller in way if caller and floor(file) > floor(caller)]


def way_table(way: list[tuple[str, str, str]]) -> str:
    "Write the way as a row for each stay in a file"
    stays: list[tuple[str, list[str]]] = []
    for file, name, _ in way:
        if not stays or stays[-1][0] != file:
            stays.append((file, []))
        stays[-1][1].append(f'`{name}`')
    rows = [[f'`{file}`', ', '.join(names)] for file, names in stays]
    return markdown_table(rows, ['file', 'functions']).replace('--:', '---')


if __name__ == '__main__':
    print(step_table(trace_carve()))
