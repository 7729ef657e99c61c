"""What a notebook shows: every public object through IPython's display formatter, in a kernel, with no error
behind it."""

import ast
from inspect import signature
import pytest
from fastcore import docscrape
from processes import execute, fork_kernels
from carve_nb import (
    VLM,
    AttentionRows,
    Saliency,
    add_family,
    explore,
    load_benchmark,
    make_method,
    make_scene,
    open_image,
    profile_model,
    record_attention,
    run_eval,
)

# The cell that makes the objects; then a cell for each that is public, and for what public functions return.
MAKE = """
from carve_nb import *
vlm = VLM.from_pretrained('carve-tiny')
scene = make_scene(16)
query = scene.question('digit')
image, question = scene.image, query.question
result = Carve()(vlm, image, question)
rows = vlm.capture(image, question)
inputs = vlm.prompt(image, question).inputs
with record_attention(vlm.model, vlm.processor, dict(inputs), images=[image]) as recorded:
    vlm.model.generate(**inputs, max_new_tokens=2)
data = load_benchmark('scenes', n=4)
"""
SHOWN = """
vlm
vlm.prompt(image, question)
vlm.ask(image, question)
scene
query
data
data[0]
rows
recorded
rows.saliency(layers=(.2, .5))
rows.spans[0]
result
result.saliency
result.crop
result.regions[0]
result.rows
Carve()
Carve.paper()
methods()
make_method('pure-grad')
make_method('random')
make_method('vrga')
Complexity(.1, .4)
Carve()(vlm, [image, make_scene(7).image], question)
Endpoint('http://localhost:1', 'a-model')
explore(vlm, image, question)
measure_entropy(vlm, data[:2], progress=False)
measure_layers(vlm, data[:2], progress=False)
measure_masking(vlm, data[:2], progress=False)
""".split('\n')[1:-1]


@pytest.fixture(scope='module')
def notebook():
    "The notebook of these cells, run"
    with pytest.MonkeyPatch.context() as m:
        fork_kernels(m)
        return execute([MAKE, *SHOWN], timeout=600, allow_errors=True)


def test_no_object_fails_to_show_itself(notebook):
    outputs = [(cell.source, output) for cell in notebook.cells for output in cell.outputs]
    assert [(source, o.evalue) for source, o in outputs if o.output_type == 'error'] == []
    assert [(source, o.text) for source, o in outputs if 'Traceback' in o.get('text', '')] == []


def test_every_object_has_a_display(notebook):
    bare = [cell.source for cell in notebook.cells[1:] if not any('data' in o for o in cell.outputs)]
    assert bare == []


def asked(function):
    "What `function?` prints in IPython"
    from IPython.core.oinspect import Inspector

    return Inspector(theme_name='nocolor').info(function, oname=function.__qualname__)['docstring']


OBJECTS = {'self', 'cls', 'stock', 'rows', 'S'}  # that a method belongs to, which nobody types
EXPLAINED = [
    VLM.from_pretrained,
    VLM.ask,
    VLM.prompt,
    VLM.generate,
    VLM.capture,
    AttentionRows.read,
    AttentionRows.saliency,
    Saliency.plot,
    Saliency.points_at,
    record_attention,
    open_image,
    add_family,
    make_scene,
    load_benchmark,
    profile_model,
    make_method,
    run_eval,
    explore,
]


@pytest.mark.parametrize('function', EXPLAINED, ids=lambda function: function.__qualname__)
def test_question_mark_explains_parameters(function):
    "`VLM.ask?` names and explains each parameter, and has a line to copy that parses"
    docstring = docscrape.NumpyDocString(asked(function))
    given = {
        f'{"**" if p.kind is p.VAR_KEYWORD else ""}{name}'
        for name, p in signature(function).parameters.items()
    }
    assert {p.name: bool(p.desc) for p in docstring['Parameters'].values()} == dict.fromkeys(
        given - OBJECTS, True
    )
    ast.parse(docstring['Examples'].removeprefix('>>> '))
