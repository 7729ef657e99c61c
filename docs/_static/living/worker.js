// Beside the page: it loads a model, keeps what was read of the newest scene, and answers.
import {average} from './maps.js';
import {ask, enlarge, look, makeModel, maps, readImage} from './model.js';
import {DESCRIBE, SHORT_ANSWER} from './tokenizer.js';
import {loadFiles} from './weights.js';

const loaded = {}; // name -> model
let kept = {}; // of the newest scene and model: the image read, the instruction's maps

async function load({name, folder, version}, report) {
  const files = loaded[name] ?? await loadFiles(folder, version, (read, all) => report({read, all}));
  return loaded[name] ??= makeModel(files);
}

function see(model, {name, scene, image}, report) {
  if (kept.name !== name || kept.scene !== scene) {
    const view = look(model, image, 'image', part => report({part: part*.7}));
    kept = {name, scene, image, seen: readImage(model, view), instruction: {}};
  }
  return kept.seen;
}

function instructionMaps(model, suffix) { // [layer]: the mean of the instruction's words; its last token's
  return kept.instruction[suffix] ??= (() => {
    const got = ask(model, kept.seen, DESCRIBE, suffix, 1), words = model.tokenizer.encode(DESCRIBE).length;
    const each = Array.from({length: words}, (_, i) => maps(model, got, i));
    return [each[0].map((_, l) => average(each.map(o => o[l]))), maps(model, got, got.n - 1)];
  })();
}

const acts = {
  async ask(data, report) {
    const model = await load(data, report), seen = see(model, data, report), suffix = data.short ? SHORT_ANSWER : '';
    const got = ask(model, seen, data.question, suffix), words = model.tokenizer.encode(data.question).length;
    const shown = [...Array(words).keys(), got.n - 1];
    return {answer: got.answer, confidence: got.confidence, instruction: instructionMaps(model, suffix),
      tokens: got.ids.slice(0, words).map(id => model.tokenizer.names[id]), maps: shown.map(i => maps(model, got, i)),
      unknown: model.tokenizer.unknown(data.question)};
  },
  async crop(data, report) {
    const model = await load(data, report), seen = see(model, data, report), image = enlarge(kept.image, data.box);
    const view = look(model, image, 'crop', part => report({part: part*.6}));
    const got = ask(model, readImage(model, view, seen), data.question, data.short ? SHORT_ANSWER : '');
    return {answer: got.answer, confidence: got.confidence};
  },
};

let newest;
onmessage = async ({data}) => {
  newest = data.id;
  await new Promise(rest => setTimeout(rest)); // what waits behind it comes first
  if (newest !== data.id) return;
  const report = progress => postMessage({id: data.id, progress});
  try { postMessage({id: data.id, done: await acts[data.act](data, report)}); }
  catch (error) { postMessage({id: data.id, error: error.message}); }
};
