"""`carve-tiny` and `carve-small` side by side: their layers, and their demos."""
from dataclasses import replace
import numpy as np, pandas as pd
from matplotlib.figure import Figure
from carve_nb.core.plotting import plot_band, plot_style
from carve_nb.core.stats import Estimate, mcnemar, mean_interval, paired_effect
from carve_nb.runs.report import report
from .layers import column

LOOKS = dict(color='C0', marker='o'), dict(color='C3', marker='s'), dict(color='C6', marker='^')     # of the models in all figures

def plot_means(ax, found, **kw): # model -> [n, L] values; of the axis
    "A mean with its interval over relative depth, for each model"
    for (m, values), look in zip(found.items(), LOOKS):
        means = [mean_interval(v) for v in values.T]
        plot_band(ax, np.linspace(0, 1, len(means)), means, alpha=.25, label=m, ms=4, lw=1.2, **look)
    ax.set(**dict(xlabel='depth (first to last layer)') | kw)

def entropy_parts(records) -> np.ndarray: # of `recipes.layers`
    "Entropy as a part of the largest, [scenes, L]"
    return column(records, 'entropy')/np.log2(records[0]['patches'])

def target_lift(records) -> np.ndarray:
    "Share of attention in the true region over the region's share of the image, [scenes, L]"
    return column([r | dict(lift=np.divide(r['share'], r['area'])) for r in records if 'share' in r], 'lift')

def compare_layers(convergence) -> Figure: # model -> records of `recipes.layers`
    "Entropy, AUROC and lift by relative depth"
    of = lambda read: {m: read(records) for m, records in convergence.items()}
    with plot_style():
        fig = Figure((7.6, 2.7), dpi=80, layout='constrained')
        wide, area, lift = fig.subplots(1, 3)
        plot_means(wide, of(entropy_parts), ylim=(0, 1), title='entropy, part of the largest')
        plot_means(area, of(lambda r: column(r, 'auroc')), ylim=(0, 1.02), title='AUROC of the target')
        plot_means(lift, of(target_lift), title='attention there, times chance', yscale='log')
        for ax, chance in ((area, .5), (lift, 1)): ax.axhline(chance, color='.5', ls='--', lw=.8)
        fig.legend(*wide.get_legend_handles_labels(), loc='outside lower center', ncols=4)
    return fig

def layer_table(convergence) -> pd.DataFrame:
    "First, best and last layer of each model, with intervals over scenes"
    def rows(records):
        parts, area, lift = entropy_parts(records), column(records, 'auroc'), target_lift(records)
        best, most = area.mean(0).argmax(), lift.mean(0).argmax()
        mean, lo, hi = mean_interval(lift[:, most])
        return {
            'entropy of the first layer, % of the largest': mean_interval(parts[:, 0]),
            'entropy of the last layer': mean_interval(parts[:, -1]),
            'last against first, parts, paired': paired_effect(parts[:, -1], parts[:, 0]),
            'best AUROC of the target, %': f'{mean_interval(area[:, best])} in layer {best}',
            'most attention there, times chance': f'{mean:.1f} [{lo:.1f}, {hi:.1f}] in layer {most}',
            'scenes': len(area)}
    return pd.DataFrame({m: rows(records) for m, records in convergence.items()})

def demo_table(reports, kind='digit') -> pd.DataFrame: # model -> `Run` of its demo
    "The demo of several models in one table: accuracy and point at of each method"
    columns = {}
    for m, run in reports.items():
        rows = report(run.records, kind=kind).T
        columns[m, 'accuracy, %'] = {k: str(Estimate(r['acc'], r['lo'], r['hi'], r['n'], kind=r['interval'])) for k, r in rows.items()}
        columns[m, 'pointing, %'] = {k: f'{100*r["pointing"]:.0f}' for k, r in rows.items() if r['pointing'] == r['pointing']}
    return pd.DataFrame(columns).fillna('')

def method_difference(run, a, b, kind='digit', key='score') -> Estimate: # of a demo; methods; or 'pointing'
    "Two methods on the same questions, p by McNemar"
    first, second = (pd.Series({r['id']: r[key] for r in run.select(m, kind)}) for m in (a, b))
    x, y = pd.concat([first, second], axis=1, join='inner').to_numpy(float).T
    return replace(paired_effect(x, y), p=mcnemar(x, y))

