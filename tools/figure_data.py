"""The figures that move on the site without a kernel, from small files.

    python tools/figure_data.py     (writes nbs/results/figure; from the root of the repository)

The front page has three switches on one scene of `carve-small`: eight maps, views and answers, and how often each setting points
and answers right on the 300 questions of the run `nbs/results/switches-small`. Its picture for those who run no scripts is
nbs/images/switches.png. The knob for clutter takes the same scene through five stages, with `carve-tiny`; its weights are stored as logarithms in
4,095 steps from 1e-9 to 1, as two characters of 64: rounding changes one by at most 0.26 %, and what is below 1e-9 becomes 0.
"""
import base64, io, json
from pathlib import Path
import numpy as np
from carve_nb.method.registry import make_method
from carve_nb.formulas.complexity import colour, texture
from carve_nb.data.scenes import make_scene
from carve_nb.core.plotting import CONCEPT_COLORS, draw_boxes, outline_target, plot_panels, widen_box
from carve_nb.core.saliency import pick_layers
from carve_nb.core.stats import mean_interval
from carve_nb.runs.report import Report
from carve_nb.formulas.maps import entropy
from carve_nb.method.measures import capture_pair

LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
DECADES = 9 # the smallest weight that is not stored as 0 is 1e-9
STEPS = 64*64 - 2

def encode_weights(a) -> str: # two characters a weight
    "Weights as text, on a logarithmic scale"
    a = np.asarray(a, np.float64).ravel().clip(0, 1)
    seen = a >= 10.**-DECADES
    codes = np.where(seen, 1 + np.rint(STEPS*(np.log10(np.where(seen, a, 1))/DECADES + 1)), 0).astype(int)
    return ''.join(LETTERS[c//64] + LETTERS[c % 64] for c in codes)

def decode_weights(text, shape) -> np.ndarray: # float32
    "Weights out of text"
    codes = np.array([LETTERS.index(c) for c in text]).reshape(-1, 2) @ [64, 1]
    weights = np.where(codes > 0, 10.**(DECADES*((codes - 1)/STEPS - 1)), 0)
    return weights.astype(np.float32).reshape(shape)

def picture_link(image, side, quality=40) -> str: # an address that holds it
    "A small picture as text"
    buffer = io.BytesIO()
    image.resize((side, side)).save(buffer, 'WEBP', quality=quality, method=6)
    return f'data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}'

def scene_facts(scene, query, seed) -> dict: # plain values
    "What is asked of a scene, and the truth"
    return dict(seed=seed, question=query.question, truth=query.answer, target=list(query.box), size=list(scene.image.size))

def clutter_stage(vlm, seed, amount) -> dict: # plain values, for JSON
    "One stage of the knob"
    scene = make_scene(seed, texture=amount, colour=amount/2)
    q, maps = capture_pair(vlm, scene.image, scene.query('digit').question)
    layers = pick_layers('paper', vlm.n_layers)
    shares = {k: m[0, layers]/m[0, layers].sum(-1, keepdim=True) for k, m in maps.items()}
    return dict(
        shape=[len(layers), *q.spans[0].grid], texture=round(texture(scene.image), 4), colour=round(colour(scene.image), 4),
        answer=str(q.answer), H={k: round(entropy(s).mean().item(), 4) for k, s in shares.items()},
        maps={k: encode_weights(s) for k, s in shares.items()}, picture=picture_link(scene.image, 192))

def clutter_figure(vlm, seed) -> dict: # plain values, for JSON
    "Everything that the knob for clutter is drawn from"
    scene = make_scene(seed)
    stages = [clutter_stage(vlm, seed, amount) for amount in (0., .25, .5, .75, 1.)]
    return dict(scene_facts(scene, scene.query('digit'), seed), stages=stages)

SWITCHES = dict(sentence=(':suffix=None', ''), word=('', ':query=question:words=noun'), divide=('question-only', 'carve'))

WHICH = ('The second panel is attention as it is usually read. Then one switch of three at a time: nothing behind the question, the row of '
    'the last content word, or the map divided by that of a general instruction.')

def switch_settings() -> dict: # '011' (no sentence, the word's row, divided) -> method
    "The methods that the three switches stand for, off and on"
    on = [(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    return {f'{i}{j}{k}': SWITCHES['divide'][k] + SWITCHES['word'][j] + SWITCHES['sentence'][i] for i, j, k in on}

def shares(report, method, key) -> list: # [share, lo, hi] in %
    "How many lines of a method are right, or point, with the interval"
    e = mean_interval([float(r[key]) for r in report.select(method, 'digit')])
    return [round(100*v, 1) for v in (e.value, e.lo, e.hi)]

def switch_figure(vlm, seed, report) -> tuple: # plain values, for JSON; picture for those without scripts
    "Everything that the figure with three switches is drawn from"
    scene = make_scene(seed)
    query, found = scene.query('digit'), {}
    results = {k: make_method(m)(vlm, scene.image, query.question) for k, m in switch_settings().items()}
    for (k, m), r in zip(switch_settings().items(), results.values()):
        alone = 'none' + SWITCHES['sentence'][int(k[0])]
        found[k] = dict(
            method=m, map=np.rint(999*r.saliency.values/r.saliency.values.max()).astype(int).tolist(), view=list(r.view.box), answer=str(r),
            plain=str(r.plain_answer), touch=r.saliency.touch(query.box), touches=shares(report, m, 'touch'),
            right=shares(report, m, 'score'), alone=shares(report, alone, 'score'))
    titles = {'100': 'as usually read', '000': 'no sentence', '110': 'row of the word', '101': 'divided, same row'}
    look = lambda o, box: draw_boxes(outline_target(o, widen_box(query.box)), [box] if box else [], CONCEPT_COLORS['contrast'])
    panels = {f'{t}: “{found[k]["answer"]}”': look(results[k].saliency.picture(), found[k]['view']) for k, t in titles.items()}
    figure = dict(
        scene_facts(scene, query, seed), word=query.question.rstrip('?').split()[-1], grid=list(results['100'].saliency.values.shape),
        n=len(report.select('none', 'digit')), switches=found, picture=picture_link(scene.image, 448, 70))
    return figure, plot_panels({'the picture': look(scene.image, None)} | panels, f'{query.question} {WHICH}', 330)


if __name__ == '__main__':
    from carve_nb.models.vlm import VLM
    clutter = clutter_figure(VLM.from_pretrained('carve-tiny'), 145)
    switches, picture = switch_figure(VLM.from_pretrained('carve-small'), 145, Report.load('nbs/results/switches-small'))
    for name, figure in dict(clutter=clutter, switches=switches).items():
        text = json.dumps(figure, ensure_ascii=False, separators=(',', ':'))
        Path(f'nbs/results/figure/{name}.json').write_text(text + '\n', encoding='utf-8')
    picture.save('nbs/images/switches.png', optimize=True)
