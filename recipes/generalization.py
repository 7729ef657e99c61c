"""How the reference model and CARVE do on scenes painted in other styles than those of the training."""

from carve_nb.data.drawing import STYLES
from carve_nb.data.scenes import make_scene, to_sample
from .ablation import ask_all, paired, tidy, wide
from .records import run_recipe
from .binding import compare_groups, point_and_hit

def generalization_samples(n, start=0):
    "Held-out digit questions, each in every style, those of one seed in turn"
    styles = list(STYLES)
    for i in range(n): yield to_sample(make_scene(start + i//len(styles), style=styles[i % len(styles)]), 'digit')

STYLE_METHODS = 'none', 'carve', 'oracle'

def measure_generalization(vlm, sample, methods=STYLE_METHODS) -> dict: # of `generalization_samples`
    "Every method on one question"
    style = sample.id.split('-')[2]
    return dict(id=sample.id, style=style if style in STYLES else 'own', truth=sample.answer,
        made=ask_all(vlm, sample, {k: k for k in methods}, lambda r: point_and_hit(r, sample))[0])

def compare_with_own(records) -> tuple: # of `measure_generalization`
    "The plain answer, and CARVE's gain, in each style against our own, seed by seed; seeds that a style lacks do not count"
    w = wide(tidy(records, 'style', lambda r: r['id'].split('-')[1]), 'correct').dropna().sort_index()
    plain, other = w.xs('none', axis=1, level=1), [k for k in STYLES if k != 'own']
    gain = w.xs('carve', axis=1, level=1) - plain
    return tuple(paired({k: (t[k], t.own) for k in other}) for t in (plain, gain))

def generalization_tables(records) -> list:
    "Every style; the plain answer and CARVE's gain against our own style"
    return [compare_groups(records, 'style'), *compare_with_own(records)]

if __name__ == '__main__':
    run_recipe(
        'generalization', measure_generalization, generalization_samples, generalization_tables, 1050)
