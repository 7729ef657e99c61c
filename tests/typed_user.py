"""What a user writes, for a type checker: mypy reads this file (`make lint`), nothing runs it. Each public
name is used once; a line that ends in `type: ignore` is a mistake that mypy has to find, or it says that
the comment is unused."""

from pathlib import Path
import pandas as pd
from PIL import Image
from torch import nn
from transformers import ProcessorMixin
from carve_nb import (
    VLM,
    Answer,
    AttentionRows,
    Carve,
    CarveError,
    Complexity,
    Crop,
    Edit,
    Endpoint,
    Family,
    ImageError,
    InsufficientMemoryError,
    Lookup,
    Prompt,
    Record,
    Region,
    Result,
    Saliency,
    Scene,
    UnsupportedError,
    add_family,
    check_method,
    explore,
    load_benchmark,
    make_method,
    make_scene,
    measure_entropy,
    measure_layers,
    measure_masking,
    methods,
    open_image,
    profile_model,
    record_attention,
    run_eval,
)


def ask(path: Path, question: str) -> str:
    image: Image.Image = open_image(path)
    vlm = VLM.from_pretrained('carve-small', dtype='float32')
    answer: Answer = vlm.ask(image, question)
    for method in Carve(layers=[2], rank='peak'), Lookup(p=0.1), Carve.paper():
        result: Result = method(vlm, image, question)
        region: Region = result.regions[0]
        crop: Crop | None = result.crop
        saliency: Saliency | None = result.saliency
        print(region.box, region.area + 1, crop and crop.scale + 1, saliency and saliency.values.shape)
    rows: AttentionRows = vlm.capture(image, question, layers=[1])
    prompt: Prompt = vlm.prompt(image, question)
    print(rows.layers, prompt.text.upper())
    return answer.text


def compare(vlm: VLM, folder: Path) -> pd.DataFrame:
    questions = load_benchmark('scenes', n=20)
    run = run_eval(questions, vlm, methods=['none', 'lookup'], out=folder)
    print(len(run.records) + 1, profile_model(vlm, questions).n + 1, methods())
    measure_entropy(vlm, questions, out=folder)
    measure_layers(
        vlm, [Record('1', folder / 'a.png', 'What color is the cup?', ['red'], boxes=[(10, 20, 60, 80)])]
    )
    return measure_masking(vlm, questions)


def mine(model: nn.Module, processor: ProcessorMixin, scene: Scene) -> None:
    add_family(Family('mine', chat='{{ messages }}'))
    vlm = VLM(model, processor)
    digit = scene.question('digit')
    question = digit.question if digit else 'What is this?'
    with record_attention(model, processor, {}, images=[scene.image]) as rows:
        print(rows)
    print(Edit([1]))
    try:
        print(check_method(Carve(), vlm, scene.image, question).answer)
    except (ImageError, InsufficientMemoryError, UnsupportedError) as e:
        raise CarveError(str(e)) from e
    print(make_method('lookup', p=0.1), Lookup()(vlm, [scene.image], question, which=0).which + 1)
    print(
        Carve()(vlm, scene.image, question, by=Endpoint('http://localhost:8000/v1', 'mine')),
        Complexity(0.1, 0.2).texture + 1,
    )
    explore(vlm, scene.image, question)


def mistakes(vlm: VLM) -> None:
    Carve(rank='highest')  # type: ignore[arg-type]
    Carve(lambda_=1.0)  # type: ignore[call-arg]
    Lookup(p='a little')  # type: ignore[arg-type]
    Carve()(vlm, 'a.png', 7)  # type: ignore[arg-type]
    vlm.ask('a.png', 'What?', max_new_tokens='2')  # type: ignore[arg-type]
    vlm.ask('a.png')  # type: ignore[call-arg]
    make_scene('one')  # type: ignore[arg-type]
    make_scene(1).questoin('digit')  # type: ignore[attr-defined]
    print(make_scene(1).question('digit').answer)  # type: ignore[union-attr]
    measure_layers('carve-small', [])  # type: ignore[arg-type]
    run_eval(methods=3)  # type: ignore[arg-type]
    open_image(3)  # type: ignore[arg-type]
