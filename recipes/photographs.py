"""Does a map point on photographs? Objects of COCO of which an image has one, for released models; and the objects of
our scenes on two photographs that no training saw.

`python -m recipes.photographs coco MODEL --annotations instances_val2017.json --images val2017`: images and annotations
of yours, seconds a question; keeps images whose license allows to show them (4, 7, 8: CC BY, no known copyright,
United States government). `python -m recipes.photographs scenes MODEL`: needs scikit-learn, whose two photographs are
CC BY, on scenes from seed 4,140,000 on. Records are `trial/photographs-PART-MODEL.jsonl`."""

import json
from collections import Counter
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated
from unittest.mock import patch
import numpy as np
from fastcore.script import call_parse
from PIL import Image
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.data import scenes
from carve_nb.data.drawing import SIZE, Rng
from carve_nb.data.records import Record
from carve_nb.data.scenes import make_scene, scene_records
from carve_nb.method.carve import Carve
from .records import of_question, run_trial, seed_of
from .region import measure_boxes

FIRST_SEED = 4_140_000
LICENSES = 4, 7, 8  # of COCO
LARGEST, LEAST = 0.2, 16  # share of the image that an object may take; pixels of its shorter side


def lone_objects(coco: dict, folder: Path) -> list[Record]:
    "Return a question about each object that is the only one of its class in an image of the folder"
    names = {category['id']: category['name'] for category in coco['categories']}
    images = {
        image['id']: image
        for image in coco['images']
        if image['license'] in LICENSES and (folder / image['file_name']).is_file()
    }
    counts = Counter((a['image_id'], a['category_id']) for a in coco['annotations'])
    records = []
    for annotation in sorted(coco['annotations'], key=lambda a: (a['image_id'], a['category_id'])):
        image, name = images.get(annotation['image_id']), names[annotation['category_id']]
        x, y, width, height = annotation['bbox']
        alone = counts[annotation['image_id'], annotation['category_id']] == 1 and not annotation['iscrowd']
        if not image or not alone or min(width, height) < LEAST:
            continue
        if width * height > LARGEST * image['width'] * image['height']:
            continue
        records.append(
            Record(
                f'{image["id"]}-{name}',
                folder / image['file_name'],
                f'What color is the {name}?',
                [],
                boxes=[(x, y, x + width, y + height)],
                kind='color',
                image_key=str(image['id']),
            )
        )
    return records


def read_maps(vlm: VLM, image: Image.Image, question: str, box, seed: int) -> dict:
    "Return for both tokens whether the raw map and the quotient point, and what their crops hold"
    session, found = Session(vlm), {}
    ask = Carve().asked(vlm, image, question)
    rows = session.capture(ask, answer=False)
    general = session.capture(ask.but(text=Carve().instruction), answer=False)
    for query in ('last', 'noun'):
        look = Carve(query=query).contrast(ask.image, question, rows, general)
        maps = {'raw': next(iter(look.maps.values())), 'quotient': look.saliency}
        found[query] = {
            name: dict(points=int(S.points_at(box)), **measure_boxes(S, box, np.random.default_rng(seed)))
            for name, S in maps.items()
        }
    return found


def measure_object(vlm: VLM, record: Record) -> dict:
    "Return what the maps of a question about a photograph find"
    return dict(id=record.id) | read_maps(
        vlm, record.image, record.question, record.box, int(record.image_key)
    )


@cache
def sample_photographs() -> list[Image.Image]:
    "Open the two photographs of scikit-learn, china and flower, without importing it"
    package = find_spec('sklearn')
    if package is None:
        raise SystemExit('The two photographs are in scikit-learn: pip install scikit-learn')
    folder = Path(package.origin).parent / 'datasets' / 'images'
    return [Image.open(folder / f'{name}.jpg').convert('RGB') for name in ('china', 'flower')]


def photograph_background(rng: Rng, *_) -> np.ndarray:
    "Cut a square of a photograph in place of a drawn background"
    photos = sample_photographs()
    photo = photos[int(rng.integers(len(photos)))]
    scale = max(1.0, SIZE / min(photo.size))
    photo = photo.resize([round(side * scale) for side in photo.size])
    x, y = (int(rng.integers(side - SIZE + 1)) for side in photo.size)
    return np.asarray(photo.crop((x, y, x + SIZE, y + SIZE)))


def measure_scene(vlm: VLM, record: Record) -> dict:
    "Return what the maps find on the scene's own background and on a photograph"
    seed = seed_of(record)
    with patch.object(scenes, 'background', photograph_background):
        image = make_scene(seed, texture=0).image
    return dict(id=record.id) | {
        ground: read_maps(vlm, shown, record.question, record.box, seed)
        for ground, shown in dict(drawn=record.image, photograph=image).items()
    }


@call_parse
def run_photographs(
    part: Annotated[str, 'coco or scenes', dict(choices=['coco', 'scenes'])],
    model: str,  # name, Hub id or folder
    annotations: Path | None = None,  # JSON file of COCO's instances
    images: Path | None = None,  # folder with its images
    n: int = 200,  # questions
    out: str = 'trial',  # folder of the records
):
    "Measure pointing on photographs; the same command goes on where it was stopped"
    if part == 'scenes':
        todo, measure = scene_records(n, start=FIRST_SEED), measure_scene
    else:
        todo, measure = lone_objects(json.loads(annotations.read_text()), images)[:n], measure_object
    run_trial(f'photographs-{part}-{{model}}', model, out, todo, of_question(measure))
