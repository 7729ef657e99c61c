// The two vision towers, each with what brings its patches to the decoder: pixels to image tokens.
import {add, angles, attend, columns, dense, gated, gelu, layerNorm, linear, quickGelu, rmsNorm,
  speeds, turn} from './product.js';

const grid = (n, cell) => Array.from({length: n*n}, (_, i) => cell(Math.floor(i/n), i%n));

function cut(pixels, size, times, places) { // patches at [row, column], in the order of the weights
  const side = Math.sqrt(pixels.length/3), out = new Float32Array(places.length*3*times*size*size);
  let at = 0;
  for (const [row, column] of places) {
    for (let part = 0; part < 3*times; part++) {
      const color = Math.floor(part/times);
      for (let y = 0; y < size; y++, at += size) {
        const from = (color*side + row*size + y)*side + column*size;
        out.set(pixels.subarray(from, from + size), at);
      }
    }
  }
  return out;
}

export function seeClip(weight, config, pixels, progress) { // CLIP and LLaVA's projector
  const {hidden_size: d, image_size: side, patch_size: size, num_hidden_layers: depth,
    num_attention_heads: heads, layer_norm_eps: eps} = config.vision_config, n = side/size;
  const own = name => weight(`vision_tower.${name}`);
  const norm = (x, of, name) =>
    layerNorm(x, of(`${name}.weight`).data, of(`${name}.bias`).data, eps);
  const part = name => own(`embeddings.${name}`).data, first = new Float32Array((n*n + 1)*d);
  const patches = cut(pixels, size, 1, grid(n, (y, x) => [y, x]));
  first.set(part('class_embedding'));
  first.set(linear(patches, part('patch_embedding.weight'), null, 3*size*size, d), d);
  const x = norm(add(first, part('position_embedding.weight')), own, 'pre_layrnorm');
  for (let l = 0; l < depth; l++) {
    const at = name => own(`encoder.layers.${l}.${name}`), o = norm(x, at, 'layer_norm1');
    const [q, k, v] = ['q', 'k', 'v'].map(name => dense(o, at, `self_attn.${name}_proj`));
    add(x, dense(attend(q, k, v, {heads, size: d/heads}), at, 'self_attn.out_proj'));
    const inner = dense(norm(x, at, 'layer_norm2'), at, 'mlp.fc1').map(quickGelu);
    add(x, dense(inner, at, 'mlp.fc2'));
    progress?.((l + 1)/depth);
  }
  const bring = (o, name) => dense(o, weight, `multi_modal_projector.${name}`);
  return {tokens: bring(bring(x.subarray(d), 'linear_1').map(gelu), 'linear_2'), grid: [n, n]};
}

function windowed(q, k, v, length, d, how) { // attention in each run of `length` patches
  const out = new Float32Array(q.length);
  for (let o = 0; o < q.length; o += length*d) {
    out.set(attend(...[q, k, v].map(x => x.subarray(o, o + length*d)), how), o);
  }
  return out;
}

// Qwen2.5-VL: cells of four patches, window after window; then the four are merged
export function seeQwen(weight, config, pixels, progress) {
  const v = config.vision_config, {hidden_size: d, num_heads: heads, depth, patch_size: patch} = v;
  const size = d/heads, n = Math.sqrt(pixels.length/3)/patch/2, wide = v.window_size/patch/2;
  const own = name => weight(`visual.${name}`);
  const norm = (x, of, name) => rmsNorm(x, of(name).data, 1e-6);
  const cells = grid(n/wide, (row, column) =>
    grid(wide, (y, x) => [row*wide + y, column*wide + x])).flat();
  const places = cells.flatMap(([y, x]) => grid(2, (down, right) => [y*2 + down, x*2 + right]));
  const speed = [...speeds(v.rope_parameters.rope_theta, size/4)];
  const at = angles(places, [...speed, ...speed], k => +(k >= size/4)); // rows, then columns
  const patches = cut(pixels, patch, v.temporal_patch_size, places);
  const w = own('patch_embed.proj.weight'), x = linear(patches, w.data, null, w.data.length/d, d);
  for (let l = 0; l < depth; l++) {
    const of = name => own(`blocks.${l}.${name}`);
    const all = dense(norm(x, of, 'norm1.weight'), of, 'attn.qkv');
    const [q, k, u] = [0, 1, 2].map(i => columns(all, 3*d, i*d, d));
    for (const part of [q, k]) turn(part, at, heads, size);
    const length = v.fullatt_block_indexes.includes(l) ? places.length : wide*wide*4;
    add(x, dense(windowed(q, k, u, length, d, {heads, size}), of, 'attn.proj'));
    add(x, gated(norm(x, of, 'norm2.weight'), of));
    progress?.((l + 1)/depth);
  }
  const merged = dense(norm(x, own, 'merger.ln_q.weight'), own, 'merger.mlp.0').map(gelu);
  const tokens = dense(merged, own, 'merger.mlp.2');
  return {tokens: inRows(tokens, cells, n), grid: [n, n]};
}

function inRows(x, cells, n) { // back from windows to the order of rows
  const out = new Float32Array(x.length), d = x.length/cells.length;
  cells.forEach(([row, column], i) => out.set(x.subarray(i*d, i*d + d), (row*n + column)*d));
  return out;
}
