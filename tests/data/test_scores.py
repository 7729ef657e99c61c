"Scores and statistics against the libraries that offer the same, where these are installed; none of them is needed to use the package."
import re
import numpy as np
import pytest
from carve_nb.core.errors import StatisticsError
from carve_nb.core.stats import difference, holm, mcnemar, mean_interval, sign_flip
from carve_nb.data.records import Record
from recipes.correlation import spearman

def test_own_sets_of_ten_answers():
    "Ten answers of one's own are compared with both sides normalized"
    from carve_nb.data.records import make_record
    from carve_nb.data.scoring import score_answer
    for people in (['Coca Cola']*10, ['Coca Cola']*9 + ['Pepsi'], ['The Coca-Cola']*12):
        record = make_record(dict(question='?', answers=people))
        assert [score_answer(o, record) for o in ('Coca Cola', 'coca cola.', 'Pepsi Cola')] == [1, 1, 0], people


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


@pytest.mark.parametrize('answer, one, n, other, vqa, text', OFFICIAL)
def test_vqa_as_published(answer, one, n, other, vqa, text):
    from carve_nb.data.scoring import score_answer
    record = Record('1', None, '?', [one]*n + [other]*(10 - n))
    assert [score_answer(answer, record, r) for r in ('vqa', 'vqa-text')] == pytest.approx([vqa, text])


def test_vqa_of_random_answers():
    "Four thousand comparisons with the published rule written out: each person left out, three matches are a full point"
    from carve_nb.data.scoring import ARTICLES, score_answer
    digits = {word: str(i) for i, word in enumerate('zero one two three four five six seven eight nine ten'.split())}
    words = "red, Red blue the a two 2 none t-shirt dont don't 1,000 3.5 St. it's ok? (left) -5 x_y coca-cola ten".split()

    def normalized(text):
        signs = [c for c in ';/[]"{}()=+\\_-><@`,?!' if c in text]
        close = bool(re.search(r'\d,\d', text))
        plain = text
        for c in signs: plain = plain.replace(c, '' if close or re.search(rf'{re.escape(c)} | {re.escape(c)}', text) else ' ')
        plain = re.sub(r'\.(?!\d)', '', plain).lower().split()
        plain = [digits.get(w, '0' if w == 'none' else w) for w in plain]
        return ' '.join("don't" if w == 'dont' else w for w in plain if w not in ARTICLES)

    rng = np.random.default_rng(4)
    for _ in range(4000):
        answer, one, other = (' '.join(rng.choice(words, rng.integers(1, 3))) for _ in range(3))
        people = rng.permutation([one]*(k := rng.integers(0, 11)) + [other]*(10 - k)).tolist()
        answer = rng.choice([answer, one, one.replace(',', ''), one.lower()])
        said, those = (answer, people) if len({*people}) == 1 else (normalized(answer), list(map(normalized, people)))
        points = [min(1, (those[:i] + those[i + 1:]).count(said)/3) for i in range(10)]
        assert score_answer(answer, Record('1', None, '?', people), 'vqa') == pytest.approx(np.mean(points)), (answer, people)


def test_holm():
    multipletests = pytest.importorskip('statsmodels.stats.multitest').multipletests
    rng = np.random.default_rng(5)
    for m in (1, 2, 5, 40):
        p = rng.random(m).round(2)
        assert holm(p) == pytest.approx(multipletests(p, method='holm')[1].tolist())


@pytest.mark.soak
@pytest.mark.parametrize('per_image', [1, 3, 18])
def test_intervals_and_tests_by_image(per_image):
    "Where questions share images, 5 % +- 1 of the tests give a false alarm, and 95 % +- 1.5 of the intervals hold the truth"
    from scipy.stats import norm
    n, studies, rng, rows = 1800, 3000, np.random.default_rng(0), []
    m = n//per_image
    images = np.repeat(np.arange(m), per_image)
    for k in range(studies):
        own = rng.normal(size=(2, m))[:, images]
        a, b = (own + rng.normal(size=(2, n)) > -.4).astype(float)
        share = mean_interval(a, clusters=images)
        p = mcnemar(a, b) if per_image == 1 else sign_flip(a, b, 999, k, images)
        rows.append([p < .05, share.lo <= norm.cdf(.4/2**.5) <= share.hi, np.nan])
        if k < 1000:
            gap = difference(a, b, 500, k, clusters=images)
            rows[-1][2] = gap.lo <= 0 <= gap.hi
    alarms, held, gaps = np.nanmean(rows, 0)
    assert abs(alarms - .05) <= .01 and abs(held - .95) <= .015 and abs(gaps - .95) <= .015, (alarms, held, gaps)


def test_correlation_of_equal_values():
    "Where nothing varies there is no correlation"
    for x, y in (([1, 2, 3], [3]*3), ([3]*3, [1, 2, 3])):
        with pytest.raises(StatisticsError): spearman(x, y)


@pytest.mark.parametrize('ties', [False, True])
def test_patches(ties):
    metrics = pytest.importorskip('sklearn.metrics')
    from carve_nb.core.saliency import Saliency
    from carve_nb.data.scoring import patch_auroc
    rng = np.random.default_rng(6)
    for _ in range(40):
        values = rng.random((6, 8)).astype(np.float32)
        S = Saliency(values.round(1) if ties else values, (80, 60))
        x, y = rng.integers(0, 60), rng.integers(0, 40)
        box = (x, y, x + rng.integers(1, 20), y + rng.integers(1, 20))
        rows, columns = ((np.arange(n)*10 < box[i + 2]) & (np.arange(n)*10 + 10 > box[i]) for i, n in ((1, 6), (0, 8)))
        assert patch_auroc(S, [box]) == pytest.approx(metrics.roc_auc_score(np.outer(rows, columns).ravel(),
            S.values.ravel()))


SIGNED = '1 -1 +1 3 3.15 3:15 $5 5% 5 C C++ C# c B- US us no no! red dark-red'.split()


def test_options_with_signs():
    "The text of an option counts where it is the right one, letter by letter, as A-OKVQA's own evaluator has it; a letter alone stays a letter in the rule choice"
    from carve_nb.data.scoring import score_answer
    rng = np.random.default_rng(7)
    for _ in range(3000):
        choices = rng.choice(SIGNED, rng.integers(2, 6), replace=False).tolist()
        said, i = rng.choice(choices), int(rng.integers(len(choices)))
        record = Record('1', None, '?', [choices[i]], choices)
        assert score_answer(said, record, 'choice-text') == float(said == choices[i]), (said, choices, i)
        if len(said) > 1 or said.isdigit():
            assert score_answer(said, record, 'choice') == float(said == choices[i]), (said, choices, i)
