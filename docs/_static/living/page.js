// The page of the living figure: what is shown, what the reader does, and what is asked of the worker.
import {drawCrop, drawMap, drawScene, outline, ring} from './draw.js';
import {average, contrast, cropBox, pointsAt, regionBox} from './maps.js';
import {COLORS, SHAPES, SIDE, boxOf, nameOf, newObject, newScene, paint, readImage, recolor, toRGB} from './scene.js';
import {makeTokenizer} from './tokenizer.js';
import {readHalf} from './weights.js';

const at = name => new URL(name, import.meta.url).href, json = name => fetch(at(name)).then(a => a.json());
const GREEN = '#029e73', ORANGE = '#d55e00', percent = v => `${Math.round(100*v)} %`;
const options = all => all.map(o => `<option>${o}</option>`).join('');
const choices = (name, all) => all.map(([value, words = value], i) =>
  `<label><input type="radio" name="${name}" value="${value}"${i ? '' : ' checked'}>${words}</label>`).join('');

const FRAME = `
<form class="asked">
  <input name="question" aria-label="Question" list="living-words" autocomplete="off" spellcheck="false">
  <button>Ask</button><datalist id="living-words"></datalist></form>
<div class="row"><fieldset><legend>Model</legend>${choices('model', [['carve-small'], ['carve-tiny']])}</fieldset>
  <label><input type="checkbox" name="short" checked>short-answer instruction</label></div>
<div class="words" role="group" aria-label="Query token: whose attention is shown"></div>
<div class="panels">
  <figure><canvas class="scene" tabindex="0" role="img"></canvas><figcaption class="answer first"></figcaption></figure>
  <figure><canvas class="map" role="img"></canvas><figcaption class="said"></figcaption></figure>
  <figure><canvas class="crop" role="img"></canvas><figcaption class="answer second"></figcaption></figure>
</div>
<div class="row"><button type="button" class="again">Crop and ask again</button>
  <fieldset><legend>Map</legend>${choices('map', [['raw'], ['ratio', 'contrasted']])}</fieldset>
  <label>Layer <select name="layer"></select></label></div>
<div class="row"><button type="button" class="new">New scene</button><button type="button" class="twins">Twins</button>
  <label>make_scene <select name="seed"></select></label></div>
<div class="row"><label>Object <select name="object"></select></label>
  <select name="color" aria-label="Color">${options(Object.keys(COLORS))}</select>
  <select name="shape" aria-label="Shape">${options(SHAPES)}</select>
  <select name="digit" aria-label="Digit">${options([...Array(10).keys()])}</select>
  <button type="button" class="more">Add</button><button type="button" class="less">Remove</button></div>
<p class="waiting" hidden><progress max="1"></progress> <span></span></p>
<p class="note" role="status" aria-live="polite"></p>
<p class="note measured"></p>`;

class Figure {
  constructor(root, data, sheet, tokenizers) {
    Object.assign(this, {root, data, tokenizers, sheet: {...sheet, digits: data.digits}, grounds: {}, asked: 0,
      name: 'carve-small', scene: 0, chosen: 0, layer: 'lookup', short: true, ratio: false});
    root.innerHTML = FRAME;
    this.find = selector => root.querySelector(selector);
    for (const canvas of root.querySelectorAll('canvas')) canvas.width = canvas.height = SIDE;
    this.find('[name=seed]').innerHTML = options(['', ...data.scenes.map(s => s.seed)]);
    this.find('.measured').textContent = data.measured ?? '';
    this.listen();
  }

  // What is shown

  async show({seed, objects, question}, made) { // a scene, made by `make_scene`?
    this.ground = this.grounds[seed] ??= toRGB(await readImage(at(`data/${seed}.webp`)));
    Object.assign(this, {seed, objects: structuredClone(objects), question, chosen: 0, scene: this.scene + 1});
    this.find('[name=question]').value = question;
    this.find('[name=seed]').value = made ? seed : '';
    this.repaint();
  }

  repaint() {
    this.image = paint(this.ground, this.objects, this.sheet);
    const list = this.find('[name=object]'), own = this.objects[this.chosen];
    list.innerHTML = this.objects.map((o, i) => `<option value="${i}">${nameOf(o)}</option>`).join('');
    if (own) list.value = this.chosen;
    for (const key of ['color', 'shape', 'digit']) this.find(`[name=${key}]`).value = own?.[key];
    this.draw();
  }

  get layers() { // that are shown
    const count = this.result.maps[0].length;
    if (this.layer === 'lookup') return this.data.models[this.name].layers;
    return this.layer === 'all' ? [...Array(count).keys()] : [+this.layer];
  }

  get map() {
    const {maps, instruction} = this.result, own = maps[this.token], g = instruction[+(this.token === maps.length - 1)];
    return average(this.layers.map(l => this.ratio ? contrast(own[l], g[l]) : own[l]));
  }

  get reading() { return [this.token, this.layer, this.ratio].join(); } // what a crop was made of

  get target() { // of a question for a digit: the one object that is asked about
    const [, name] = /^\s*what (?:digit|number) is on the (\w+ \w+)\s*\?*\s*$/i.exec(this.question) ?? [];
    const found = this.objects.filter(o => nameOf(o) === name?.toLowerCase());
    return found.length === 1 ? found[0] : null;
  }

  draw() {
    const c = drawScene(this.find('.scene'), this.image), own = this.objects[this.chosen], {target, result} = this;
    const list = this.objects.map(o => `${nameOf(o)} ${o.digit}`).join(', ');
    const about = `Scene with ${list}. Arrow keys move the ${own ? nameOf(own) : 'object'}.`;
    this.find('.scene').setAttribute('aria-label', about);
    const scene = document.createElement('canvas');
    scene.width = scene.height = SIDE;
    drawScene(scene, this.image);
    if (result) this.drawResult(c, scene, target);
    if (own && document.activeElement === this.find('.scene')) outline(c, boxOf(own), '#000', '#fff');
  }

  drawResult(c, scene, target) {
    const {map, result} = this, crop = this.crop?.of === this.reading ? this.crop : null;
    const box = crop?.box ?? cropBox(regionBox(map));
    const m = drawMap(this.find('.map'), this.image, map), hit = target && pointsAt(map, boxOf(target));
    const on = this.objects.filter(o => pointsAt(map, boxOf(o))).map(nameOf);
    for (const canvas of [c, m]) outline(canvas, box, '#fff', GREEN);
    ring(m, map, target && !hit ? ORANGE : GREEN);
    drawCrop(this.find('.crop'), scene, box);
    const token = result.tokens[this.token], where = on.length ? `the ${on.join(' and the ')}` : 'the background';
    const layers = this.layer === 'all' ? 'all layers' :
      `layer${this.layers.length > 1 ? 's' : ''} ${this.layers.join(', ')}`;
    const said = `“${token}” looks at ${where} (${layers}${this.ratio ? ', contrasted' : ''}).`;
    this.find('.said').textContent = said;
    this.find('.map').setAttribute('aria-label', `Attention over the scene: ${said}`);
    this.tell('.first', 'Answer', result);
    this.tell('.second', 'With the crop', crop);
    this.find('.crop').setAttribute('aria-label', `Crop of the scene around the region of “${token}”`);
    const answers = ({answer, confidence}) => `“${answer}” (${percent(confidence)})`;
    this.find('[role=status]').textContent = `${this.name} answers ${answers(result)}` +
      `${crop ? `, with the crop ${answers(crop)}` : ''}. ${said}` +
      (result.unknown?.length ? ` It does not know: ${result.unknown.join(', ')}.` : '');
  }

  tell(selector, title, got) { // an answer, and whether it is right
    const truth = this.target && String(this.target.digit), right = got?.answer === truth, place = this.find(selector);
    if (!got) { place.textContent = 'Not asked again yet'; return; }
    const judged = truth === null ? '' : right ? ', right' : `, the truth is ${truth}`;
    place.innerHTML = `${title}: <b></b> <span>${percent(got.confidence)} sure${judged}</span>`;
    place.firstElementChild.textContent = got.answer;
    place.firstElementChild.className = truth === null ? '' : right ? 'right' : 'wrong';
  }

  showWords() {
    const {tokens} = this.result, row = this.find('.words');
    row.replaceChildren('Point at a word: ', ...tokens.map((token, i) => {
      const button = document.createElement('button');
      Object.assign(button, {type: 'button', textContent: token});
      const look = () => this.pick(i);
      for (const event of ['pointerenter', 'focus', 'click']) button.addEventListener(event, look);
      return button;
    }));
    const layers = [...Array(this.result.maps[0].length).keys()];
    this.find('[name=layer]').innerHTML =
      `<option value="lookup">as lookup reads</option><option value="all">all</option>${options(layers)}`;
    this.find('[name=layer]').value = this.layer;
  }

  pick(token) { // whose attention is shown
    this.token = token;
    [...this.find('.words').children].forEach((b, i) => b.setAttribute('aria-pressed', i === token));
    this.draw();
  }

  receive(result) {
    this.result = {...result, tokens: [...result.tokens, 'last token']};
    this.crop = null;
    this.showWords();
    const words = result.tokens.filter(t => /\w/.test(t));
    const noun = result.tokens.lastIndexOf(words.at(-1));
    this.pick(this.data.models[this.name].token === 'last' || noun < 0 ? result.tokens.length : noun);
  }

  stored() { // the first scene, as PyTorch answered while the site was built
    const {tokens, layers, crop, ...first} = this.data.first, cells = 256, own = first[this.short ? 'short' : 'bare'];
    const rows = text => {
      const all = readHalf(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
      return Array.from({length: all.length/layers/cells}, (_, i) =>
        Array.from({length: layers}, (_, l) => all.subarray((i*layers + l)*cells, (i*layers + l + 1)*cells)));
    };
    this.receive({...own, tokens, maps: rows(own.maps), instruction: rows(own.instruction)});
    if (this.short) this.crop = {...crop, of: this.reading};
    this.draw();
  }

  // What is asked of the worker

  call(act, more = {}) { // the newest call alone is answered
    this.worker ??= new Worker(at('worker.js'), {type: 'module'});
    const id = ++this.asked, {version} = this.data.models[this.name], folder = at(`data/${this.name}/`);
    this.wait('Starting', 0);
    return new Promise((resolve, reject) => {
      this.worker.onmessage = ({data}) => {
        if (data.id !== id) return;
        if (data.progress) return this.wait(...this.words(data.progress));
        this.find('.waiting').hidden = true;
        data.error ? reject(new Error(data.error)) : resolve(data.done);
      };
      this.worker.postMessage({id, act, name: this.name, version, folder, scene: this.scene, image: this.image,
        question: this.question, short: this.short, ...more});
    });
  }

  words({read, all, part}) {
    const size = v => (v/1e6).toFixed(0), most = all || this.data.models[this.name].bytes;
    if (part !== undefined) return ['Reading the image', part];
    return [`Fetching ${this.name}: ${size(read)} of ${size(most)} MB, once`, read/most];
  }

  wait(words, share) {
    this.find('.waiting').hidden = false;
    this.find('.waiting span').textContent = words;
    this.find('progress').value = share;
  }

  async ask() {
    this.question = this.find('[name=question]').value;
    this.root.dataset.busy = 'yes';
    try { this.receive(await this.call('ask')); }
    catch (error) { this.wait(`This did not work: ${error.message}`, 0); }
    this.root.dataset.busy = '';
  }

  async askAgain() {
    const box = cropBox(regionBox(this.map)), of = this.reading;
    this.root.dataset.busy = 'yes';
    try { this.crop = {...await this.call('crop', {box}), box, of}; this.draw(); }
    catch (error) { this.wait(`This did not work: ${error.message}`, 0); }
    this.root.dataset.busy = '';
  }

  changed() { this.scene++; this.repaint(); return this.ask(); } // another image

  // What the reader does

  listen() {
    const on = (selector, event, act) => this.find(selector).addEventListener(event, act);
    on('form', 'submit', event => { event.preventDefault(); this.ask(); });
    on('[name=question]', 'input', () => this.complete());
    on('.again', 'click', () => this.askAgain());
    on('.new', 'click', () => this.renew());
    on('.twins', 'click', async () => { this.choose('carve-tiny'); await this.show(this.data.twins); this.ask(); });
    on('[name=seed]', 'change', async event => {
      const scene = this.data.scenes.find(s => s.seed === +event.target.value);
      if (scene) { await this.show(scene, true); this.ask(); }
    });
    on('[name=layer]', 'change', event => { this.layer = event.target.value; this.draw(); });
    on('[name=short]', 'change', event => {
      this.short = event.target.checked;
      if (this.isFirst) this.stored(); else this.ask();
    });
    on('[name=object]', 'change', event => { this.chosen = +event.target.value; this.repaint(); });
    on('.more', 'click', () => {
      const o = newObject(this.objects);
      if (o) this.chosen = this.objects.push(o) - 1;
      this.changed();
    });
    on('.less', 'click', () => { this.objects.splice(this.chosen, 1); this.chosen = 0; this.changed(); });
    for (const o of this.root.querySelectorAll('[name=model]')) {
      o.addEventListener('change', () => { this.choose(o.value); this.ask(); });
    }
    for (const o of this.root.querySelectorAll('[name=map]')) {
      o.addEventListener('change', () => { this.ratio = o.value === 'ratio'; this.draw(); });
    }
    for (const key of ['color', 'shape', 'digit']) {
      on(`[name=${key}]`, 'change', event => this.alter(key, event.target.value));
    }
    this.listenToScene();
  }

  get isFirst() { return !this.worker && this.scene === 1 && this.question === this.find('[name=question]').value; }

  choose(name) {
    this.name = name; this.layer = 'lookup';
    this.find(`[value=${name}]`).checked = true;
  }

  alter(key, value) { // of the chosen object
    const own = this.objects[this.chosen];
    if (!own) return;
    own[key] = key === 'digit' ? +value : value;
    if (key === 'color') own.rgb = recolor(value);
    this.changed();
  }

  async renew() { // new objects on one of the backgrounds
    const {seed} = this.data.scenes[Math.floor(this.data.scenes.length*Math.random())], objects = newScene();
    const asked = objects[Math.floor(objects.length*Math.random())];
    await this.show({seed, objects, question: `What digit is on the ${nameOf(asked)}?`});
    this.ask();
  }

  complete() { // the question's last word by those that the model knows
    const {value} = this.find('[name=question]'), [, before, part] = /^(.*?)(\w*)$/s.exec(value);
    const known = this.tokenizers[this.name].words.filter(w => /^\w+$/.test(w) && w.startsWith(part.toLowerCase()));
    const whole = this.objects.map(o => `What digit is on the ${nameOf(o)}?`);
    this.find('datalist').innerHTML = (value.trim() ? known.slice(0, 40).map(w => before + w) : whole)
      .map(o => `<option value="${o.replace(/[&"<]/g, '')}">`).join('');
  }

  listenToScene() {
    const canvas = this.find('.scene'), place = event => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left)*SIDE/box.width, (event.clientY - box.top)*SIDE/box.height];
    };
    const under = ([x, y]) => this.objects.findLastIndex(o =>
      x >= o.x && x < o.x + o.side && y >= o.y && y < o.y + o.side);
    let held = null;
    canvas.addEventListener('touchstart', event => { // beside the objects the page scrolls
      if (under(place(event.touches[0])) >= 0) event.preventDefault();
    }, {passive: false});
    canvas.addEventListener('pointerdown', event => {
      const [x, y] = place(event), i = under([x, y]);
      if (i < 0) return;
      held = {dx: x - this.objects[i].x, dy: y - this.objects[i].y, moved: false};
      this.chosen = i;
      canvas.setPointerCapture(event.pointerId); canvas.focus({preventScroll: true}); this.repaint();
    });
    canvas.addEventListener('pointermove', event => {
      if (!held) return;
      const [x, y] = place(event);
      held.moved = this.move(x - held.dx, y - held.dy) || held.moved;
    });
    canvas.addEventListener('pointerup', () => { if (held?.moved) this.changed(); held = null; });
    canvas.addEventListener('keydown', event => this.step(event));
    for (const event of ['focus', 'blur']) canvas.addEventListener(event, () => this.draw());
  }

  move(x, y) { // the chosen object; has it moved?
    const own = this.objects[this.chosen], inside = v => Math.round(Math.min(Math.max(v, 0), SIDE - own.side));
    if (!own || own.x === inside(x) && own.y === inside(y)) return false;
    [own.x, own.y] = [inside(x), inside(y)];
    this.scene++; this.repaint();
    return true;
  }

  step(event) { // by an arrow key; asked when it rests
    const by = {ArrowLeft: [-8, 0], ArrowRight: [8, 0], ArrowUp: [0, -8], ArrowDown: [0, 8]}[event.key];
    const own = this.objects[this.chosen];
    if (!by || !own) return;
    event.preventDefault();
    if (!this.move(own.x + by[0], own.y + by[1])) return;
    clearTimeout(this.rest);
    this.rest = setTimeout(() => this.ask(), 800);
  }
}

async function start(root) {
  const data = await json('data/living.json'), sheet = await readImage(at('data/sheet.png')), tokenizers = {};
  for (const name of Object.keys(data.models)) {
    tokenizers[name] = makeTokenizer(await json(`data/${name}/tokenizer.json`));
  }
  const figure = new Figure(root, data, sheet, tokenizers);
  await figure.show(data.scenes.find(s => s.seed === data.first.seed), true);
  figure.stored();
  Object.assign(root, {figure}).dataset.ready = 'yes';
}

const style = Object.assign(document.createElement('link'), {rel: 'stylesheet', href: at('living.css')});
style.onload = () => document.querySelectorAll('[data-living]').forEach(start);
document.head.append(style);
