"""Read the records of CARVE's settings, each changed alone around our default and around the paper's preset.

What measured them, `nbs/results/study/ablation`, is this file at commit e29229d2."""

from collections.abc import Sequence
import pandas as pd
from carve_nb.core.errors import CarveError
from carve_nb.core.stats import difference, holm, mean_interval, paired_test
from carve_nb.data.records import image_key_of


def paired(pairs: dict) -> pd.DataFrame:  # label -> (scores, scores they are compared with), each by image
    "Scores with intervals, their change in points on the images that have both, and p, Holm over the table"
    rows = {}
    for label, (a, b) in pairs.items():
        a, both = a.dropna(), pd.concat([a, b], axis=1).dropna()
        (x, y), on = both.to_numpy().T, both.index.tolist()
        d, (p, test) = difference(x, y, clusters=on), paired_test(x, y, clusters=on)
        change = dict(zip(('change', 'lo', 'hi'), (100 * v for v in d)))
        rows[label] = dict(
            score=mean_interval(a, clusters=a.index.tolist()), n=len(x), **change, p=p, test=test
        )
    t = pd.DataFrame.from_dict(rows, orient='index')
    return t.assign(p_holm=holm(t.p))


def setting_scores(records: list[dict], key: str = 'correct') -> pd.DataFrame:  # 'correct', 'hit' or 'iou'
    "One score: a row for each image, a column for each setting; NaN where it was not tried"
    if not records:
        raise CarveError('No records; run the study first.')
    notes = [{k: v[key] for k, v in r['made'].items()} for r in records]
    return pd.DataFrame(notes, map(image_key_of, records), dtype=float)


def compare_settings(
    records: list[dict], names: Sequence[str], base: str = 'default'
) -> pd.DataFrame:  # of settings
    "Settings against one, on the same questions, as in `paired`"
    s = setting_scores(records)
    return paired({k: (s[k], s[base]) for k in names})


def changed_names(records: list[dict], center: str = 'default') -> list:  # a key of `CENTERS`
    "The settings that differ from a center in one field"
    return [
        k for k in setting_scores(records) if k.startswith(center + ' ') and not k.startswith(center + ' p=')
    ]
