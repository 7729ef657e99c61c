// The language model of both: Llama's blocks or Qwen's, with keys and values of what was read before.
import {add, attend, gated, linear, rmsNorm, speeds, turn} from './product.js';

function join(before, after) {
  if (!before) return after;
  const out = new Float32Array(before.length + after.length);
  out.set(before); out.set(after, before.length);
  return out;
}

function rotations(at, size, theta) { // at: [n] of [time, row, column] -> angles [n, size/2], axis by axis in turn
  const half = size/2, out = new Float32Array(at.length*half), speed = speeds(theta, half);
  at.forEach((place, i) => {
    for (let k = 0; k < half; k++) out[i*half + k] = place[k%3]*speed[k];
  });
  return out;
}

export const started = {n: 0, next: 0, layers: []}; // nothing read yet

// x [n, d], the places of its rows; `rows`: keep attention [heads, n, all] of each layer, and what comes out
export function read({weight, config, root}, x, at, past, rows) {
  const t = config.text_config, d = t.hidden_size, heads = t.num_attention_heads, groups = t.num_key_value_heads;
  const size = d/heads, n = at.length, all = past.n + n, angles = rotations(at, size, t.rope_parameters.rope_theta);
  const next = 1 + at.reduce((most, place) => Math.max(most, ...place), past.next - 1);
  const seen = {n: all, next, layers: []}, kept = [];
  x = x.slice();
  for (let l = 0; l < t.num_hidden_layers; l++) {
    const own = name => weight(`${root}layers.${l}.${name}`), norm = name => rmsNorm(x, own(name).data, t.rms_norm_eps);
    const o = norm('input_layernorm.weight'), part = (name, to) =>
      linear(o, own(`self_attn.${name}.weight`).data, own(`self_attn.${name}.bias`)?.data, d, to*size);
    const before = past.layers[l] ?? [], k = join(before[0], turn(part('k_proj', groups), angles, groups, size));
    const v = join(before[1], part('v_proj', groups));
    seen.layers.push([k, v]);
    if (!rows && l === t.num_hidden_layers - 1) return {seen};
    const keep = rows && new Float32Array(heads*n*all), q = turn(part('q_proj', heads), angles, heads, size);
    const mixed = attend(q, k, v, {heads, groups, size, causal: true, keep});
    add(x, linear(mixed, own('self_attn.o_proj.weight').data, null, d, d));
    add(x, gated(norm('post_attention_layernorm.weight'), name => own(`mlp.${name}`)));
    kept.push(keep);
  }
  return {seen, rows: kept, out: rmsNorm(x, weight(`${root}norm.weight`).data, t.rms_norm_eps)};
}

export function embed({weight, config, root}, ids) { // tokens of text
  const d = config.text_config.hidden_size, table = weight(`${root}embed_tokens.weight`).data;
  const x = new Float32Array(ids.length*d);
  ids.forEach((id, i) => x.set(table.subarray(id*d, id*d + d), i*d));
  return x;
}

export function logits({weight, config, root}, out) { // of the last row: embeddings are tied
  const d = config.text_config.hidden_size, table = weight(`${root}embed_tokens.weight`);
  return linear(out.subarray(out.length - d), table.data, null, d, table.shape[0]);
}
