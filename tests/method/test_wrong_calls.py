"""What a person may write in the first hour, and the sentence that each wrong call gets: one line that says
what was wrong and what to write."""

import numpy as np
import pytest
import torch
from carve_nb import (
    VLM,
    Carve,
    Family,
    Lookup,
    Saliency,
    check_method,
    load_benchmark,
    make_method,
    make_scene,
    run_eval,
)
from carve_nb.attention.edits import Edit, applying
from carve_nb.attention.session import Session
from carve_nb.core.errors import CarveError
from carve_nb.method.controls import RandomCrop
from carve_nb.method.crop import box_regions

SCENE = make_scene(3, 'heldout')
IMAGE, QUESTION = SCENE.image, 'What digit is on the red star?'
FIRST = 'Give the model first, a VLM such as VLM.from_pretrained(...), then the image, then the question'
THEN = 'Give the image first, then the question'

CALLS = {  # Python that is wrong -> words of its sentence
    # the order of model, image and question
    'Lookup()(image, vlm, question)': FIRST,
    'Lookup()(path, vlm, question)': FIRST,
    'Lookup()(vlm, question, image)': THEN,
    'Lookup()(vlm, image, None)': THEN,
    'Lookup()(vlm, image, 3)': THEN,
    'vlm.ask(question, image)': THEN,
    # a name, or a model of transformers, in the place of a model
    "Lookup()('carve-small', image, question)": FIRST,
    "VLM('carve-small')": "VLM.from_pretrained('carve-small') loads it",
    'Lookup()(vlm.model, image, question)': 'the first argument is a LlavaForConditionalGeneration',
    'VLM(vlm.model)': 'the processor a NoneType',
    'VLM.from_pretrained(vlm.model)': 'give a loaded model to VLM(model, processor)',
    "VLM.from_pretrained('carve-tiny', device='gpu')": "name 'cpu', 'cuda', 'cuda:1' or 'mps'",
    # a scene in the place of its image, a file in the place of a size
    'vlm.ask(scene, question)': 'Scene is not an image: pass its .image',
    "result.plot('x.png')": "`.plot().save('x.png')`",
    "result.saliency.plot('x.png')": "`.plot().save('x.png')`",
    'Session(image)': FIRST,
    # fields
    'Lookup(layer=3)': 'perhaps layers; help(Lookup) lists all',
    "make_method('lookup:layer=3')": 'perhaps layers',
    "Lookup(layers='deep')": "layers='deep' is not known",
    'Carve(p=4)': 'p=4: use a number, above 0 and at most 1',
    "RandomCrop(of='vcd')": 'give a method that crops',
    "make_method('random:p=.2')": 'help(RandomCrop) lists all',
    "make_method('lookupp')": 'perhaps lookup',
    'make_method(int, p=1)': "<class 'int'> is no method",
    'Lookup(query=[])': "query=[]: use 'last'",
    'Lookup(query=[3])': 'or a list of words',
    'Lookup(layers=[True])(vlm, image, question)': 'layers [True] do not exist',
    "type('Mine', (Lookup,), dict(name='mine', category='mine'))": "category of Mine 'mine' is not known",
    "Family('mine', thumbnail='First')": "thumbnail of mine 'First' is not known; perhaps first",
    'Lookup(image, question)': 'Make the method first, then call it',
    'rows.saliency(heads=99)': 'the model has 4 heads, 0 to 3',
    'rows.saliency(heads=[True])': 'heads [True] do not exist',
    'rows.saliency(99)': 'No rows of [99]: those that were read are',
    'rows.saliency([1, None])': 'No rows of [1, None]: those that were read are',
    'rows.lay(rows.attn[0][..., :-1])': 'give one for each, such as rows.attn[0]',
    "rows.only(None, 'last')": "capture with steps='last' or 'all'",
    "vlm.capture(image, question, steps='last').only(None, 'first')": "capture with steps='first' or 'all'",
    "ask_under(Edit([0], weights=keep, after=10**6))": 'Positions [1000000] of the edit were not read',
    'box_regions([(0, 0, 5, 5), (5, 5, 9, 9)], (10, 10), [0.5])': '1 scores for 2 boxes',
    # settings of a model
    "VLM.from_pretrained('carve-tiny', max_pixels=1_003_520)": 'image_tokens=256 limits the size of images',
    "VLM.from_pretrained('carve-tiny', dtype='bf15')": "use 'auto' (as saved), 'bfloat16'",
    # a region
    "make_method('oracle')(vlm, image, question)": 'give box=(left, top, right, bottom)',
    "make_method('oracle')(vlm, image, question, box=(.1, .1, .3, .3))": 'does not lie in the image of 448 x 448',
    'result.plot(box=(1, 2))': 'give left, top, right and bottom in pixels',
    "result.saliency.points_at('heart')": 'give left, top, right and bottom in pixels',
    'result.saliency.auroc([])': 'No true region: give a list of boxes',
    'result.saliency.auroc((1, 2, 3, 4))': 'give left, top, right and bottom in pixels',
    # what was asked
    'Lookup()(vlm, folder, question)': 'is a folder: give the file of one image',
    'Lookup()(vlm, image, question, by=vlm.model)': 'by=LlavaForConditionalGeneration(',
    "run_eval(vlm, folder, 'none')": 'Give the questions first, then the model',
    "load_benchmark(folder, columns=['question'])": "such as columns=dict(question='text')",
    "Lookup()(vlm, image, ' ')": 'a text that can be seen',
    'Lookup()(vlm, [], question)': 'give at least one',
    'vlm.ask(image.resize((9, 9)).crop((0, 0, 0, 5)), question)': 'The image is 0 x 5 pixels',
    "Lookup()(vlm, image, question, by='gpt-4o')": 'give a VLM, an Endpoint',
    "Lookup()(vlm, [image, image], question, which='best')": 'give contrast or a number',
    'Lookup()(vlm, [image, image], question, which=True)': 'give contrast or a number from 0 to 1',
    'ask_under(Edit([0]))': 'The edit changes nothing: give it a function',
    'run_eval(folder, vlm, Lookup(p=0.1))': "such as 'lookup:p=.1'",
    'run_eval(folder, vlm, [Lookup])': "such as 'lookup:p=.1'",
    "run_eval(folder, vlm, 'none', part=(2, 2))": 'the k-th of n parts, from 0',
    'make_scene(-1)': 'give a whole number from 0',
    'Saliency([[1, 2]], (3, 4), (1, 2))': 'give left, top, right and bottom in pixels',
    "check_method('lookupp', vlm, image, question)": 'perhaps lookup',
    'Lookup()(vlm, image, question, messages=[])': 'Give a question or messages, not both',
    'Carve(layers=[99])(vlm, image, question)': 'layers [99] do not exist',
    "vlm.capture(image, question, steps='frist')": 'perhaps first',
}


@pytest.fixture(scope='module')
def names(tmp_path_factory):
    "What the calls speak of"
    folder = tmp_path_factory.mktemp('photos')
    path = str(folder / 'photo.png')
    IMAGE.save(path)
    (folder / 'questions.csv').write_text(f'image,question,answer\nphoto.png,{QUESTION},2\n')
    vlm = VLM.from_pretrained('carve-tiny')
    result = Lookup()(vlm, IMAGE, QUESTION)
    given = dict(
        vlm=vlm, image=IMAGE, scene=SCENE, result=result, path=path, question=QUESTION, folder=folder
    )
    given |= dict(rows=vlm.capture(IMAGE, QUESTION))

    def ask_under(edit):
        prompt = vlm.prompt(IMAGE, QUESTION)
        with applying(vlm, edit):
            vlm.generate(prompt)

    given |= dict(
        ask_under=ask_under, keep=lambda layer, weights, rows: weights, Edit=Edit, box_regions=box_regions
    )
    called = VLM, Carve, Family, Lookup, Saliency, Session, RandomCrop
    called += check_method, load_benchmark, make_method, make_scene, run_eval
    return given | {each.__name__: each for each in called}


@pytest.mark.parametrize('call', CALLS)
def test_wrong_call(names, call):
    with pytest.raises(CarveError) as error:
        eval(call, names)
    sentence = str(error.value)
    assert CALLS[call] in sentence
    assert '\n' not in sentence and len(sentence) < 300


def test_right_calls(names):
    "A session stands where a model stands, a path where an image stands, and a query token may come first"
    vlm, path = names['vlm'], names['path']
    rows = vlm.capture(names['image'], QUESTION)
    assert (rows.saliency('star').values == rows.saliency(query=['star']).values).all()
    assert rows.saliency(background=path).plot().size == rows.saliency().plot().size
    answers = {
        str(Lookup()(model, image, QUESTION))
        for model in (vlm, Session(vlm))
        for image in (names['image'], path)
    }
    assert len(answers) == 1


def test_numbers_of_numpy_and_torch(names):
    "Layers, heads, tokens and a true region are taken as NumPy and PyTorch have them"
    vlm, rows = names['vlm'], names['rows']
    one, several = np.int64(1), torch.tensor([0, 1])
    assert (rows.read(query=one, layers=one, heads=one) == rows.read(query=1, layers=1, heads=1)).all()
    assert (
        rows.read(query=several, layers=several, heads=several)
        == rows.read(query=[0, 1], layers=[0, 1], heads=[0, 1])
    ).all()
    oracle = make_method('oracle')
    for box in np.array([40, 120, 96, 176]), torch.tensor([40, 120, 96, 176]):
        told = oracle(vlm, IMAGE, QUESTION, box=box)
        assert told.crop.box == oracle(vlm, IMAGE, QUESTION, box=(40, 120, 96, 176)).crop.box


def test_both_names_of_a_packaged_class():
    "Where a module of ones own has another `Carve`, a run of 'carve' would silently be of the package's"
    with pytest.raises(CarveError, match="'carve' is a method of this package; give Carve another name"):
        type('Carve', (Lookup,), dict(name='carve'))


def test_question_last_is_asked_of_another_model_too(names):
    class Other:
        def ask(self, images, question):
            return question

    told = Lookup(question_last=True, skip_above=1)(names['vlm'], IMAGE, QUESTION, by=Other())
    assert str(told) == f'{Lookup.suffix} {QUESTION}'


def test_question_last_reads_the_question_behind_an_instruction_with_its_words(names):
    look = Lookup(question_last=True, query='question')(names['vlm'], IMAGE, 'Answer the question')
    ask = look.rows.ask
    prompt = names['vlm'].words(ask)
    assert prompt.question[-1] > len(prompt.tokens) // 2
