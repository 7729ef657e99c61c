"""How much of a general map is the image's and the place's own, and how much changes with its wording.

`python -m recipes.invariance carve-tiny`, and `carve-small --n 60`: 6 and 8 minutes;
`nbs/results/study/invariance`."""

from collections.abc import Sequence
import numpy as np
from PIL import Image
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.core.errors import CarveError
from carve_nb.core.stats import Estimate
from carve_nb.core.text import SHORT_ANSWER
from carve_nb.data.records import Record
from carve_nb.data.scenes import samples
from carve_nb.formulas.product import check_maps
from carve_nb.formulas.variance import VARIANCE_PARTS, log_maps, own_share, variance_parts
from carve_nb.models.prompts import GENERAL_INSTRUCTIONS, Ask
from .correlation import bootstrap_values, expanded_ends
from .layers import image_means
from .records import Part, run_parts, run_study

TEN_INSTRUCTIONS = (
    *GENERAL_INSTRUCTIONS,
    'What things are in the picture?',
    'Tell me what is in this image.',
    'Explain what you see in this picture.',
    'What objects do you see there?',
    'Describe the objects and the background.',
)


# [M, L, Nv], where they lie: an `ImageSpan`
def instruction_maps(
    vlm: VLM, image: Image.Image, texts: Sequence[str], suffix: str | None = SHORT_ANSWER
) -> tuple:
    "Return one map for each text, question or instruction: head-mean attention of the last token"
    session, ask = Session(vlm), Ask((image,), '', suffix or '')
    rows = [session.capture(ask.but(text=text), answer=False) for text in texts]
    return np.stack([r.read().double().numpy() for r in rows]), rows[0].raster()


def invariance_samples(n: int, start: int = 0):
    "Held-out questions about one object, of several kinds in turn"
    for i in range(start, start + n):
        yield from samples(('digit', 'color', 'shape')[i % 3], 1, start=7 * i)


def share_of(session: Session, image: Image.Image, texts: tuple[str, ...], query: str = 'last') -> float:
    "Compute the own share of an image, also turned by 180°, over some texts, at one query token of each"
    turned = image.transpose(Image.Transpose.ROTATE_180)

    def read(view: Image.Image, text: str) -> np.ndarray:
        rows = session.capture(Ask((view,), text, SHORT_ANSWER), answer=False)
        return rows.read(query=query).numpy()

    return own_share(np.stack([[read(view, text) for text in texts] for view in (image, turned)]))


UNRELATED_QUESTIONS = (
    'Is there a pink heart?',
    'What color is the star?',
    'How many circles are there?',
    'Which number is on the green triangle?',
    'Where is the cross?',
)


# [M, ..., Nv] maps of M >= 2 general instructions -> [..., Nv] float32 between 0 and 1
def least_delta(A_gs: np.ndarray, lam: float = 0.1):
    """A lower bound of δ at each patch, from the differences of general maps, each scaled to the same total.

    `lam` is added to both, in units of the mean; it can only lower the bound."""
    A, _ = check_maps(A_gs, A_gs, lam)
    if len(A) < 2:
        raise CarveError("least_delta needs at least two general maps, [M, ..., Nv]")
    x = (A / A.mean(-1, keepdim=True).clamp_min(1e-30) + lam).log()
    return ((x.amax(0) - x.amin(0)) / 2).tanh()


def measure_invariance(vlm: VLM, sample: Record) -> dict:
    """Variance of the log maps, under ten instructions and five questions, of an image and the same turned by
    180 degrees; the least δ"""
    image, floor = sample.image.convert('RGB'), 0.1  # κ
    turned = image.transpose(Image.Transpose.ROTATE_180)

    def maps(texts: Sequence[str]):
        return np.stack([instruction_maps(vlm, im, texts)[0] for im in (image, turned)])

    def parts(A: np.ndarray):
        return {k: np.round(v, 6).tolist() for k, v in variance_parts(log_maps(A, floor)).items()}

    G = maps(TEN_INSTRUCTIONS)
    delta = least_delta(G[0], floor).numpy()
    w = G[0].mean(0)
    weighted = (delta * w).sum(-1) / w.sum(-1).clip(1e-30)
    return dict(
        id=sample.id,
        general=parts(G),
        question=parts(maps(UNRELATED_QUESTIONS)),
        delta=np.round(weighted, 6).tolist(),
    )


def part_sums(
    records: list[dict], group: str, parts: Sequence[str], layer: int | None = None
) -> tuple:  # 'general' or 'question'; some of `VARIANCE_PARTS`
    "Variance of some parts, and all of it, of each image"
    v = {k: image_means(records, group, k) for k in VARIANCE_PARTS}
    v = {k: a.mean(1) if layer is None else a[:, layer] for k, a in v.items()}
    return sum(v[k] for k in parts), sum(v.values())


def part_share(records: list[dict], group: str, parts: Sequence[str], layer: int | None = None) -> Estimate:
    "The share of some parts in the variance of the log maps, in one layer or in all"

    def share(a: np.ndarray, b: np.ndarray):
        a, b = a.mean(-1), b.mean(-1)
        return a / np.where(np.abs(b) > 1e-12, b, np.nan)

    some, total = part_sums(records, group, parts, layer)
    value = float(share(some, total))
    ends = (
        expanded_ends(bootstrap_values(share, [some, total]), len(some))
        if np.isfinite(value) and len(some) > 1
        else (value, value)
    )
    return Estimate(value, *ends, len(some))


def image_share(records: list[dict], group: str) -> np.ndarray:
    "The share of position and image for each image alone, for paired tests; 0 for an image without variance"
    some, total = part_sums(records, group, VARIANCE_PARTS[:2])
    return some / total.clip(1e-12)


if __name__ == '__main__':
    run_parts(
        dict(all=Part('invariance', measure_invariance, invariance_samples, 200)), 'study_out', run_study
    )
