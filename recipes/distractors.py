"""A trained sticker, the same in pieces, a watermark and rings in held-out scenes, and who still finds the target."""

from dataclasses import dataclass, replace
import numpy as np, seaborn as sns
from matplotlib.figure import Figure
from carve_nb.formulas.depth import head_mean_rows
from carve_nb.core.saliency import patch_cover
from carve_nb.core.plotting import plot_style
from carve_nb.core.stats import mean_interval
from carve_nb.data.records import Record
from carve_nb.data.scenes import samples
from .ablation import ask_all, paired, tidy, wide
from .records import run_recipe
from .stickers import PLANTS, attention_share, find_sticker, free_place, plant

@dataclass
class PlantedSample(Record):
    "A question about a scene that gets a distractor"
    planted: str = 'clean' # a key of `PLANTS`
    place: tuple|None = None # where it goes

def distractors_samples(n, start=0):
    "Held-out digit questions with every distractor, five of a seed in turn; it is planted when a model is asked"
    for i in range(n):
        seed, kind = start + i//len(PLANTS), list(PLANTS)[i % len(PLANTS)]
        s, = samples('digit', 1, 'heldout', seed)
        place = PLANTS[kind] and free_place(np.random.default_rng([2, seed]), PLANTS[kind], s.image.size, s.box)
        yield PlantedSample(**vars(s) | dict(id=f'{s.id}-{kind}', planted=kind, place=place))

DISTRACTED = { # name in the record -> method
    **{k: k for k in ('none', 'question-only')},
    'carve λ→0': 'carve:lam=1e-8:relative=False', 'carve λ=0.1': 'carve:lam=.1', 'carve': 'carve',
    'carve λ=10': 'carve:lam=10.',
    **{k: k for k in ('paper', 'official', 'rel-att', 'pure-grad', 'oracle')}}
KINDS = [k for k in PLANTS if k != 'clean']
SHARES = dict(question_share=('question', '-'), instruction_share=('instruction', '--'))

def point_at(result, sample) -> dict: # `Result`, `PlantedSample`
    "What the peak of a map finds, 0 or 1: the target, or what was planted"
    S = result.saliency
    if S is None: return {}
    caught = sample.place is not None and S.points_at(sample.place)
    return dict(pointing=int(S.points_at(sample.box)), hit=int(S.hit(sample.box)), caught=int(caught))

def measure_distractors(vlm, sample, methods=tuple(DISTRACTED)) -> dict: # `VLM`, `PlantedSample`, names of `DISTRACTED`
    "Every method on one scene, what its peak finds, and the share of attention that the distractor draws by layer"
    image, place = plant(sample.image, sample.planted, sample.place, find_sticker(vlm)), sample.place
    seen = replace(sample, image=image)
    made, pair = ask_all(vlm, seen, {k: DISTRACTED[k] for k in methods}, lambda r: point_at(r, sample))
    shares = [attention_share(head_mean_rows(r), patch_cover(r.spans[0], place)).round(5).tolist() if place else [] for r in pair]
    return dict(id=sample.id, planted=sample.planted, truth=sample.answer, made=made, **dict(zip(SHARES, shares)))

def distractor_costs(records, key='pointing'): # of `measure_distractors`; or 'correct' or 'hit'
    "What each distractor costs each method, against the same scenes clean: a row for each (planted, method)"
    w = wide(tidy(records, 'planted'), key)
    return paired({(k, m): (w[k, m], w['clean', m]) for k in KINDS for m in w['clean']}).rename_axis(['planted', 'method'])

def gains_over(records, key='pointing', base='question-only'): # as `distractor_costs`, or 'caught'; the method to compare with
    "What every method gains over one of them, with each distractor: a row for each (planted, method)"
    w = wide(tidy(records, 'planted'), key)
    return paired({(k, m): (w[k, m], w[k, base]) for k in (KINDS if key == 'caught' else PLANTS) for m in w[k] if m != base}).rename_axis(
        ['planted', 'method'])

def survival(records, planted='sticker', method='carve') -> str: # a key of `PLANTS`; a key of `DISTRACTED`
    "Whether contrast points better where a distractor costs the question's map something; Holm over the distractors"
    w, alone = wide(tidy(records, 'planted'), 'pointing'), 'question-only'
    cost = paired({k: (w[k, alone], w['clean', alone]) for k in KINDS}).loc[planted]
    gain = paired({k: (w[k, method], w[k, alone]) for k in KINDS}).loc[planted]
    if cost.change >= 0 or cost.p_holm >= .05: return 'is not put to the test by'
    return 'survives' if gain.change > 0 and gain.p_holm < .05 else 'does not survive'

def drawn(records, kind, field): # of `measure_distractors`; a key of `PLANTS`; a key of `SHARES`
    "Mean share of attention that a distractor draws, by layer, in per cent"
    return 100*np.mean([r[field] for r in records if r['planted'] == kind], 0)

def plot_scores(ax, t, key, palette, title): # of `tidy`; a score; group -> color
    "Mean and interval of each method, groups in colors"
    t = t.dropna(subset=key)
    sns.pointplot(
        t.assign(percent=100*t[key].astype(float)), x='percent', y='method', hue=t.columns[1], ax=ax, palette=palette,
        errorbar=lambda x: [100*e for e in tuple(mean_interval(x/100))[1:]], ls='none', dodge=.6, ms=3,
        err_kws=dict(lw=.8), legend=False)
    ax.set(xlim=(-2, 102), xlabel='', ylabel='', title=title)

def plot_distractors(records) -> Figure:
    "What distractors draw (dashed: under the instruction), which maps they catch, and what is left"
    t = tidy(records, 'planted')
    titles = dict(caught='peak on the distractor, %', pointing='peak on the target, %', correct='right answers, %')
    with plot_style() as pal:
        fig, colors = Figure((8, 5), dpi=80, layout='constrained'), dict(zip(PLANTS, pal))
        first, *axes = fig.subplots(2, 2).flat
        for kind in KINDS:
            for field, (_, ls) in SHARES.items(): first.plot(drawn(records, kind, field), 'o' + ls, ms=3, lw=1, color=colors[kind])
        first.set(xlabel='layer', ylabel="% of the image's attention", title='drawn; dashed: instruction', ylim=(0, None))
        for ax, key in zip(axes, titles): plot_scores(ax, t[t.planted.isin(KINDS)] if key == 'caught' else t, key, colors, titles[key])
        fig.legend([first.plot([], [], 'o', color=c)[0] for c in colors.values()], colors, loc='outside lower center', ncols=5)
    return fig

if __name__ == '__main__':
    run_recipe(
        'distractors', measure_distractors, distractors_samples, plot_distractors,
        lambda records: [distractor_costs(records), gains_over(records)], 600)
