// The language model of both, Llama's blocks or Qwen's, with keys and values of what was read.
import {add, angles, attend, dense, gated, linear, rmsNorm, speeds, turn} from './product.js';

export const started = {n: 0, next: 0, layers: []}; // nothing read yet

function join(before, after) {
  const out = new Float32Array(before.length + after.length);
  out.set(before);
  out.set(after, before.length);
  return out;
}

// x [n, d] is changed; the places [time, row, column] of its rows.
// `rows`: keep attention [heads, n, all] of each layer, and what comes out
export function read({weight, config, root}, x, places, past, rows) {
  const {hidden_size: d, num_attention_heads: heads, num_key_value_heads: groups,
    num_hidden_layers: depth, rms_norm_eps: eps, rope_parameters: rope} = config.text_config;
  const size = d/heads, n = places.length, all = past.n + n, kept = [];
  const at = angles(places, speeds(rope.rope_theta, size/2), k => k%3); // axis by axis in turn
  const next = 1 + places.reduce((most, place) => Math.max(most, ...place), past.next - 1);
  const seen = {n: all, next, layers: []};
  for (let l = 0; l < depth; l++) {
    const own = name => weight(`${root}layers.${l}.${name}`);
    const o = rmsNorm(x, own('input_layernorm.weight').data, eps);
    const part = name => dense(o, own, `self_attn.${name}_proj`);
    const [before, values] = past.layers[l] ?? [[], []];
    const k = join(before, turn(part('k'), at, groups, size)), v = join(values, part('v'));
    seen.layers.push([k, v]);
    if (!rows && l === depth - 1) return {seen};
    const keep = rows && new Float32Array(heads*n*all), q = turn(part('q'), at, heads, size);
    const mixed = attend(q, k, v, {heads, groups, size, causal: true, keep});
    add(x, dense(mixed, own, 'self_attn.o_proj'));
    add(x, gated(rmsNorm(x, own('post_attention_layernorm.weight').data, eps), own));
    kept.push(keep);
  }
  return {seen, rows: kept, out: rmsNorm(x, weight(`${root}norm.weight`).data, eps)};
}

const table = ({weight, root}) => weight(`${root}embed_tokens.weight`);

export function embed(model, ids) { // tokens of text -> [n, d]
  const {data, shape: [, d]} = table(model), x = new Float32Array(ids.length*d);
  ids.forEach((id, i) => x.set(data.subarray(id*d, id*d + d), i*d));
  return x;
}

export function logits(model, out) { // of the last row: embeddings are tied
  const {data, shape: [n, d]} = table(model);
  return linear(out.subarray(out.length - d), data, null, d, n);
}
