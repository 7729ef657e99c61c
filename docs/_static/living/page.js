// The page of the living figure: what the reader does, what is asked of the worker, what is shown.
import {movable} from './drag.js';
import {drawImage, heat, set, showRange} from './draw.js';
import {average, contrast, cropBox, peakAt, pointsAt} from './maps.js';
import {findNoun} from './noun.js';
import {SIDE, boxOf, nameOf, newScene, paint, pick, questionOf, readImage} from './scene.js';
import {readQuestion} from './truth.js';

const at = name => new URL(name, import.meta.url).href;
const options = all => all.map(o => new Option(o));
const percent = v => `${Math.round(100*v)} %`;
const quoted = ({answer, confidence}) => `“${answer}” (${percent(confidence)})`;

const ACTS = { // by the name of what the reader presses or changes
  model: figure => { figure.fields.layer.value = 'all'; figure.ask(); },
  short: figure => figure.ask(),
  map: figure => figure.draw(),
  layer: figure => figure.draw(),
  again: figure => figure.ask(cropBox(figure.map)),
  fresh: figure => {
    const objects = newScene(), {seed} = pick(figure.data.scenes); // on one of the backgrounds
    figure.show({seed, objects, question: questionOf(pick(objects))});
  },
  twins: figure => figure.show(figure.data.twins),
  seed: figure => figure.show(figure.data.scenes[figure.fields.seed.selectedIndex]),
};

class Figure {
  constructor(root, data, sheet) {
    Object.assign(this, {root, data, sheet, asked: 0, fields: root.querySelector('form').elements});
    this.find = selector => root.querySelector(selector);
    this.fields.seed.append(...options(data.scenes.map(s => s.seed)));
    this.find('.measured').textContent = data.measured;
    this.listen(this.find('form'), this.find('.words'));
  }

  // What the reader does

  listen(form, words) {
    form.onsubmit = event => { event.preventDefault(); this.ask(); };
    form.onchange = ({target}) => ACTS[target.name]?.(this);
    form.onclick = ({target}) => { if (target.type === 'button') ACTS[target.name]?.(this); };
    this.fields.question.oninput = () => this.complete();
    const tokenOf = ({target}) => [...words.children].indexOf(target);
    const choose = event => { if (tokenOf(event) >= 0) this.look(this.chosen = tokenOf(event)); };
    words.onclick = choose;
    words.addEventListener('focusin', choose);
    words.onpointerover = event => { if (tokenOf(event) >= 0) this.look(tokenOf(event)); };
    words.onpointerleave = () => this.look(this.chosen);
  }

  complete() { // the last word of the question by those that the model knows
    const {question: {value}, model} = this.fields, [, before, part] = /^(.*?)(\w*)$/s.exec(value);
    const known = this.data.models[model.value].words.filter(w => w.startsWith(part.toLowerCase()));
    const all = value.trim() ? known.map(w => before + w) : this.objects.map(questionOf);
    this.find('datalist').replaceChildren(...options(all));
  }

  async show({seed, objects, question, model = this.fields.model.value}) { // a scene
    this.ground = (await readImage(at(`data/${seed}.webp`))).data;
    this.objects = structuredClone(objects);
    const svg = this.find('.objects'), moved = () => this.move();
    svg.replaceChildren(...this.objects.map(o => movable(svg, o, moved)));
    this.fields.question.value = question;
    this.fields.model.value = model;
    this.fields.seed.selectedIndex = this.data.scenes.findIndex(s => s.objects === objects);
    this.repaint();
    ACTS.model(this);
  }

  move() { // an object; asked when it rests
    this.root.dataset.busy = 'yes';
    this.repaint();
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.ask(), 500);
  }

  // What is asked

  get stored() { // what PyTorch answered to the first question, while the site was built
    const {model, question, short} = this.fields, {first, scenes: [{objects}]} = this.data;
    const known = JSON.stringify([first.model, first.question, objects]);
    const asked = JSON.stringify([model.value, question.value, this.objects]);
    return asked === known && first[short.checked ? 'short' : 'bare'];
  }

  ask(box) { // or with a crop; the newest question alone is answered
    const {image, stored, fields: {model: {value: name}, question, short}} = this;
    const id = ++this.asked, models = this.data.models, valid = this.find('form').reportValidity();
    this.root.dataset.busy = !valid ? '' : box ? 'crop' : 'yes';
    if (!valid) return;
    if (stored && !box) return this.receive(stored);
    this.wait('Starting', 0);
    this.worker ??= new Worker(at('worker.js'), {type: 'module'});
    this.worker.onmessage = ({data: {id: of, words, share, done}}) => {
      if (of !== id) return;
      if (done) this.receive(box ? {...this.result, crop: done} : done, box && this.token);
      else this.wait(words, share);
    };
    this.worker.postMessage({id, name, image, box, question: question.value, short: short.checked,
      folder: at(`data/${name}/`), ...models[name]});
  }

  wait(words, share) {
    this.find('.waiting span').textContent = words;
    this.find('progress').value = share;
  }

  receive(result, token) { // the token whose map is shown: that of `lookup`, unless one is given
    const {tokens, maps, model} = this.result = result, {layer} = this.fields, {value} = layer;
    this.find('.words').replaceChildren(...tokens.map(textContent =>
      Object.assign(document.createElement('button'), {type: 'button', textContent})));
    layer.length = 1;
    layer.append(...options([...maps[0].keys()]));
    layer.value = value;
    const last = tokens.length - 1, noun = findNoun(tokens.slice(0, last), this.data.grammar);
    this.chosen = token ?? (this.data.models[model].token === 'last' || noun < 0 ? last : noun);
    this.look(this.chosen);
    this.root.dataset.busy = '';
  }

  // What is shown

  look(token) {
    this.token = token;
    [...this.find('.words').children].forEach((b, i) => { b.ariaPressed = i === token; });
    this.draw();
  }

  get layers() { // that are shown
    const {maps: [map]} = this.result, {value} = this.fields.layer;
    return value === 'all' ? [...map.keys()] : [+value];
  }

  get map() {
    const {maps, instruction} = this.result, own = maps[this.token];
    const g = instruction[+(this.token === maps.length - 1)], raw = this.fields.map.value === 'raw';
    return average(this.layers.map(l => raw ? own[l] : contrast(own[l], g[l])));
  }

  repaint() {
    const scene = this.find('.scene'), all = this.objects.map(o => `${nameOf(o)} ${o.digit}`);
    this.image = paint(this.ground, this.objects, this.sheet);
    drawImage(scene, this.image);
    scene.ariaLabel = `Scene with ${all.join(', ')}`;
    if (this.result) this.draw();
  }

  draw() { // what is read from the map
    const {result, map} = this, box = cropBox(map), [x0, y0, x1, y1] = box;
    const known = readQuestion(result.question, this.objects), [target, ...more] = known.named;
    const n = Math.sqrt(map.length), peak = peakAt(map), middle = v => (v + .5)*SIDE/n;
    const seen = this.find('.map'), crop = this.find('.crop'), size = [x1 - x0, y1 - y0];
    drawImage(seen, heat(this.image, map));
    showRange(this.find('.range'), map);
    crop.getContext('2d').drawImage(this.find('.scene'), x0, y0, ...size, 0, 0, SIDE, SIDE);
    for (const frame of this.root.querySelectorAll('.region')) {
      set(frame, {x: x0, y: y0, width: size[0], height: size[1]});
    }
    const missed = target && !more.length && !pointsAt(map, boxOf(target));
    set(this.find('.peak'), {cx: middle(peak%n), cy: middle(Math.floor(peak/n)),
      class: `peak ${missed ? 'missed' : ''}`});
    const on = this.objects.filter(o => pointsAt(map, boxOf(o))).map(nameOf).join(' and the ');
    const how = this.fields.map.value === 'raw' ? '' : ', contrasted';
    const token = result.tokens[this.token], unknown = result.unknown?.includes(token);
    const word = `${unknown ? 'The unknown word ' : ''}“${token}”`, all = this.layers.length === result.maps[0].length;
    const layers = all ? 'all layers' : `layer ${this.layers.join(', ')}`;
    const said = `${word} looks at the ${on || 'background'} (${layers}${how}).`;
    this.find('.said').textContent = said;
    seen.ariaLabel = `Attention over the scene: ${said}`;
    crop.ariaLabel = `Crop of the scene around the region of ${word}`;
    this.tell(result, `${result.crop?.box}` === `${box}` && result.crop, known, said);
  }

  tell(result, again, {truth, absent}, said) { // both answers; the second if it saw this crop
    this.judge(this.find('.first'), result, truth);
    this.judge(this.find('.second'), again, truth);
    this.fields.again.hidden = again;
    this.find('[role=status]').textContent = // first what changes the meaning of the answers
      (result.unknown?.length ? `${result.model} does not know: ${result.unknown.join(', ')}. ` : '') +
      (absent ? `The scene has no ${absent}. ` : '') +
      `${result.model} answers ${quoted(result)}${again ? `, with the crop ${quoted(again)}` : ''}. ${said}` +
      (truth ? '' : ' This page cannot tell whether the answer is right.');
  }

  judge(place, {answer = '', confidence}, truth) { // right or wrong, where the page knows
    const [given, sure] = place.querySelectorAll('b, span');
    const right = answer === truth, judged = right ? ', right' : `, the truth is ${truth}`;
    given.textContent = answer;
    given.className = truth === undefined ? '' : right ? 'right' : 'wrong';
    sure.textContent = answer && `${percent(confidence)} sure${truth === undefined ? '' : judged}`;
  }
}

async function start(root) {
  const frame = await fetch(at('figure.html')), found = await fetch(at('data/living.json'));
  root.innerHTML = await frame.text();
  const data = await found.json(), sheet = await readImage(at('data/sheet.png'));
  const figure = root.figure = new Figure(root, data, {...sheet, digits: data.digits});
  await figure.show(data.scenes[0]);
  root.dataset.ready = 'yes';
}

document.querySelectorAll('[data-living]').forEach(start);
