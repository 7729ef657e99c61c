"""What released models, the paper's tables and an evening need on a GPU, computed from shapes, and what yours needs, measured.

`python -m recipes.gpu`: the computed tables. `make gpu M=M`: memory and seconds of each way to answer and of the four
commands of an evening on your GPU, in about ten minutes, as tables to paste. `make gpu`: the same steps with a tiny
random model on a CPU, which says that they run and nothing else."""

import gc
import json
import os
import shlex
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
import numpy as np
import pandas as pd
import torch
import transformers
from fastcore.script import call_parse
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    LlavaConfig,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen3VLConfig,
)
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.cli.main import main
from carve_nb.core.image import open_image
from carve_nb.core.text import SHORT_ANSWER
from carve_nb.data.eye_test import CHANCE, EACH, SPREAD, image_side
from carve_nb.data.scenes import make_scene
from carve_nb.method.base import Method
from carve_nb.method.carve import Carve
from carve_nb.method.lookup import Lookup
from carve_nb.models.prompts import Prompt
from carve_nb.runs.report import markdown_table
from carve_nb.studies.checkup import PROFILED
from carve_nb.studies.paper import SETS, TABLES
from carve_nb.studies.profile import SHAPES
from .tiny_models import make_tiny_checkpoint

GB = 1e9
# peak FLOP/s of dense bfloat16 and bytes/s of the memory, from NVIDIA's data sheets; GB
GPUS = {
    'RTX 4090, 24 GB': (165e12, 1.01e12),
    'A100, 80 GB': (312e12, 2.04e12),
    'H100, 80 GB': (989e12, 3.35e12),
}
USED = 0.4, 0.6  # shares of both that a pass and a generated token reach; assumed


def _qwen2_5(
    width: int, hidden: int, layers: int, heads: int, kv_heads: int, words: int, tied: bool = False
) -> Qwen2_5_VLConfig:
    return Qwen2_5_VLConfig(
        text_config=dict(
            hidden_size=width,
            intermediate_size=hidden,
            num_hidden_layers=layers,
            vocab_size=words,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            tie_word_embeddings=tied,
        ),
        vision_config=dict(
            depth=32, hidden_size=1280, intermediate_size=3420, num_heads=16, out_hidden_size=width
        ),
        tie_word_embeddings=tied,
    )


def _llava(width: int, hidden: int, layers: int, heads: int) -> LlavaConfig:
    return LlavaConfig(
        text_config=dict(
            model_type='llama',
            hidden_size=width,
            intermediate_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            vocab_size=32_064,
        ),
        vision_config=dict(
            model_type='clip_vision_model',
            hidden_size=1024,
            intermediate_size=4096,
            image_size=336,
            num_hidden_layers=24,
            num_attention_heads=16,
            patch_size=14,
        ),
    )


# shapes of the released config.json; parameters are counted, and are those that the model cards give
CONFIGS = {
    'Qwen2.5-VL 3B': lambda: _qwen2_5(2048, 11_008, 36, 16, 2, 151_936, tied=True),
    'Qwen2.5-VL 7B': lambda: _qwen2_5(3584, 18_944, 28, 28, 4, 152_064),
    'LLaVA-1.5 7B': lambda: _llava(4096, 11_008, 32, 32),
    'LLaVA-1.5 13B': lambda: _llava(5120, 13_824, 40, 40),
    'Qwen3-VL 8B': lambda: Qwen3VLConfig(
        text_config=dict(
            hidden_size=4096,
            intermediate_size=12_288,
            num_hidden_layers=36,
            head_dim=128,
            num_attention_heads=32,
            num_key_value_heads=8,
            vocab_size=151_936,
        ),
        vision_config=dict(
            depth=27, hidden_size=1152, intermediate_size=4304, num_heads=16, out_hidden_size=4096
        ),
    ),
    'Qwen2.5-VL 72B': lambda: _qwen2_5(8192, 29_568, 80, 64, 8, 152_064),
}
IMAGE_TOKENS = {
    'LLaVA-1.5 7B': 576,
    'LLaVA-1.5 13B': 576,
}  # of every image; other models: up to the limit of this package
MOST_TOKENS = 4096
QUESTION, ANSWER = 64, 8  # tokens of a question and of an answer


@dataclass(frozen=True)
class Shape:
    "What decides memory and time of a model: parameters of decoder and tower, and sizes of the decoder"

    decoder: int
    tower: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> 'Shape':
        "Read the shape of a model, which may have no weights (on the device *meta*)"
        config = model.config.get_text_config()
        sizes = {name: p.numel() for name, p in model.named_parameters()}
        tower = sum(n for name, n in sizes.items() if 'visual' in name or 'vision_tower' in name)
        heads = config.num_attention_heads
        return cls(
            sum(sizes.values()) - tower,
            tower,
            config.num_hidden_layers,
            heads,
            getattr(config, 'num_key_value_heads', None) or heads,
            getattr(config, 'head_dim', None) or config.hidden_size // heads,
        )

    def weight_bytes(self, size: int = 2) -> int:  # bytes of a number
        return size * (self.decoder + self.tower)

    def cache_bytes(self, tokens: int, size: int = 2) -> int:
        "Keys and values of a prompt"
        return 2 * size * self.layers * self.kv_heads * self.head_dim * tokens

    def row_bytes(self, image_tokens: int, queries: int) -> int:
        "Attention of some query tokens to the image in all layers and heads, float32"
        return 4 * self.layers * self.heads * image_tokens * queries

    def pass_flops(self, tokens: int, patches: int) -> float:
        "Multiplications and additions of one pass over a prompt, the tower's among them"
        return (
            2 * self.decoder * tokens
            + 2 * self.tower * patches
            + 2 * self.layers * self.heads * self.head_dim * tokens**2
        )

    def answer_seconds(
        self, tokens: int, patches: int, generated: int, flops: float, bandwidth: float
    ) -> float:
        "One pass over a prompt at the used share of a GPU's rate, and the decoder's weights read for each token"
        read = generated * 2 * self.decoder  # bytes, in bfloat16
        return self.pass_flops(tokens, patches) / (USED[0] * flops) + read / (USED[1] * bandwidth)


def shapes() -> dict[str, Shape]:
    "Count the released models, without their weights"
    by_name = {}
    for name, config in CONFIGS.items():
        with torch.device('meta'):
            model = AutoModelForImageTextToText.from_config(config())
        by_name[name] = Shape.of(model)
    return by_name


def computed_table() -> pd.DataFrame:
    "Memory in GB and seconds of a baseline answer about a large photo, of each released model in bfloat16"
    rows = {}
    for name, shape in shapes().items():
        image = IMAGE_TOKENS.get(name, MOST_TOKENS)
        prompt = image + QUESTION
        patches = image * (1 if name in IMAGE_TOKENS else 4)  # Qwen's tower merges 2 x 2
        row = {'billion parameters': (shape.decoder + shape.tower) / 1e9, 'image tokens': image}
        row['weights, GB'] = shape.weight_bytes() / GB
        row['cache, GB'] = shape.cache_bytes(prompt) / GB
        row['rows of one token, MB'] = shape.row_bytes(image, 1) / 1e6
        row['rows of an answer and 16 words, GB'] = shape.row_bytes(image, ANSWER + 16) / GB
        for gpu, (flops, bandwidth) in GPUS.items():
            seconds = shape.answer_seconds(prompt, patches, ANSWER, flops, bandwidth)
            fits = shape.weight_bytes() < 0.9 * GB * int(gpu.split(', ')[1].split()[0])
            row[f'{gpu}: s'] = seconds if fits else float('nan')
        rows[name] = row
    return pd.DataFrame(rows).T


PAPER_MODELS = {
    'Qwen2.5-VL 3B': 'Qwen2.5-VL-3B-Instruct',
    'Qwen2.5-VL 7B': 'Qwen2.5-VL-7B-Instruct',
    'LLaVA-1.5 7B': 'llava-1.5-7b-hf',
    'LLaVA-1.5 13B': 'llava-1.5-13b-hf',
}


def paper_table() -> pd.DataFrame:
    "Hours of each table of the paper without other tools, and GB, of each of its models in bfloat16"
    counted, rows = shapes(), {}
    for name, model in PAPER_MODELS.items():
        shape, image = counted[name], IMAGE_TOKENS.get(name, 256)  # the paper's limit for Qwen
        patches = image * (1 if name in IMAGE_TOKENS else 4)
        seconds = shape.answer_seconds(image + QUESTION, patches, ANSWER, *GPUS['A100, 80 GB'])
        held = (
            shape.weight_bytes()
            + shape.cache_bytes(image + QUESTION + ANSWER)
            + shape.row_bytes(image, ANSWER)
        )
        rows[name] = {'GB': held / GB, 'seconds of an answer': seconds}
        for table_name, table in TABLES.items():
            if table.seconds or model not in table.printed:
                continue
            crops = [spec for spec in table.methods.values() if spec != 'none']
            instructions = len({spec for spec in crops if 'instruction=' in spec}) or 1
            answers = 1 + instructions + len(crops)  # the question, the general instruction, each crop
            n = table.n or sum(SETS[data]['questions'] for data in table.sets)
            rows[name][f'{table_name} ({n:,} questions): h'] = n * answers * seconds / 3600
    return pd.DataFrame(rows).T


@dataclass(frozen=True)
class Command:
    "One of the four commands of an evening: its words and what it asks"

    words: str
    n: int  # of its --n
    questions: int
    answers: int  # about one question, counted as in `paper_table`
    image_tokens: int
    passes: int = 0  # besides, without an answer


def eye_tokens() -> int:
    "Average the image tokens of the acuity test's images: Qwen2.5-VL has one for 28 x 28 pixels"
    sides = [image_side(step, kind).image for kind in CHANCE for step in SPREAD]
    return round(np.mean([min(round(side / 28) ** 2, MOST_TOKENS) for side in sides]))


EVENING = {
    'ask': Command(
        'carve ask {photo} "What is written on the sign?" --model {model} --dtype bf16 --out {out}/ask',
        n=1,
        questions=1,
        answers=2,  # without and with the crop
        image_tokens=MOST_TOKENS,
    ),
    'checkup': Command(
        'carve checkup --model {model} --dtype bf16 --n {n} --out {out}/checkup',
        n=EACH,
        questions=EACH * len(CHANCE),
        answers=10,  # six methods; three need a question or an instruction of their own for the map
        image_tokens=eye_tokens(),
        passes=PROFILED * len(SHAPES),
    ),
    'eval': Command(
        'carve eval {folder} --methods none,random,lookup,carve --model {model} --dtype bf16 --n {n} --out {out}/eval',
        n=200,
        questions=200,
        answers=5,
        image_tokens=MOST_TOKENS,
    ),
    'paper': Command(
        'carve paper main --model {model} --dtype bf16 {sets} --n {n} --out {out}/paper',
        n=200,
        questions=sum(min(200, SETS[data]['questions']) for data in TABLES['main'].sets),
        answers=5,
        image_tokens=256,
    ),
}
EVENING_MODEL = 'Qwen/Qwen2.5-VL-3B-Instruct'


def evening_lines() -> str:
    "Write the four commands as a block for a shell"
    words = dict(photo='photo.jpg', folder='FOLDER', sets='--download', model='$M', out='evening')
    lines = [command.words.format(n=command.n, **words) for command in EVENING.values()]
    return '\n'.join([f'M={EVENING_MODEL}', *lines])


# seconds of Python and torch for a pass: measured on one thread of a CPU as those of a generated token of a tiny
# random Qwen2.5-VL of 36 layers in bfloat16; a GPU that is faster waits for them
PYTHON = 0.021


def evening_table() -> pd.DataFrame:
    "Compute GB and minutes of each command of an evening with Qwen2.5-VL 3B in bfloat16"
    shape, rows = shapes()['Qwen2.5-VL 3B'], {}
    for name, command in EVENING.items():
        image, answers = command.image_tokens, command.questions * command.answers
        held = (
            shape.weight_bytes()
            + shape.cache_bytes(image + QUESTION + ANSWER)
            + shape.row_bytes(image, ANSWER + 16)
        )
        rows[name] = {'questions': command.questions, 'answers': answers, 'GB': held / GB}
        for gpu, rates in GPUS.items():
            one_pass, answer = (
                max(
                    shape.answer_seconds(image + QUESTION, 4 * image, generated, *rates),
                    (1 + generated) * PYTHON,
                )
                for generated in (0, ANSWER)
            )
            seconds = answers * answer + command.passes * one_pass
            rows[name][f'{gpu}: minutes'] = seconds / 60
    table = pd.DataFrame(rows).T
    table.loc['all four'] = table.sum().where(table.columns != 'GB', table.GB.max())
    return table


def as_text(table: pd.DataFrame) -> str:
    "Write numbers with three digits, and nothing where there is no number"
    cells = table.map(lambda x: '' if pd.isna(x) else f'{x:,.0f}' if x >= 100 else f'{x:.3g}')
    return markdown_table(cells.reset_index().values.tolist(), [table.index.name or '', *table.columns])


@contextmanager
def peak_memory():  # of all GPUs together; on a CPU it is not measured
    "Measure the peak memory of a block, in bytes above its start: the last item of the list, after the block"
    gc.collect()
    devices, needed = range(torch.cuda.device_count()), []
    for device in devices:
        torch.cuda.reset_peak_memory_stats(device)
    before = sum(map(torch.cuda.memory_allocated, devices))
    yield needed
    peak = sum(map(torch.cuda.max_memory_allocated, devices))
    needed.append(peak - before if devices else float('nan'))


BATCH = 8


def answer_batch(vlm: VLM, prompt: Prompt) -> torch.Tensor:
    "Answer copies of a prompt at once, as this package never does; return the new tokens of each"
    inputs = {name: torch.cat([values] * BATCH) for name, values in vlm.to_device(prompt).items()}
    tokens = vlm.model.generate(**inputs, max_new_tokens=4, do_sample=False)
    return tokens[:, len(prompt) :]


def ways(vlm: VLM, image: Image.Image, question: str) -> dict[str, Callable]:
    """Return what is timed; a small crop has a quarter of the image's tokens, at least 144 and at most 256"""
    prompt = vlm.prompt(image, question, SHORT_ANSWER)
    few = min(max(sum(map(len, prompt.spans)) // 4, 144), 256)
    carve = Carve.official(max_new_tokens=4)
    lookup = Lookup(query='last', max_new_tokens=4, tokens=None)

    def ask(method: Method):
        method(Session(vlm), image, question)

    return {
        'plain answer': partial(vlm.ask, image, question, SHORT_ANSWER, 4),
        f'{BATCH} plain answers at once': partial(answer_batch, vlm, prompt),
        'lookup, small crop': partial(ask, replace(lookup, tokens=few)),
        'whole CARVE, small crop': partial(ask, replace(carve, tokens=few)),
        'lookup': partial(ask, lookup),
        'whole CARVE': partial(ask, carve),
    }


def measured_table(vlm: VLM, image: Image.Image, question: str) -> pd.DataFrame:
    "Median seconds of each way to answer, and peak memory above the loaded model in a round that is not timed"

    def wait():
        if vlm.device.type == 'cuda':
            torch.cuda.synchronize(vlm.device)

    def seconds(way: Callable):
        wait()
        start = time.perf_counter()
        way()
        wait()
        return time.perf_counter() - start

    rows = {}
    for name, way in ways(vlm, image, question).items():
        with peak_memory() as peak:
            way()
        rows[name] = {
            'seconds': np.median([seconds(way) for _ in range(3)]),
            'MB above the model': peak[-1] / 1e6,
        }
    table = pd.DataFrame(rows).T
    table['baseline answers'] = table.seconds / table.seconds.iloc[0]
    return table.rename_axis(f'{len(vlm.prompt(image, question, SHORT_ANSWER))} tokens')


def write_questions(folder: Path, n: int):
    """Write n scenes with a question each: open.jsonl with the answers of ten people, choices.jsonl with choices"""
    folder.mkdir()
    tables = {'open': [], 'choices': []}
    for seed in range(n):
        scene = make_scene(seed)
        scene.image.save(folder / f'{seed}.png')
        query = scene.question('exist')
        row = dict(image=f'{seed}.png', question=query.question)
        tables['open'].append(row | dict(answers=[query.answer] * 10))
        tables['choices'].append(row | dict(answer=query.answer, choices=['yes', 'no']))
    for name, rows in tables.items():
        (folder / f'{name}.jsonl').write_text('\n'.join(map(json.dumps, rows)), encoding='utf-8')


def run_evening(model: str | Path, n: int, image_tokens: int) -> pd.DataFrame:
    """Run the four commands on n scenes in place of each set: seconds with loading, peak memory, and minutes of
    the evening's questions at this pace"""
    rows = {}
    with tempfile.TemporaryDirectory() as place:
        scenes = Path(place) / 'scenes'
        write_questions(scenes, n)
        forms = {'textvqa': 'open', 'aokvqa-direct': 'open', 'pope': 'choices', 'vstar': 'choices'}
        sets = ' '.join(f'--set {data}={scenes / form}.jsonl' for data, form in forms.items())
        words = dict(
            photo=scenes / '0.png', folder=scenes / 'choices.jsonl', sets=sets, model=model, n=n, out=place
        )
        limit = ['--image-tokens', str(image_tokens)] if image_tokens else []
        for name, command in EVENING.items():
            start = time.perf_counter()
            with peak_memory() as peak:
                status = main([*shlex.split(command.words.format(**words))[1:], *limit])
            assert status == 0, f'carve {name} ended with {status}'
            rows[name] = {'seconds': time.perf_counter() - start, 'peak GB': peak[-1] / GB}
            files = (Path(place) / name).rglob('records.jsonl')
            answers = [json.loads(line) for file in files for line in file.open(encoding='utf-8')]
            if answers:
                asked = len(answers) / len({answer['method'] for answer in answers})
                pace = sum(answer['seconds'] for answer in answers) / asked
                rows[name]['minutes of the evening'] = command.questions * pace / 60
    return pd.DataFrame(rows).T


def print_ways(model: str, image: str, dtype: str, device_map: str, image_tokens: int):
    "Load a model, and print where it runs and what each way to answer needs"
    began = time.time()
    settings = dict(dtype=dtype, device_map=device_map or None, image_tokens=image_tokens or None)
    vlm = VLM.from_pretrained(model, **settings)
    place = torch.cuda.get_device_name(vlm.device) if vlm.device.type == 'cuda' else 'CPU'
    picture = open_image(image) if image else make_scene(0).image.resize((2048, 2048))
    print(
        f'{model} in {vlm.dtype} on {place}; '
        f'torch {torch.__version__}, transformers {transformers.__version__}; loaded in {time.time() - began:.0f} s, '
        f'{Shape.of(vlm.model).weight_bytes(vlm.dtype.itemsize) / GB:.1f} GB of weights\n'
    )
    print(as_text(measured_table(vlm, picture, 'What is in the middle?')), flush=True)


@call_parse
def run_gpu(
    model: str = '',  # Hub id, folder or a model of this package; without one the computed tables are printed
    image: str = '',  # image file; a scene of colored shapes, 2048 pixels wide, by default
    dtype: str = 'bf16',  # auto, bf16, fp16 or fp32
    device_map: str = '',  # auto: spread over several GPUs
    image_tokens: int = 0,  # limit of an image's tokens; 0: the usual one
    dry: bool = False,  # take a tiny random Qwen2.5-VL, and one scene in place of eight
):
    "Print what answers and the commands of an evening need on a GPU: computed without a model, measured with one"
    if dry:
        with tempfile.TemporaryDirectory() as place:
            os.environ['CARVE_PROFILES'] = place
            folder = make_tiny_checkpoint('qwen2_5_vl', Path(place) / 'Qwen2.5-VL-3B-Instruct', layers=28)
            print_ways(str(folder), image, dtype, device_map, 64)
            print(as_text(run_evening(folder, 1, 64)))
    elif model:
        print_ways(model, image, dtype, device_map, image_tokens)
        print(as_text(run_evening(model, 8, image_tokens)))
    else:
        print(*map(as_text, (computed_table(), paper_table(), evening_table())), sep='\n\n')
