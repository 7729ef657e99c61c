"Scores against the published evaluators, and intervals on a thousand simulated studies."

import numpy as np
import pytest
from carve_nb.core.stats import difference, mean_interval, paired_test
from carve_nb.data.records import Record
from carve_nb.data.scoring import score_answer

# answer; one of ten people's answers, how many gave it, the answer of the others; scores of the official evaluators:
# GT-Vision-Lab/VQA a013f004 (vqaEval.py), facebookresearch/mmf 2dc099af (m4c_evaluators.py)
OFFICIAL = [
    ("yes coke 's", "yes Coke A's", 2, "don't", 0.0, 0.6),
    ('red,', 'red,', 5, 'no 3.5', 1.0, 1.0),
    ('red, 3.5 St.', 'red, 3.5 St.', 3, '(left) an', 0.9, 0.9),
    ('t-shirt', 't-shirt', 10, '(left) 5 1,000', 1.0, 1.0),
    ("can't", 'cant', 10, '\\ 3.5', 0.0, 1.0),
    ("'twas", 'twas the', 10, 'pepsi _', 0.0, 1.0),
    ('yes ok?', 'yes ok?', 1, '3.5 twas', 0.3, 0.3),
    ('Coke 3.5', 'Coke 3.5', 9, '/ pepsi coca-cola', 1.0, 1.0),
    ("'twas 's what 's", "twas A's what's", 10, '_ no', 0.0, 1.0),
    ('1,000', '1,000', 10, '/ 3.5 blue!', 1.0, 1.0),
    ('_', '_', 5, "what's", 1.0, 1.0),
    ("'twas", 'twas', 10, 'U.S.', 0.0, 1.0),
    ('_', '_', 9, '(left) dont ok?', 1.0, 1.0),
    ('couldntve', 'couldntve', 9, "5 St. it's", 1.0, 1.0),
    ('a couldntve dont', 'a couldntve dont', 2, 'x_y \\', 0.6, 0.6),
    ('couldntve ; ;', 'couldntve ; ;', 3, '$5', 0.9, 0.9),
    ('1,000 yes', '1,000 yes', 5, '(left) $5 yes', 1.0, 1.0),
    ('$5 ok?', '$5 ok?', 1, '5', 0.3, 0.3),
    ("coca-cola ok? A's", "coca-cola ok? A's", 3, "don't", 0.9, 0.9),
    ("it 's", "it's the a", 10, "_ don't", 0.0, 1.0),
    ('st', '\\ St. a', 10, '; x_y', 0.0, 1.0),
    (';', ';', 2, 'ok? 5 (left)', 0.6, 0.6),
    ('blue no 10', 'blue! no ten', 3, 'an', 0.9, 0.9),
    ('$5 2', '$5 two', 2, 'cant', 0.6, 0.6),
]


def test_vqa_as_published():
    for answer, one, n, other, vqa, text in OFFICIAL:
        record = Record('1', None, '?', [one] * n + [other] * (10 - n))
        assert [score_answer(answer, record, rule) for rule in ('vqa', 'vqa-text')] == pytest.approx(
            [vqa, text]
        ), answer


@pytest.mark.soak
@pytest.mark.parametrize('per_image', [1, 3, 18])
def test_intervals_and_tests_by_image(per_image):
    "Where questions share images, 5 % +- 1.7 of the tests give a false alarm, and 95 % +- 1.7 of the intervals hold the truth"
    from scipy.stats import norm

    n, studies, rng, rows = 1800, 1000, np.random.default_rng(0), []
    m = n // per_image
    images = np.repeat(np.arange(m), per_image)
    for _ in range(studies):
        image_effect = rng.normal(size=(2, m))[:, images]
        a, b = (image_effect + rng.normal(size=(2, n)) > -0.4).astype(float)
        share = mean_interval(a, clusters=images)
        p, _ = paired_test(a, b, images)
        gap = difference(a, b, images)
        rows.append([p < 0.05, share.lo <= norm.cdf(0.4 / 2**0.5) <= share.hi, gap.lo <= 0 <= gap.hi])
    alarms, held, gaps = np.mean(rows, 0)
    assert abs(alarms - 0.05) <= 0.017, (alarms, held, gaps)
    assert abs(held - 0.95) <= 0.017, (alarms, held, gaps)
    assert abs(gaps - 0.95) <= 0.017, (alarms, held, gaps)
