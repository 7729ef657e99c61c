/* Figures that move without a kernel: the method's arithmetic on stored rows, and what is drawn of it.
   The rows come from nbs/results/figure (see the page "A figure without a kernel"); nothing is asked of another host. */
'use strict';
window.carveFigures = (() => {
const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
const COLOURS = [[254,183,126], [254,161,110], [252,138,98], [248,116,92], [240,95,94], [227,78,101], [210,66,111], [191,58,119], [171,51,124], [152,45,128], [132,38,129], [114,31,129], [95,24,127], [76,17,122], [56,16,108], [36,18,83], [20,14,54]];
const sum = a => a.reduce((s, v) => s + v, 0), range = n => [...Array(n).keys()];

// The method, as Carve does it

function decode(text) { // two letters a weight, on a logarithmic scale
  return Float32Array.from({length: text.length/2}, (_, i) => {
    const code = 64*LETTERS.indexOf(text[2*i]) + LETTERS.indexOf(text[2*i + 1]);
    return code ? 10**(9*((code - 1)/4094 - 1)) : 0; });
}

function entropy(map) { // bits
  const total = sum(map);
  return -sum(Array.from(map, v => v > 0 ? v/total*Math.log2(v/total) : 0));
}

function fused(rows, other, shape, s) { // rows [T, L, H, N] (and those to divide by) become one map [N]
  const [T, , H, N] = shape, out = new Float64Array(N), heads = s.heads ?? range(H);
  const mean = (r, t, l) => Float32Array.from({length: N}, (_, i) => sum(heads.map(h => r[((t*shape[1] + l)*H + h)*N + i]))/heads.length);
  for (const t of s.steps === 'all' ? range(T) : [s.steps === 'first' ? 0 : T - 1]) for (const l of s.layers) {
    const q = mean(rows, t, l), g = other && mean(other, t, l), weight = s.steps === 'all' ? t + 1 : 1;
    const lam = g && Math.max(s.lam*(s.relative ? sum(g)/N : 1), 1e-30);
    for (let i = 0; i < N; i++) out[i] += weight*(g ? Math.fround(q[i]/(g[i] + lam)) : q[i]);
  }
  return Float32Array.from(out);
}

function tent(cells, pixels) { // the two cells and the weight of each pixel along one axis
  return range(pixels).map(x => {
    const u = Math.min(Math.max((x + .5)/pixels*cells - .5, 0), cells - 1), lo = Math.min(Math.floor(u), cells - 2);
    return [lo, u - lo]; });
}

function toPixels(map, [gh, gw], [W, H]) { // bilinear
  const out = new Float32Array(W*H), xs = tent(gw, W);
  tent(gh, H).forEach(([j, b], y) => {
    const row = range(gw).map(i => map[j*gw + i]*(1 - b) + map[(j + 1)*gw + i]*b);
    for (let x = 0; x < W; x++) out[y*W + x] = row[xs[x][0]]*(1 - xs[x][1]) + row[xs[x][0] + 1]*xs[x][1];
  });
  return out;
}

function topMask(pixels, p) { // those in the top share p
  const sorted = Float32Array.from(pixels).sort(), at = (1 - p)*(sorted.length - 1), i = Math.floor(at);
  const tau = Math.fround(sorted[i] + (sorted[Math.min(i + 1, sorted.length - 1)] - sorted[i])*(at - i));
  return pixels.map(v => p === 1 || sorted[0] === sorted.at(-1) || (tau > sorted[0] ? v >= tau : v > tau));
}

function regions(pixels, [W, H], s) { // connected parts of the mask, best first
  const mask = topMask(pixels, s.p), label = new Int32Array(W*H), found = [];
  for (let start = 0; start < W*H; start++) if (mask[start] && !label[start]) {
    const r = {score: 0, box: [W, H, 0, 0], id: found.length + 1}, todo = [start];
    label[start] = r.id;
    while (todo.length) {
      const k = todo.pop(), x = k % W, y = (k - x)/W, b = r.box;
      r.score += pixels[k];
      r.box = [Math.min(b[0], x), Math.min(b[1], y), Math.max(b[2], x + 1), Math.max(b[3], y + 1)];
      for (const [n, ok] of [[k - 1, x > 0], [k + 1, x < W - 1], [k - W, y > 0], [k + W, y < H - 1]])
        if (ok && mask[n] && !label[n]) { label[n] = r.id; todo.push(n); }
    }
    found.push(r);
  }
  const n = s.region_rule === 'official' ? Math.max(s.K, Math.floor(s.p*found.length)) : s.K;
  return {label, kept: found.sort((a, b) => b.score - a.score).slice(0, n)};
}

function grow(lo, hi, target, limit) {
  const n = Math.min(Math.max(Math.ceil(target - 1e-6), hi - lo), limit);
  lo = Math.min(Math.max(lo - Math.floor((n - (hi - lo))/2), 0), limit - n);
  return [lo, lo + n];
}

function viewBox(kept, [W, H], s) {
  const [x0, y0, x1, y1] = [0, 1, 2, 3].map(i => Math[i < 2 ? 'min' : 'max'](...kept.map(r => r.box[i])));
  let w = Math.max(x1 - x0, s.min_side), h = Math.max(y1 - y0, s.min_side);
  if (s.square) w = h = Math.max(w, h);
  const [[a, c], [b, d]] = [grow(x0, x1, w, W), grow(y0, y1, h, H)];
  return [a, b, c, d];
}

function compute(d, s) { // both maps, their ratio, its peak, the kept regions and the view
  const q = d.q ??= decode(d.question_rows), g = d.g ??= decode(d.instruction_rows);
  const maps = {A_Q: fused(q, null, d.shape, s), A_G: fused(g, null, d.shape, s), ratio: fused(q, g, d.shape, s)};
  const pixels = toPixels(maps.ratio, d.grid, d.size), {label, kept} = regions(pixels, d.size, s);
  const peak = m => { const k = m.indexOf(m.reduce((a, b) => Math.max(a, b), -Infinity)), [gh, gw] = d.grid;
    return [(k % gw + .5)*d.size[0]/gw, (Math.floor(k/gw) + .5)*d.size[1]/gh]; };
  const [x0, y0, x1, y1] = d.target, hit = ([x, y]) => x0 <= x && x < x1 && y0 <= y && y < y1;
  const view = viewBox(kept, d.size, s), peaks = Object.fromEntries(Object.entries(maps).map(([k, m]) => [k, peak(m)]));
  return {...maps, pixels, label, kept, view, peaks, hits: Object.fromEntries(Object.entries(peaks).map(([k, p]) => [k, hit(p)]))};
}

// What is drawn

const VIEW = '#029e73';

function make(tag, attributes = {}, ...inner) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) k in e && typeof v !== 'string' ? e[k] = v : e.setAttribute(k, v);
  e.append(...inner);
  return e;
}

function panels(names, side) { // canvases in a row
  const row = make('div', {class: 'panels'}), found = {};
  for (const [k, title] of Object.entries(names)) {
    found[k] = make('canvas', {role: 'img', 'aria-label': title, width: side, height: side});
    row.append(make('figure', {}, found[k], make('figcaption', {}, title)));
  }
  return [row, found];
}

function box(c, [x0, y0, x1, y1], k, ...colours) { // outlines, the outer first
  const width = c.canvas.width/130;
  colours.forEach((colour, i) => { c.strokeStyle = colour; c.lineWidth = width;
    c.strokeRect(x0*k - width*(.5 - i), y0*k - width*(.5 - i), (x1 - x0)*k + width*(1 - 2*i), (y1 - y0)*k + width*(1 - 2*i)); });
}

function overlay(canvas, picture, map, grid) { // a map in colours over the light picture
  const c = canvas.getContext('2d', {willReadFrequently: true}), W = canvas.width, H = canvas.height;
  c.drawImage(picture, 0, 0, W, H);
  const image = c.getImageData(0, 0, W, H), px = image.data, v = toPixels(map, grid, [W, H]);
  const lo = v.reduce((a, b) => Math.min(a, b)), hi = v.reduce((a, b) => Math.max(a, b));
  for (let i = 0; i < v.length; i++) {
    const x = hi > lo ? (v[i] - lo)/(hi - lo) : 0, a = .92*x**.6, k = Math.min(Math.floor(x*16), 15), f = x*16 - k;
    const grey = .299*px[4*i] + .587*px[4*i + 1] + .114*px[4*i + 2];
    for (let j = 0; j < 3; j++) px[4*i + j] = (.45*(.25*px[4*i + j] + .75*grey) + .55*255)*(1 - a) + (COLOURS[k][j]*(1 - f) + COLOURS[k + 1][j]*f)*a;
  }
  c.putImageData(image, 0, 0);
  return c;
}

function ring(c, [x, y], k, hit) { // around the peak
  const unit = c.canvas.width/224;
  for (const [colour, width] of [['#fff', 5], [hit ? '#029e73' : '#d55e00', 2.5]]) {
    c.strokeStyle = colour; c.lineWidth = width*unit; c.beginPath();
    c.arc(x*k, y*k, 14*unit, 0, 2*Math.PI); c.stroke();
  }
}

function drawView(canvas, picture, r, d, s) {
  const c = canvas.getContext('2d'), [x0, y0, x1, y1] = r.view, k = Math.min(canvas.width/(x1 - x0), canvas.height/(y1 - y0));
  c.fillStyle = '#888'; c.fillRect(0, 0, canvas.width, canvas.height);
  let source = picture;
  if (s.fill === 'black') { // all but the kept regions
    source = make('canvas', {width: d.size[0], height: d.size[1]});
    const o = source.getContext('2d'), ids = new Set(r.kept.map(v => v.id));
    o.drawImage(picture, 0, 0, ...d.size);
    const image = o.getImageData(0, 0, ...d.size);
    r.label.forEach((v, i) => { if (!ids.has(v)) image.data.fill(0, 4*i, 4*i + 3); });
    o.putImageData(image, 0, 0);
  }
  c.drawImage(source, x0, y0, x1 - x0, y1 - y0, (canvas.width - (x1 - x0)*k)/2, (canvas.height - (y1 - y0)*k)/2, (x1 - x0)*k, (y1 - y0)*k);
}

function crop(canvas, picture, [x0, y0, x1, y1], k) { // a part of the picture, `k` times its pixels, as large as the panel
  canvas.getContext('2d').drawImage(picture, x0*k, y0*k, (x1 - x0)*k, (y1 - y0)*k, 0, 0, canvas.width, canvas.height);
}

// Controls

function slider(name, title, lo, hi, step, show) {
  const input = make('input', {type: 'range', min: `${lo}`, max: `${hi}`, step: `${step}`, name}), out = make('output', {});
  input.show = () => { out.textContent = show(+input.value); input.setAttribute('aria-valuetext', out.textContent); };
  return [make('label', {class: 'slide'}, make('span', {}, title), input, out), input];
}

function boxes(title, name, n) {
  const all = range(n).map(i => make('input', {type: 'checkbox', name, value: `${i}`}));
  return [make('fieldset', {}, make('legend', {}, title), ...all.map((o, i) => make('label', {}, o, ` ${i}`))), all];
}

let made = 0;

function choice(title, name, options) {
  name += `-${made++}`; // radio buttons of one name belong together
  const all = Object.entries(options).map(([k, v]) => [make('input', {type: 'radio', name, value: k}), v]);
  return [make('fieldset', {}, make('legend', {}, title), ...all.map(([o, v]) => make('label', {}, o, ` ${v}`))), all.map(o => o[0])];
}

const lamOf = v => v <= -8 ? 1e-8 : 10**v, short = v => v >= .01 ? `${+v.toPrecision(2)}` : v.toExponential(0).replace('e-', ' · 10^-');

function sceneFigure(root, d, picture) {
  const [row, canvas] = panels({picture: 'picture', A_Q: 'A_Q, under the question', A_G: 'A_G, under the instruction', ratio: 'ratio A_Q / (A_G + λ)', view: 'view'}, 224);
  const [lamRow, lam] = slider('lam', 'λ', -8, 2, .25, v => short(lamOf(v)) + (relative.checked ? ' × mean A_G' : ''));
  const [pRow, p] = slider('p', 'kept share p', .01, .6, .01, v => `${Math.round(100*v)} %`);
  const relative = make('input', {type: 'checkbox', name: 'relative'});
  const [layerBox, layers] = boxes('layers', 'layers', d.shape[1]), [headBox, heads] = boxes('heads', 'heads', d.shape[2]);
  const [stepBox, steps] = choice('step', 'steps', {first: 'first', last: 'last', all: 'all'});
  const [keepBox, keeps] = choice('regions', 'regions', {1: '1', 2: '2', 3: '3'});
  const status = make('p', {class: 'said', role: 'status', 'aria-live': 'polite'});
  const buttons = Object.entries({ours: 'our settings', official: "the published code's"}).map(([k, v]) => {
    const b = make('button', {type: 'button', 'aria-pressed': 'false'}, v); b.onclick = () => preset(k); b.preset = k; return b; });
  let hidden = {}, last = '', timer;
  const ticked = all => all.filter(o => o.checked).map(o => +o.value), radio = all => all.find(o => o.checked).value;
  const settings = () => ({...hidden, lam: lamOf(+lam.value), relative: relative.checked, p: +p.value, K: +radio(keeps), steps: radio(steps), layers: ticked(layers), heads: ticked(heads)});
  const same = (a, b) => ['relative', 'p', 'K', 'steps'].every(k => a[k] === b[k]) && Math.abs(Math.log(a.lam/b.lam)) < 1e-6 && `${a.layers}` === `${b.layers}` && a.heads.length === d.shape[2] && a.fill === b.fill;
  function preset(name) {
    const o = d.presets[name];
    hidden = {region_rule: o.region_rule, fill: o.fill, min_side: o.min_side, square: o.square};
    lam.value = Math.log10(o.lam); p.value = o.p; relative.checked = o.relative;
    layers.forEach((b, i) => b.checked = o.layers.includes(i)); heads.forEach(b => b.checked = true);
    steps.forEach(b => b.checked = b.value === o.steps); keeps.forEach(b => b.checked = +b.value === o.K);
    draw();
  }
  function say(text) { // once the dial rests
    if (text === last) return;
    last = text; clearTimeout(timer);
    timer = setTimeout(() => status.textContent = text, status.textContent ? 150 : 0);
  }
  function draw() {
    const s = settings();
    [lam, p].forEach(o => o.show());
    if (!s.layers.length || !s.heads.length) return say('Tick at least one layer and one head.');
    const r = root.result = compute(d, s), k = canvas.picture.width/d.size[0], c = canvas.picture.getContext('2d');
    c.drawImage(picture, 0, 0, canvas.picture.width, canvas.picture.height);
    box(c, d.target, k, '#000', '#fff'); box(c, r.view, k, '#fff', VIEW);
    for (const m of ['A_Q', 'A_G', 'ratio']) {
      const o = overlay(canvas[m], picture, r[m], d.grid);
      box(o, d.target, k, '#000', '#fff'); ring(o, r.peaks[m], k, r.hits[m]);
      canvas[m].setAttribute('aria-label', `${m}: peak at (${r.peaks[m].map(Math.round)}), ${r.hits[m] ? 'in' : 'outside'} the true region; ${entropy(r[m]).toFixed(1)} bits`);
    }
    drawView(canvas.view, picture, r, d, s);
    canvas.view.setAttribute('aria-label', `The view: pixels (${r.view.join(', ')}) of the picture`);
    const known = Object.entries(d.presets).find(([, o]) => same(s, o)), word = o => o ? 'hit' : 'miss';
    buttons.forEach(b => b.setAttribute('aria-pressed', `${known?.[0] === b.preset}`));
    say(`Peaks: A_Q ${word(r.hits.A_Q)}, A_G ${word(r.hits.A_G)}, ratio ${word(r.hits.ratio)}. Regions (${r.kept.map(o => o.box.join(', ')).join('), (')}), view (${r.view.join(', ')}). ` +
      `Alone the model answers “${d.plain}”, ` + (known ? `with this view “${known[1].answer}”; the truth is “${d.truth}”.` : `the truth is “${d.truth}”; its answer to this view is not stored.`));
  }
  root.settings = settings;
  root.append(make('p', {class: 'ask'}, make('strong', {}, d.question)), row, make('div', {class: 'dials'}, make('div', {class: 'buttons'}, ...buttons), lamRow, pRow,
    make('label', {class: 'unit'}, relative, ' λ in units of the mean of A_G'), layerBox, headBox, stepBox, keepBox), status,
    make('p', {class: 'legend'}, `White: the true region. Green box: what the view shows. Ring: the peak, green if it lies in the true region, orange if not. Held-out scene ${d.seed}, ${d.why}.`));
  root.addEventListener('input', draw);
  preset('ours');
}

function clutterFigure(root, d, pictures) {
  const names = {picture: 'picture', question: 'A_Q, under the question', instruction: 'A_G, under the instruction', contrast: 'ratio'}, [row, canvas] = panels(names, 192);
  const [knobRow, knob] = slider('clutter', 'clutter', 0, d.stages.length - 1, 1, v => ['none', 'a little', 'half', 'much', 'full'][v]);
  const status = make('p', {class: 'said', role: 'status', 'aria-live': 'polite'}), maps = d.stages.map(s => Object.fromEntries(Object.entries(s.maps).map(([k, t]) => [k, decode(t)])));
  const bits = (map, [L]) => sum(range(L).map(l => entropy(map.slice(l*map.length/L, (l + 1)*map.length/L))))/L;
  const rows = d.stages.map((s, i) => { const H = bits(maps[i].question, s.shape);
    return make('tr', {}, ...[s.texture.toFixed(2), s.colour.toFixed(2), H.toFixed(2), (2**H).toFixed(1), s.answer].map(t => make('td', {}, t))); });
  function draw() {
    const i = +knob.value, s = d.stages[i], [L, gh, gw] = s.shape, k = canvas.picture.width/d.size[0], c = canvas.picture.getContext('2d');
    knob.show();
    c.drawImage(pictures[i], 0, 0, canvas.picture.width, canvas.picture.height);
    box(c, d.target, k, '#000', '#fff');
    root.result = {};
    for (const m of ['question', 'instruction', 'contrast']) {
      const all = maps[i][m], mean = Float32Array.from({length: gh*gw}, (_, n) => sum(range(L).map(l => all[l*gh*gw + n]))/L);
      root.result[m] = bits(all, s.shape);
      box(overlay(canvas[m], pictures[i], mean, [gh, gw]), d.target, k, '#000', '#fff');
      canvas[m].setAttribute('aria-label', `${names[m]}: ${root.result[m].toFixed(2)} bits`);
    }
    rows.forEach((r, j) => j === i ? r.setAttribute('aria-current', 'true') : r.removeAttribute('aria-current'));
    const H = root.result.question;
    status.textContent = `Texture ${s.texture.toFixed(2)}, colour ${s.colour.toFixed(2)}: A_Q has ${H.toFixed(2)} bits, as if spread over ${(2**H).toFixed(1)} patches. The model answers “${s.answer}”; the truth is “${d.truth}”.`;
  }
  const head = ['texture T_c', 'colour C_c', 'H of A_Q, bits', '2^H, patches', 'answer'].map(t => make('th', {scope: 'col'}, t));
  root.append(make('p', {class: 'ask'}, make('strong', {}, d.question)), row, make('div', {class: 'dials'}, knobRow), status,
    make('table', {class: 'stages'}, make('thead', {}, make('tr', {}, ...head)), make('tbody', {}, ...rows)));
  root.addEventListener('input', draw);
  knob.value = 0; draw();
}

function switchFigure(root, d, picture) { // eight settings of one scene, all stored
  const titles = {picture: 'the picture', map: 'where the row looks', view: 'what it is shown again, enlarged'};
  const [row, canvas] = panels(titles, 448), k = canvas.picture.width/d.size[0], target = d.target.map((v, i) => v + (i < 2 ? -8 : 8)); // the outline lies beside it
  const knobs = [
    choice('Behind the question', 'sentence', {0: 'nothing', 1: '“Answer the question using a single word or phrase.”'}),
    choice('Whose row', 'word', {0: 'the last position’s', 1: `that of “${d.word}”, the last content word`}),
    choice(make('span', {}, 'Divide by ', make('i', {}, 'A'), make('sub', {}, 'G')), 'divide', {0: 'no', 1: 'yes'})];
  knobs.forEach(([field, all], i) => { field.classList.add('switch'); all[i ? 0 : 1].checked = true; });
  const answer = make('div', {class: 'answer', 'aria-hidden': 'true'}), status = make('p', {class: 'unseen', role: 'status', 'aria-live': 'polite'});
  row.append(answer);
  const bars = Object.fromEntries(Object.entries({touches: 'the peak touches the target', right: 'the answer is right'}).map(([key, title]) => {
    const fill = make('i'), whisker = make('b'), value = make('output');
    const track = make('div', {class: 'track'}, fill, whisker, ...(key === 'right' ? [make('s')] : []));
    return [key, {row: make('div', {class: 'bar'}, make('span', {}, title), track, value), fill, whisker, value, alone: track.querySelector('s')}]; }));
  const percent = ([v]) => `${v.toFixed(0)} %`;
  function draw() {
    const key = knobs.map(([, all]) => all.find(o => o.checked).value).join(''), s = d.switches[key], map = s.map.flat(), c = canvas.picture.getContext('2d');
    const at = map.indexOf(999), [gh, gw] = d.grid, peak = [(at % gw + .5)*d.size[0]/gw, (Math.floor(at/gw) + .5)*d.size[1]/gh];
    const right = s.answer === d.truth, word = s.touch ? 'touches the target' : 'misses the target';
    root.result = {key, peak, view: s.view, answer: s.answer};
    c.drawImage(picture, 0, 0, canvas.picture.width, canvas.picture.height);
    box(c, target, k, '#000', '#fff'); box(c, s.view, k, '#fff', VIEW);
    const o = overlay(canvas.map, picture, map, d.grid);
    box(o, target, k, '#000', '#fff'); ring(o, peak, k, s.touch);
    crop(canvas.view, picture, s.view, picture.width/d.size[0]);
    canvas.picture.setAttribute('aria-label', `The picture: the target in white, the view in green, pixels ${s.view.join(', ')}`);
    canvas.map.setAttribute('aria-label', `The map of attention: its peak ${word}`);
    canvas.view.setAttribute('aria-label', 'The part of the picture that the model is shown again');
    answer.replaceChildren(make('span', {}, 'It answers'), make('strong', {class: right ? 'right' : 'wrong'}, s.answer),
      make('span', {}, right ? '✓ right' : `✗ wrong, it is ${d.truth}`), make('small', {}, `without a second look: ${s.plain}`));
    for (const [name, b] of Object.entries(bars)) {
      const [v, lo, hi] = s[name];
      b.fill.style.width = `${v}%`; b.whisker.style.left = `${lo}%`; b.whisker.style.width = `${hi - lo}%`; b.value.textContent = percent(s[name]);
      if (b.alone) b.alone.style.left = `${s.alone[0]}%`;
    }
    status.textContent = `The peak ${word}. The model answers “${s.answer}”, which is ${right ? 'right' : `wrong, the truth is “${d.truth}”`}; without a second look “${s.plain}”. ` +
      `With these settings the peak touches the target in ${percent(s.touches)} of ${d.n} questions, and ${percent(s.right)} of the answers are right; without a second look ${percent(s.alone)}.`;
  }
  root.append(make('p', {class: 'ask'}, make('strong', {}, d.question)), make('div', {class: 'switches'}, ...knobs.map(o => o[0])), row,
    make('p', {class: 'over'}, `The same setting on all ${d.n} held-out questions:`), ...Object.values(bars).map(b => b.row), status,
    make('p', {class: 'legend'}, 'White: the target. Green: what it is shown again. Ring: the strongest patch of the map, green if it touches the target, orange if not. ' +
      'Line on a bar: 95 % interval; dash: the model without a second look.'));
  root.addEventListener('input', draw);
  draw();
}

async function load(address) { const i = new Image(); i.src = address; await i.decode(); return i; }

async function start(root) {
  const name = root.dataset.figure, d = window.carveData[name];
  const pictures = await Promise.all((d.stages ?? [d]).map(o => load(o.picture)));
  root.replaceChildren();
  if (d.stages) clutterFigure(root, d, pictures); else (d.switches ? switchFigure : sceneFigure)(root, d, pictures[0]);
  root.dataset.ready = 'yes';
}

const run = () => document.querySelectorAll('[data-figure]').forEach(start);
if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', run); else run();
return {compute, decode, entropy};
})();
