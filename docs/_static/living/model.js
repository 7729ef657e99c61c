// A packaged model as one object: it reads images, then answers questions and says where it looked.
import {embed, logits, read, started} from './decoder.js';
import {cut, normalize, resize} from './resize.js';
import {chats, makeTokenizer} from './tokenizer.js';
import {seeClip, seeQwen} from './tower.js';

const SIDE = 448; // of a scene, and of what a crop is enlarged to

export function makeModel({config, tokenizer, tensors}) {
  const llava = config.model_type === 'llava', t = makeTokenizer(tokenizer), v = config.vision_config;
  const see = llava ? seeClip : seeQwen, weight = name => tensors[name];
  const side = llava ? v.image_size : v.patch_size*32, small = llava ? side : v.patch_size*24; // 256 and 144 tokens
  return {config, weight, see, tokenizer: t, chat: chats[config.model_type](t), sides: {image: side, crop: small},
    root: llava ? 'language_model.model.' : 'model.', axes: llava ? 1 : 3};
}

export function pixels(model, image, as = 'image') { // RGB, SIDE by SIDE -> what the tower is given
  const side = model.sides[as];
  return normalize(resize(image, [SIDE, SIDE], [side, side]));
}

export function look(model, image, as, progress) { // -> {tokens, grid}
  return model.see(model.weight, model.config, pixels(model, image, as), progress);
}

export function enlarge(image, box) { // a square part of a scene in the scene's size
  const side = box[2] - box[0];
  return side === SIDE ? image : resize(cut(image, SIDE, box), [side, side], [SIDE, SIDE], 'lanczos');
}

const inRow = (n, next) => Array.from({length: n}, (_, i) => [next + i, next + i, next + i]);

function readText(model, ids, seen, rows) {
  return read(model, embed(model, ids), inRow(ids.length, seen.next), seen, rows);
}

export function readImage(model, view, seen = null) { // after what was read before: the first image's columns are kept
  const {before, open, close} = model.chat, [gh, gw] = view.grid;
  let state = readText(model, seen ? open : [...before, ...open], seen ?? started).seen;
  const at = model.axes === 1 ? inRow(gh*gw, state.next) : Array.from({length: gh*gw}, (_, i) =>
    [state.next, state.next + Math.floor(i/gw), state.next + i%gw]);
  const first = seen?.image ?? {start: state.n, grid: view.grid};
  state = read(model, view.tokens, at, state).seen;
  if (close.length) state = readText(model, close, state).seen;
  return {...state, image: first};
}

const argmax = a => a.reduce((best, v, i) => v > a[best] ? i : best, 0);

function logShare(scores, at) { // log of the softmax
  const most = scores[argmax(scores)];
  return scores[at] - most - Math.log(scores.reduce((sum, v) => sum + Math.exp(v - most), 0));
}

function generate(model, first, most) { // greedily -> the answer, and the mean share of its tokens
  const ids = [];
  let state = first, sum = 0;
  while (ids.length < most) {
    const scores = logits(model, state.out), best = argmax(scores);
    ids.push(best); sum += logShare(scores, best);
    if (best === model.chat.end) break;
    state = readText(model, [best], state.seen, true);
  }
  const words = ids.filter(id => id !== model.chat.end);
  return {answer: model.tokenizer.decode(words), confidence: Math.exp(sum/ids.length)};
}

export function ask(model, seen, text, suffix = '', most = 32) { // the answer, and the attention of each token
  const ids = [...model.tokenizer.encode(`${text} ${suffix}`), ...model.chat.after];
  const first = readText(model, ids, seen, true);
  return {...generate(model, first, most), logits: logits(model, first.out), rows: first.rows, ids,
    n: ids.length, all: first.seen.n, image: seen.image};
}

export function maps(model, {rows, n, all, image: {start, grid: [gh, gw]}}, at) { // the mean of heads, [layer][cell]
  const heads = model.config.text_config.num_attention_heads;
  return rows.map(layer => Float32Array.from({length: gh*gw}, (_, cell) => {
    let sum = 0;
    for (let h = 0; h < heads; h++) sum += layer[(h*n + at)*all + start + cell];
    return sum/heads;
  }));
}
