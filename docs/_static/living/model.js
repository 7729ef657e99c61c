// A packaged model as one object: it reads images, then answers questions and says where it looked.
import {embed, logits, read, started} from './decoder.js';
import {normalize, resize} from './resize.js';
import {SIDE} from './scene.js';
import {makeTokenizer} from './tokenizer.js';
import {seeClip, seeQwen} from './tower.js';

export function makeModel({config, tokenizer, tensors}) {
  const type = config.model_type, words = makeTokenizer(tokenizer, type), v = config.vision_config;
  const own = {config, weight: name => tensors[name], tokenizer: words, chat: words.chat};
  return type === 'llava' ? {...own, see: seeClip, root: 'language_model.model.', flat: true,
    side: v.image_size, crop: v.image_size} :
    {...own, see: seeQwen, root: 'model.', side: v.patch_size*32, crop: v.patch_size*24};
}

export function pixels(model, image, box) { // of a scene, or of a part of it
  const view = box ? resize(image, box, SIDE, 'lanczos') : image;
  return normalize(resize(view, [0, 0, SIDE, SIDE], box ? model.crop : model.side));
}

export function look(model, image, box, progress) { // -> {tokens, grid}
  return model.see(model.weight, model.config, pixels(model, image, box), progress);
}

function readText(model, ids, seen, rows) {
  const places = ids.map((_, i) => Array(3).fill(seen.next + i));
  return read(model, embed(model, ids), places, seen, rows);
}

// After what was read before; the columns of the first image are kept
export function readImage(model, {tokens, grid: [gh, gw]}, before) {
  const {chat} = model, opened = before ? chat.open : [...chat.before, ...chat.open];
  const past = readText(model, opened, before ?? started).seen;
  const places = Array.from({length: gh*gw}, (_, i) => (model.flat ? [i, i, i] :
    [0, Math.floor(i/gw), i%gw]).map(v => past.next + v));
  const {seen} = read(model, tokens, places, past);
  const image = before?.image ?? {start: past.n, grid: [gh, gw]};
  return {...readText(model, chat.close, seen).seen, image};
}

function generate(model, state, most) { // greedily -> the answer, and the mean share of its tokens
  const ids = [], [end] = model.chat.end;
  for (let sum = 0; ; state = readText(model, ids.slice(-1), state.seen, true)) {
    const scores = logits(model, state.out), top = Math.max(...scores);
    sum -= Math.log(scores.reduce((all, v) => all + Math.exp(v - top), 0));
    ids.push(scores.indexOf(top));
    if (ids.at(-1) === end || ids.length === most) {
      const answer = model.tokenizer.decode(ids.filter(id => id !== end));
      return {answer, confidence: Math.exp(sum/ids.length)};
    }
  }
}

// The answer, and what the attention of each token of the question is read from
export function ask(model, seen, text, suffix = '', most = 32) {
  const ids = [...model.tokenizer.encode(`${text} ${suffix}`), ...model.chat.after];
  const first = readText(model, ids, seen, true);
  return {...generate(model, first, most), logits: logits(model, first.out), rows: first.rows, ids,
    n: ids.length, all: first.seen.n, image: seen.image};
}

export function maps(model, {rows, n, all, image: {start, grid: [gh, gw]}}, at) { // [layer][cell]
  const heads = model.config.text_config.num_attention_heads;
  return rows.map(layer => Float32Array.from({length: gh*gw}, (_, cell) => {
    let sum = 0;
    for (let h = 0; h < heads; h++) sum += layer[(h*n + at)*all + start + cell];
    return sum/heads;
  }));
}
