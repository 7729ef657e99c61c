"Two images, a question, and a user's own model: what tests of several rooms begin with"

import json
import re
import numpy as np
import pytest
import torch
from PIL import Image
from processes import ROOT
from transformers import AutoModelForImageTextToText
from carve_nb.attention.vlm import record_attention
from carve_nb.core.errors import CarveError
from carve_nb.models.prompts import read_prompt

KW = dict(max_new_tokens=3, do_sample=False)
QUESTION = 'What animal is this?'
measured = {}


def read_query_words():
    """Two hundred questions as people ask them: the tokens of each, and the words whose object the answer is
    read from"""
    lines = (ROOT / 'tests/data/query_words.tsv').read_text(encoding='utf-8').splitlines()[1:]
    rows = [line.split('\t') for line in lines]
    return [
        (re.findall(r"'s\b| ?\w+|[^\w\s]", question), words.lower().split('|')) for question, words in rows
    ]


def write_set(folder, rows):
    "A folder with an image, a.png, and a table of questions about it"
    folder.mkdir(parents=True, exist_ok=True)
    Image.linear_gradient('L').resize((60, 50)).convert('RGB').save(folder / 'a.png')
    (folder / 'q.jsonl').write_text(''.join(json.dumps(dict(image='a.png') | row) + '\n' for row in rows))
    return folder


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def note(vlm, **kw):
    measured.setdefault(vlm.family.name, {}).update(kw)


def image(w, h, seed=0):
    "A smooth random image"
    noise = np.random.default_rng(seed).integers(
        40, 216, (max(h // 20, 2), max(w // 20, 2), 3), dtype=np.uint8
    )
    return Image.fromarray(noise).resize((w, h), Image.BICUBIC)


WIDE, TALL = image(260, 180), image(96, 250, 1)


def stock(folder, kernel, dtype='float32'):
    return AutoModelForImageTextToText.from_pretrained(folder, attn_implementation=kernel, dtype=dtype).eval()


def stock_messages(images):
    return [
        dict(
            role='user',
            content=[*(dict(type='image', image=im) for im in images), dict(type='text', text=QUESTION)],
        )
    ]


def check_stock_ids(vlm, processor):
    """Our own prompts of one to three images, one of them twice, are tensor by tensor those of the stock
    processor, which are read"""
    if processor.chat_template is None:
        processor.chat_template = vlm.family.chat
    for images in [WIDE], [WIDE, TALL], [TALL, WIDE, image(70, 80, 2)], [TALL, WIDE, TALL]:
        prompt = vlm.prompt(images, QUESTION)
        messages = stock_messages(images)
        theirs = processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors='pt'
        )
        nested = processor(
            images=[images],
            text=[processor.apply_chat_template(messages, add_generation_prompt=True)],
            return_tensors='pt',
        )
        for inputs in theirs, nested:
            assert inputs['input_ids'].tolist() == prompt.inputs['input_ids'].tolist()
            assert all(
                v.equal(prompt.inputs[k]) for k, v in inputs.items() if torch.is_tensor(v) and k != 'labels'
            )
            read = read_prompt(vlm, inputs, images, QUESTION)
            assert [(s.box, s.tokens.tolist()) for s in read.spans] == [
                (s.box, s.tokens.tolist()) for s in prompt.spans
            ]


def files(out):
    "Bytes of a run's protocol, tables and figure, which are equal for equal runs"
    return {
        k: (out / k).read_bytes()
        for k in ('protocol.json', 'table.md', 'accuracy.png', 'results.csv')
        if (out / k).exists()
    }


class User:
    "A model of a family, and the inputs of two images that its processor made"

    def __init__(self, vlm, images=(WIDE, TALL)):
        self.vlm, self.model, self.processor, self.images = vlm, vlm.model, vlm.processor, list(images)
        self.inputs = dict(vlm.prompt(self.images, QUESTION).inputs)

    def generate(self, **more):
        "Three tokens of the stock model; no image token, which random weights may copy out of the prompt"
        no_image = [self.model.config.image_token_id]
        return self.model.generate(**self.inputs, **KW | dict(suppress_tokens=no_image) | more)

    def record(self, run=None, **kw):
        run = run or self.generate
        given = dict(model=self.model, processor=self.processor, inputs=self.inputs, images=self.images) | kw
        with record_attention(**given) as rows:
            run()
        return rows


def refuse(words, call):
    with pytest.raises(CarveError, match=words) as e:
        call()
    assert len(str(e.value)) < 500 and '\n' not in str(e.value)
