"""A method of your own, as small as it can be. Copy this file, change `locate`, and run it: `python my_method.py`.

It ends with the test that all methods pass and a table beside others. The page "Add a method or a model family" goes through each line."""
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from carve_nb import VLM, make_scene, run_eval
from carve_nb.core import Layers
from carve_nb.method import CropMethod, Look, as_saliency
from carve_nb.runs import read_run
from carve_nb.runs.report import report
from carve_nb.testing import check_method


@dataclass(repr=False)          # the base class shows the call that makes the method, and has the fields of a crop: pad, square, min_side
class MyMethod(CropMethod):
    """What it does, in one line

    Parameters
    ----------
    layers
        what the field does; paper and section it is from
    """
    layers: Layers = (.5, 1.)
    name = 'my-method'

    def locate(self, session, ask):
        "From attention to a map; the base class crops its best region and asks again"
        rows = session.capture(ask)                  # one call of the model: the baseline answer and its attention
        attention = rows.read(layers=self.layers)    # [layers, cells of the image]: mean over heads, all tiles together
        values = attention.mean(0)                   # your idea: one number for each cell
        return Look(saliency=as_saliency(values, rows.raster(), ask.image), rows=rows)


if __name__ == '__main__':
    scene = make_scene(0)
    asked = scene.question('digit')
    result = check_method(MyMethod(), VLM.from_pretrained('carve-tiny'), scene.image, asked.question)
    print('passed.', '; '.join(result.summary()), f'truth: "{asked.answer}"')
    with TemporaryDirectory() as out:    # a folder that stays would keep what it has measured, also when your code changes
        run_eval('scenes', 'carve-tiny', ['none', 'carve', 'my-method'], n=4, out=out)
        print(report(read_run(out).records)[["n", "acc", "gain", "p_holm"]])
