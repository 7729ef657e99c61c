"""A model family of your own, as small as it can be. Copy this file, change the record, and run it with a folder of such a
model: `python my_family.py FOLDER`. Without one it runs on carve-tiny, whose family the record below describes.

It ends with two tests: does the grid lie where it says, and does a method work. The page "Add a method or a model family" goes through each line."""
import sys
from carve_nb import VLM, Carve, Family, add_family, make_scene
from carve_nb.attention import check_family
from carve_nb.testing import check_method


def grid(made):
    "Return rows and columns of the tokens that show the whole image, from what the processor made of it"
    patch = made.config.vision_config.patch_size
    gh, gw = (side//patch for side in made.inputs['pixel_values'].shape[-2:])
    return gh, gw


mine = add_family(Family(
    'llava',                # `model_type` in the model's config.json
    grid=grid))

if __name__ == '__main__':
    vlm, scene = VLM.from_pretrained(*sys.argv[1:] or ['carve-tiny']), make_scene(0)
    prompt = vlm.prompt(scene.image, 'What is this?')     # refused where grid and number of tokens do not agree
    print(prompt)
    check = check_family(vlm)     # rows beside eager attention; of all tokens those over changed pixels must change most
    assert not check.why, check
    print(check)
    result = check_method(Carve(max_new_tokens=3), vlm, scene.image, scene.question('digit').question)
    print('passed.', '; '.join(result.summary()))
