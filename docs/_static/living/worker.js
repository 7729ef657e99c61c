// Beside the page: it loads a model, keeps what was read of the newest scene, and answers.
import {average} from './maps.js';
import {ask, look, makeModel, maps, readImage} from './model.js';
import {DESCRIBE, SHORT_ANSWER} from './tokenizer.js';
import {loadFiles} from './weights.js';

const models = {};
let kept = {}; // of the newest scene and model: the image read, the instruction's maps

async function load({name, bytes, version, folder}, report) {
  const size = v => (v/1e6).toFixed(0);
  return models[name] ??= makeModel(await loadFiles(folder, version, read =>
    report(`Loading ${name}, once: ${size(read)} of ${size(bytes)} MB`, read/bytes)));
}

function see(model, image, report) {
  if (kept.model !== model || kept.image.some((v, i) => v !== image[i])) {
    const seen = readImage(model, look(model, image, null, report));
    kept = {model, image, seen, instruction: {}};
  }
  return kept.seen;
}

function instructionMaps(model, suffix) { // [layer]: the mean of its words; its last token's
  return kept.instruction[suffix] ??= (() => {
    const got = ask(model, kept.seen, DESCRIBE, suffix, 1);
    const each = model.tokenizer.encode(DESCRIBE).map((_, i) => maps(model, got, i));
    return [each[0].map((_, l) => average(each.map(o => o[l]))), maps(model, got, got.n - 1)];
  })();
}

async function answer(data, report) { // to the question, with a crop or without
  const model = await load(data, report), {tokenizer} = model, {question, box} = data;
  const reading = part => report('Reading the image', part*.7);
  const seen = see(model, data.image, reading), suffix = data.short ? SHORT_ANSWER : '';
  const shown = box ? readImage(model, look(model, data.image, box, reading), seen) : seen;
  report('Answering', .8);
  const got = ask(model, shown, question, suffix), {answer, confidence} = got;
  if (box) return {answer, confidence, box};
  const ids = tokenizer.encode(question), rows = [...ids.keys(), got.n - 1];
  return {answer, confidence, model: data.name, question, unknown: tokenizer.unknown(question),
    tokens: [...tokenizer.words(question), 'last token'],
    maps: rows.map(i => maps(model, got, i)), instruction: instructionMaps(model, suffix)};
}

let newest;
onmessage = async ({data}) => {
  const {id} = data, report = (words, share) => postMessage({id, words, share});
  newest = id;
  await new Promise(rest => setTimeout(rest)); // what waits behind it comes first
  if (newest !== id) return;
  try { postMessage({id, done: await answer(data, report)}); }
  catch ({message}) { report(`This did not work: ${message}`, 0); }
};
