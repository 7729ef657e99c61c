/* Figures that move without a kernel: stored maps, and what is drawn of them. They come from nbs/results/figure; nothing is
   asked of another host. */
'use strict';
window.carveFigures = (() => {
const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
const COLORS = [[254,183,126], [254,161,110], [252,138,98], [248,116,92], [240,95,94], [227,78,101], [210,66,111], [191,58,119], [171,51,124], [152,45,128], [132,38,129], [114,31,129], [95,24,127], [76,17,122], [56,16,108], [36,18,83], [20,14,54]];
const sum = a => a.reduce((s, v) => s + v, 0), range = n => [...Array(n).keys()];

// Maps

function decode(text) { // two letters a weight, on a logarithmic scale
  return Float32Array.from({length: text.length/2}, (_, i) => {
    const code = 64*LETTERS.indexOf(text[2*i]) + LETTERS.indexOf(text[2*i + 1]);
    return code ? 10**(9*((code - 1)/4094 - 1)) : 0; });
}

function entropy(map) { // bits
  const total = sum(map);
  return -sum(Array.from(map, v => v > 0 ? v/total*Math.log2(v/total) : 0));
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

// What is drawn

const CROP = '#029e73';

function make(tag, attributes = {}, ...inner) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) k in e && typeof v !== 'string' ? e[k] = v : e.setAttribute(k, v);
  e.append(...inner);
  return e;
}

function panel(title, side) { // a canvas, the range of its map, a caption
  const canvas = make('canvas', {role: 'img', 'aria-label': title, width: side, height: side});
  return make('figure', {}, canvas, make('div', {class: 'range'}), make('figcaption', {}, title));
}

function panels(names, side) { // canvases in a row
  const figures = Object.entries(names).map(([k, title]) => [k, panel(title, side)]);
  return [make('div', {class: 'panels'}, ...figures.map(f => f[1])), Object.fromEntries(figures.map(([k, f]) => [k, f.firstChild]))];
}

function showRange(canvas, ...ends) { // the colors from the least to the greatest value, in means of the map
  const [least, most] = ends.map(v => make('span', {}, `${+v.toPrecision(2)}`));
  canvas.nextElementSibling.replaceChildren(least, make('i'), most);
}

function box(c, [x0, y0, x1, y1], k, ...colors) { // outlines, the outer first
  const width = c.canvas.width/130;
  colors.forEach((color, i) => { c.strokeStyle = color; c.lineWidth = width;
    c.strokeRect(x0*k - width*(.5 - i), y0*k - width*(.5 - i), (x1 - x0)*k + width*(1 - 2*i), (y1 - y0)*k + width*(1 - 2*i)); });
}

function overlay(canvas, image, map, grid) { // a map in colors over the light image
  const c = canvas.getContext('2d', {willReadFrequently: true}), W = canvas.width, H = canvas.height;
  c.drawImage(image, 0, 0, W, H);
  const pixels = c.getImageData(0, 0, W, H), px = pixels.data, v = toPixels(map, grid, [W, H]);
  const lo = v.reduce((a, b) => Math.min(a, b)), hi = v.reduce((a, b) => Math.max(a, b)), mean = sum(map)/map.length;
  showRange(canvas, lo/mean, hi/mean);
  for (let i = 0; i < v.length; i++) {
    const x = hi > lo ? (v[i] - lo)/(hi - lo) : 0, a = .92*x**.6, k = Math.min(Math.floor(x*16), 15), f = x*16 - k;
    const gray = .299*px[4*i] + .587*px[4*i + 1] + .114*px[4*i + 2];
    for (let j = 0; j < 3; j++) px[4*i + j] = (.45*(.25*px[4*i + j] + .75*gray) + .55*255)*(1 - a) + (COLORS[k][j]*(1 - f) + COLORS[k + 1][j]*f)*a;
  }
  c.putImageData(pixels, 0, 0);
  return c;
}

function ring(c, [x, y], k, hit) { // around the peak
  const unit = c.canvas.width/224;
  for (const [color, width] of [['#fff', 5], [hit ? CROP : '#d55e00', 2.5]]) {
    c.strokeStyle = color; c.lineWidth = width*unit; c.beginPath();
    c.arc(x*k, y*k, 14*unit, 0, 2*Math.PI); c.stroke();
  }
}

// Controls

function slider(name, title, lo, hi, step, show) {
  const input = make('input', {type: 'range', min: `${lo}`, max: `${hi}`, step: `${step}`, name}), out = make('output', {});
  input.show = () => { out.textContent = show(+input.value); input.setAttribute('aria-valuetext', out.textContent); };
  return [make('label', {class: 'slide'}, make('span', {}, title), input, out), input];
}

let made = 0;

function choice(title, name, options) {
  name += `-${made++}`; // radio buttons of one name belong together
  const all = Object.entries(options).map(([k, v]) => [make('input', {type: 'radio', name, value: k}), v]);
  return [make('fieldset', {}, make('legend', {}, title), ...all.map(([o, v]) => make('label', {}, o, ` ${v}`))), all.map(o => o[0])];
}

function clutterFigure(root, d, images) {
  const names = {image: 'image', question: 'A_Q, under the question', instruction: 'A_G, under the instruction', contrast: 'ratio'}, [row, canvas] = panels(names, 192);
  const [knobRow, knob] = slider('clutter', 'clutter', 0, d.stages.length - 1, 1, v => ['none', 'a little', 'half', 'much', 'full'][v]);
  const status = make('p', {class: 'said', role: 'status', 'aria-live': 'polite'}), maps = d.stages.map(s => Object.fromEntries(Object.entries(s.maps).map(([k, t]) => [k, decode(t)])));
  const bits = (map, [L]) => sum(range(L).map(l => entropy(map.slice(l*map.length/L, (l + 1)*map.length/L))))/L;
  const rows = d.stages.map((s, i) => { const H = bits(maps[i].question, s.shape);
    return make('tr', {}, ...[s.texture.toFixed(2), s.color.toFixed(2), H.toFixed(2), (2**H).toFixed(1), s.answer].map(t => make('td', {}, t))); });
  function draw() {
    const i = +knob.value, s = d.stages[i], [L, gh, gw] = s.shape, k = canvas.image.width/d.size[0], c = canvas.image.getContext('2d');
    knob.show();
    c.drawImage(images[i], 0, 0, canvas.image.width, canvas.image.height);
    box(c, d.target, k, '#000', '#fff');
    root.result = {};
    for (const m of ['question', 'instruction', 'contrast']) {
      const all = maps[i][m], mean = Float32Array.from({length: gh*gw}, (_, n) => sum(range(L).map(l => all[l*gh*gw + n]))/L);
      root.result[m] = bits(all, s.shape);
      box(overlay(canvas[m], images[i], mean, [gh, gw]), d.target, k, '#000', '#fff');
      canvas[m].setAttribute('aria-label', `${names[m]}: ${root.result[m].toFixed(2)} bits`);
    }
    rows.forEach((r, j) => j === i ? r.setAttribute('aria-current', 'true') : r.removeAttribute('aria-current'));
    const H = root.result.question;
    status.textContent = `Texture ${s.texture.toFixed(2)}, color ${s.color.toFixed(2)}: A_Q has ${H.toFixed(2)} bits, as if spread over ${(2**H).toFixed(1)} patches. The model answers “${s.answer}”; the truth is “${d.truth}”.`;
  }
  const head = ['texture T_c', 'color C_c', 'H of A_Q, bits', '2^H, patches', 'answer'].map(t => make('th', {scope: 'col'}, t));
  root.append(make('p', {class: 'ask'}, make('strong', {}, d.question)), row, make('div', {class: 'dials'}, knobRow), status,
    make('table', {class: 'stages'}, make('thead', {}, make('tr', {}, ...head)), make('tbody', {}, ...rows)));
  root.addEventListener('input', draw);
  knob.value = 0; draw();
}

function sizeFigure(root, d, images) { // one object, smaller and smaller
  const titles = {image: 'the image', map: 'attention map', shown: 'the crop'}, [row, canvas] = panels(titles, 320);
  const [knobRow, knob] = slider('size', 'its side', 0, d.stages.length - 1, 1, v => `${d.stages[v].share} %`);
  const answer = make('div', {class: 'answer', 'aria-hidden': 'true'}), status = make('p', {class: 'unseen', role: 'status', 'aria-live': 'polite'});
  row.append(answer);
  function draw() {
    const i = +knob.value, s = d.stages[i], [image, shown] = images.slice(2*i, 2*i + 2), k = canvas.image.width/s.side, c = canvas.image.getContext('2d');
    const map = s.map.flat(), [gh, gw] = [s.map.length, s.map[0].length], at = map.indexOf(999), peak = [(at % gw + .5)*s.side/gw, (Math.floor(at/gw) + .5)*s.side/gh];
    const room = s.side/60, target = s.target.map((v, j) => v + (j < 2 ? -room : room)), word = s.pointing ? 'points at the object' : 'misses the object';
    knob.show();
    root.result = {share: s.share, peak, alone: s.alone, looked: s.looked};
    c.drawImage(image, 0, 0, canvas.image.width, canvas.image.height);
    box(c, target, k, '#000', '#fff'); box(c, s.crop, k, '#fff', CROP);
    const o = overlay(canvas.map, image, map, [gh, gw]);
    box(o, target, k, '#000', '#fff'); ring(o, peak, k, s.pointing);
    canvas.shown.getContext('2d').drawImage(shown, 0, 0, canvas.shown.width, canvas.shown.height);
    canvas.map.setAttribute('aria-label', `The map of attention: its peak ${word}`);
    const said = a => make('strong', {class: a === d.truth ? 'right' : 'wrong'}, a);
    answer.replaceChildren(make('span', {}, 'baseline'), said(s.alone), make('span', {}, 'with lookup'), said(s.looked));
    status.textContent = `At ${s.share} % of the side the baseline answers “${s.alone}”, with lookup it is “${s.looked}”; the truth is “${d.truth}”. The peak ${word}.`;
  }
  root.append(make('p', {class: 'ask'}, make('strong', {}, d.question)), make('div', {class: 'dials'}, knobRow), row, status,
    make('p', {class: 'legend'}, 'White: the object. Green: the crop. Ring: the strongest patch of the map, whose scale is the bar, in means of the map; green if it points at the object, orange if not.'));
  root.addEventListener('input', draw);
  knob.value = 2; draw();
}

function rowsFigure(root, d) { // whose row points, and whose carries the answer, layer by layer
  const models = Object.fromEntries(Object.keys(d).map(m => [m, m])), asked = Object.fromEntries(Object.keys(Object.values(d)[0]).map(k => [k, k]));
  const [modelRow, model] = choice('Model', 'model', models), [kindRow, kind] = choice('Question', 'kind', asked);
  const deepest = Math.max(...Object.values(d).map(of => Object.values(of)[0].layers.length)) - 1;
  const [knobRow, knob] = slider('layer', 'layer', 0, deepest, 1, v => found().layers[v] ?? 'all');
  const status = make('p', {class: 'unseen', role: 'status', 'aria-live': 'polite'}), body = make('tbody'), over = make('p', {class: 'over'});
  const found = () => d[model.find(o => o.checked).value][kind.find(o => o.checked).value];
  const percent = v => `${v.toFixed(0)} %`;
  function cell(v, color) {
    const fill = make('i');
    fill.style.width = `${v}%`; fill.style.background = color;
    return make('td', {}, make('div', {class: 'cell'}, make('div', {class: 'track'}, fill), make('output', {}, percent(v))));
  }
  function draw() {
    const f = found(), last = f.layers.length - 1, at = Math.min(+knob.value, last), name = f.layers[at] === 'all' ? 'all layers' : `layer ${f.layers[at]}`;
    knob.max = `${last}`; knob.show();
    root.result = {layer: f.layers[at], pointing: f.pointing[at], lost: f.lost[at]};
    const words = f.tokens.map((t, i) => i === f.tokens.length - 1 ? `${t} (the last position)` : t);
    body.replaceChildren(...words.map((t, i) => make('tr', {}, make('th', {scope: 'row'}, t), cell(f.pointing[at][i], CROP), cell(f.lost[at][i], '#d55e00'))));
    over.textContent = `In ${name}, of ${f.n} questions about an object, each answered rightly without a cut:`;
    const most = a => a.indexOf(Math.max(...a)), [p, c] = [most(f.pointing[at]), most(f.lost[at])];
    status.textContent = `In ${name} the row of “${words[p]}” points at the object most often, in ${percent(f.pointing[at][p])}; cutting the row of “${words[c]}” loses most answers, ${percent(f.lost[at][c])}.`;
  }
  for (const all of [model, kind]) all[0].checked = true;
  for (const field of [modelRow, kindRow]) field.classList.add('switch');
  const head = ['the word', 'its row points at the object', 'answers lost without that row'].map(t => make('th', {scope: 'col'}, t));
  root.append(make('div', {class: 'switches'}, modelRow, kindRow), make('div', {class: 'dials'}, knobRow), over,
    make('table', {class: 'stages rows'}, make('thead', {}, make('tr', {}, ...head)), body), status,
    make('p', {class: 'legend'}, 'From top to bottom: the word before the object’s, the object’s word, six tokens after it, the last position of the prompt, in one question of that kind. ' +
      'Green: how often the strongest patch of that row points at the object. Orange: how many right answers are lost when that row cannot see the image there.'));
  root.addEventListener('input', draw);
  knob.value = 2; draw();
}

function chips(words, choose) { // buttons in a line, one of them chosen: by click, hover, focus or arrows
  const all = words.map(word => make('button', {type: 'button', class: 'chip'}, word));
  const pick = i => { all.forEach((chip, j) => { chip.ariaPressed = `${i === j}`; chip.tabIndex = i === j ? 0 : -1; }); choose(i); };
  all.forEach((chip, i) => ['pointerenter', 'focus', 'click'].forEach(act => chip.addEventListener(act, () => pick(i))));
  const line = make('div', {class: 'chips', role: 'group', 'aria-label': 'Tokens'}, ...all);
  line.addEventListener('keydown', e => {
    const step = {ArrowRight: 1, ArrowLeft: -1}[e.key], next = all[all.indexOf(document.activeElement) + step];
    if (next) { e.preventDefault(); next.focus(); }
  });
  return {line, pick};
}

function drawMap(canvas, image, map, grid, d) { // a map over the scene, its object and its peak -> does it point at the object?
  const k = canvas.width/d.size[0], at = map.indexOf(map.reduce((a, b) => Math.max(a, b))), [gh, gw] = grid;
  const [w, h] = [d.size[0]/gw, d.size[1]/gh], [x, y] = [at % gw*w, Math.floor(at/gw)*h], [x0, y0, x1, y1] = d.target;
  const hit = x < x1 && x + w > x0 && y < y1 && y + h > y0, c = overlay(canvas, image, map, grid);
  box(c, d.target, k, '#000', '#fff'); ring(c, [x + w/2, y + h/2], k, hit);
  return hit;
}

function tokensFigure(root, d, [image]) { // whose attention is read, in three prompts and two models
  const models = Object.keys(Object.values(d.orders)[0].models);
  const [row, canvas] = panels(Object.fromEntries(models.map(m => [m, m])), 320), captions = [...row.querySelectorAll('figcaption')];
  const [orderRow, order] = choice('The short-answer instruction', 'order', {after: 'after the question', before: 'before it', bare: 'away'});
  const status = make('p', {class: 'said', role: 'status', 'aria-live': 'polite'}), place = make('div');
  function draw(i) {
    const {tokens, models: read} = d.orders[order.find(o => o.checked).value], share = m => `${Math.round(read[m].pointing[i])} %`;
    root.result = {token: tokens[i], pointing: models.map(m => read[m].pointing[i])};
    models.forEach((m, j) => {
      const hit = drawMap(canvas[m], image, read[m].maps[i], read[m].grid, d);
      canvas[m].setAttribute('aria-label', `${m}: the map of ${tokens[i]} ${hit ? 'points' : 'does not point'} at the object`);
      captions[j].textContent = `${m}: ${share(m)}`;
    });
    const name = i === tokens.length - 1 ? 'the last position' : `“${tokens[i]}”`;
    status.textContent = `The map of ${name} points at the object in ${models.map(m => `${share(m)} (${m})`).join(' and ')} of ${d.n} questions.`;
  }
  function lay(word) { // the prompt anew, with the same token chosen
    const {tokens} = d.orders[order.find(o => o.checked).value], {line, pick} = chips(tokens, draw);
    place.replaceChildren(line);
    pick(Math.max(tokens.indexOf(word), 0));
  }
  order[0].checked = true;
  orderRow.classList.add('switch');
  orderRow.addEventListener('input', () => lay(root.result.token));
  root.append(place, row, status, make('div', {class: 'switches'}, orderRow),
    make('p', {class: 'legend'}, 'White: the object. Ring: the strongest patch; green if it points at the object, orange if not. Each map has its own scale: the bar, in means of the map.'));
  lay('heart');
}

function formulaFigure(root, d, [image]) { // A_Q divided by A_G, with λ and the token of the instruction
  const signs = {A_Q: 'A_Q', A_G: '÷ A_G', S: '= contrast'}, [row, canvas] = panels(signs, 224), captions = [...row.querySelectorAll('figcaption')];
  const [knobRow, knob] = slider('lambda', 'λ, in means of A_G', 0, d.lambdas.length - 1, 1, v => `${d.lambdas[v]}`);
  const status = make('p', {class: 'said', role: 'status', 'aria-live': 'polite'}), Nv = d.grid[0]*d.grid[1];
  const layers = text => { const all = decode(text); return range(d.layers).map(l => all.slice(l*Nv, (l + 1)*Nv)); };
  const total = maps => Float32Array.from({length: Nv}, (_, i) => sum(maps.map(m => m[i])));
  const A_Q = layers(d.A_Q), A_G = d.A_G.map(layers);
  let token = 0;
  function draw() {
    const lam = d.lambdas[+knob.value], share = d.pointing[+knob.value][token];
    const S = A_Q.map((q, l) => { const g = A_G[token][l], mean = sum(g)/Nv; return q.map((v, i) => v/(g[i] + lam*mean)); });
    knob.show();
    Object.entries({A_Q: total(A_Q), A_G: total(A_G[token]), S: total(S)}).forEach(([k, map], j) => {
      const hit = drawMap(canvas[k], image, map, d.grid, d);
      canvas[k].setAttribute('aria-label', `${signs[k]}: its peak ${hit ? 'is on' : 'misses'} the object`);
      captions[j].textContent = signs[k] + [`: ${Math.round(d.raw)} %`, `, of “${d.tokens[token]}”`, `: ${Math.round(share)} %`][j];
    });
    root.result = {token: d.tokens[token], lam, pointing: share};
    status.textContent = `With λ = ${lam} means of A_G, read at “${d.tokens[token]}” of the instruction, the contrast points at the object in ${Math.round(share)} % of ${d.n} questions; A_Q alone in ${Math.round(d.raw)} %.`;
  }
  const {line, pick} = chips(d.tokens, i => { token = i; draw(); });
  root.append(row, status, make('p', {class: 'over'}, 'The token of the instruction at which A_G is read:'), line, make('div', {class: 'dials'}, knobRow));
  knob.addEventListener('input', draw);
  knob.value = 0;
  pick(d.tokens.indexOf('description'));
}

function programFigure(root, d, [image, ...crops]) { // each line of a program beside what its variable holds
  const names = Object.fromEntries(d.stages.map(({name}, i) => [i, name])), [choiceRow, stage] = choice('It reads', 'stage', names);
  const status = make('p', {class: 'unseen', role: 'status', 'aria-live': 'polite'}), body = make('div', {class: 'program'});
  const map = (label, values, {grid, box: crop}) => {
    const figure = panel(label, 160), canvas = figure.firstChild, hit = drawMap(canvas, image, values, grid, d);
    canvas.setAttribute('aria-label', `${label}: its peak ${hit ? 'is on' : 'misses'} the object`);
    if (label === 'S') box(canvas.getContext('2d'), crop, 160/d.size[0], '#fff', CROP);
    return figure;
  };
  const shown = (i, label) => { const picture = crops[i].cloneNode(); picture.alt = label; return make('figure', {}, picture, make('figcaption', {}, label)); };
  function held(i, s) { // in the order of the lines
    return [[s.rows], [s.step], [map('A_Q', s.A_Q, s), map('A_G', s.A_G, s), s.shape], [map('S', s.S, s)], [`on ${s.grid.join(' x ')} patches`],
      [shown(i, `the crop of box (${s.box.join(', ')})`)], [make('strong', {class: s.answer === d.truth ? 'right' : 'wrong'}, s.answer)]];
  }
  function draw() {
    const i = +stage.find(o => o.checked).value, s = d.stages[i], holds = held(i, s);
    root.result = {name: s.name, answer: s.answer, box: s.box};
    body.replaceChildren(...d.lines.flatMap(([code, note], j) => [
      make('div', {class: 'line'}, make('code', {}, code), make('small', {}, note.replace(/^# /, ''))), make('div', {class: 'held'}, ...holds[j])]));
    status.textContent = `With ${s.name} the answer is “${s.answer}”; the truth is “${d.truth}”.`;
  }
  stage[0].checked = true;
  choiceRow.classList.add('switch');
  root.append(make('p', {class: 'ask'}, make('strong', {}, d.question)), make('div', {class: 'switches'}, choiceRow), body, status,
    make('p', {class: 'legend'}, 'White: the object. Ring: the strongest patch of a map; green if it points at the object. Green box on S: the crop. Bar: the scale, in means of the map.'));
  choiceRow.addEventListener('input', draw);
  draw();
}

async function load(address) { const i = new Image(); i.src = address; await i.decode(); return i; }

const FIGURES = {clutter: clutterFigure, formula: formulaFigure, program: programFigure, rows: rowsFigure, size: sizeFigure, tokens: tokensFigure};

async function start(root) {
  const name = root.dataset.figure, d = window.carveData[name];
  const addresses = [d, ...d.stages ?? []].flatMap(({image, shown}) => [image, shown]).filter(Boolean);
  const images = await Promise.all(addresses.map(load));
  root.replaceChildren();
  FIGURES[name](root, d, images);
  root.dataset.ready = 'yes';
}

const run = () => document.querySelectorAll('[data-figure]').forEach(start);
if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', run); else run();
return {decode, entropy};
})();
