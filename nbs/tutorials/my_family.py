"""A model family of your own, as small as it can be. Copy this file, change the record, and run it with a folder of such a
model: `python my_family.py FOLDER`. Without one it runs on carve-tiny, whose family the record below describes.

It ends with the test that a method passes on every family. The page "Add a model family" goes through each line."""
import sys
from carve_nb import VLM, Carve, Family, add_family, make_scene
from carve_nb.baselines.base import check_method
from carve_nb.models.image_tokens import crop_box


def cell(config):
    "Pixels of a token's side in the picture that the tower is given"
    return config.vision_config.patch_size


def grid(config, inputs, i):
    "Rows and columns of the tokens of picture i"
    h, w = inputs['pixel_values'].shape[-2:]
    return h//cell(config), w//cell(config)


mine = add_family(Family(
    'llava',                # `model_type` in the model's config.json
    cell=cell, grid=grid,
    covered=crop_box))      # the pixels that the grid covers; leave it out where that is the whole picture

if __name__ == '__main__':
    vlm, scene = VLM.from_pretrained(*sys.argv[1:] or ['carve-tiny']), make_scene(0)
    print(vlm.prompt(scene.image, 'What is this?'))       # refused where grid and number of tokens do not agree
    result = check_method(Carve(max_new_tokens=3), vlm, scene.image, scene.query('digit').question)
    print(f'passed. {result.sentence()}')
