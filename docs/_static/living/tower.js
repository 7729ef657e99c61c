// The two vision towers, each with what brings its patches to the decoder: from pixels to image tokens.
import {add, attend, gated, gelu, layerNorm, linear, map, quickGelu, rmsNorm, speeds, turn} from './product.js';

function patch(pixels, side, size, row, col, times, out, at) { // its values in the order of the weights
  for (let c = 0, o = at; c < 3; c++) {
    for (let t = 0; t < times; t++) {
      for (let y = 0; y < size; y++, o += size) {
        const from = (c*side + row*size + y)*side + col*size;
        out.set(pixels.subarray(from, from + size), o);
      }
    }
  }
}

export function seeClip(weight, config, pixels, progress) { // CLIP and LLaVA's projector
  const {hidden_size: d, image_size: side, patch_size: size, num_hidden_layers: layers, layer_norm_eps: eps,
    num_attention_heads: heads} = config.vision_config, grid = side/size, inner = 3*size*size;
  const own = name => weight(`vision_tower.${name}`).data, patches = new Float32Array(grid*grid*inner);
  for (let i = 0; i < grid*grid; i++) {
    patch(pixels, side, size, Math.floor(i/grid), i%grid, 1, patches, i*inner);
  }
  let x = new Float32Array((grid*grid + 1)*d);
  x.set(own('embeddings.class_embedding'));
  x.set(linear(patches, own('embeddings.patch_embedding.weight'), null, inner, d), d);
  add(x, own('embeddings.position_embedding.weight'));
  x = layerNorm(x, own('pre_layrnorm.weight'), own('pre_layrnorm.bias'), eps);
  for (let l = 0; l < layers; l++) {
    const at = name => own(`encoder.layers.${l}.${name}`);
    const norm = name => layerNorm(x, at(`${name}.weight`), at(`${name}.bias`), eps);
    const part = (name, o) => linear(o, at(`${name}.weight`), at(`${name}.bias`),
      at(`${name}.weight`).length/at(`${name}.bias`).length, at(`${name}.bias`).length);
    const o = norm('layer_norm1'), of = name => part(`self_attn.${name}_proj`, o);
    add(x, part('self_attn.out_proj', attend(of('q'), of('k'), of('v'), {heads, size: d/heads})));
    add(x, part('mlp.fc2', map(part('mlp.fc1', norm('layer_norm2')), quickGelu)));
    progress?.((l + 1)/layers);
  }
  const bring = (o, name) => linear(o, weight(`multi_modal_projector.${name}.weight`).data,
    weight(`multi_modal_projector.${name}.bias`).data, d, d);
  return {tokens: bring(map(bring(x.subarray(d), 'linear_1'), gelu), 'linear_2'), grid: [grid, grid]};
}

function windows(side, window) { // cells [row, column] of a square grid, window after window
  const cells = [];
  for (let y = 0; y < side; y += window) {
    for (let x = 0; x < side; x += window) {
      for (let i = 0; i < window*window; i++) cells.push([y + Math.floor(i/window), x + i%window]);
    }
  }
  return cells;
}

function qwenPatches(pixels, side, {patch_size: size, temporal_patch_size: times}, cells, theta, turns) {
  const inner = 3*times*size*size, patches = new Float32Array(cells.length*4*inner);
  const angles = new Float32Array(cells.length*4*turns*2), speed = speeds(theta, turns);
  cells.forEach(([y, x], i) => [[0, 0], [0, 1], [1, 0], [1, 1]].forEach(([down, right], j) => {
    const at = i*4 + j, row = y*2 + down, col = x*2 + right;
    patch(pixels, side, size, row, col, times, patches, at*inner);
    for (let k = 0; k < turns; k++) {
      angles[at*turns*2 + k] = row*speed[k];
      angles[at*turns*2 + turns + k] = col*speed[k];
    }
  }));
  return {patches, angles, inner};
}

function windowed(q, k, v, length, d, how) { // attention in each run of `length` patches
  const out = new Float32Array(q.length);
  for (let o = 0; o < q.length; o += length*d) {
    out.set(attend(...[q, k, v].map(x => x.subarray(o, o + length*d)), how), o);
  }
  return out;
}

export function seeQwen(weight, config, pixels, progress) { // Qwen2.5-VL: windows, then neighbors merged
  const v = config.vision_config, {hidden_size: d, num_heads: heads, depth} = v, size = d/heads;
  const side = Math.sqrt(pixels.length/3), grid = side/v.patch_size/v.spatial_merge_size;
  const window = v.window_size/v.patch_size/v.spatial_merge_size, cells = windows(grid, window);
  const own = name => weight(`visual.${name}`), eps = 1e-6;
  const {patches, angles, inner} = qwenPatches(pixels, side, v, cells, v.rope_parameters.rope_theta, size/4);
  const x = linear(patches, own('patch_embed.proj.weight').data, null, inner, d), n = cells.length*4;
  for (let l = 0; l < depth; l++) {
    const at = name => own(`blocks.${l}.${name}`), whole = v.fullatt_block_indexes.includes(l);
    const o = rmsNorm(x, at('norm1.weight').data, eps), w = at('attn.qkv.weight').data, b = at('attn.qkv.bias').data;
    const [q, k, u] = [0, 1, 2].map(i => linear(o, w.subarray(i*d*d, (i + 1)*d*d), b.subarray(i*d, i*d + d), d, d));
    for (const part of [q, k]) turn(part, angles, heads, size);
    const seen = windowed(q, k, u, whole ? n : window*window*4, d, {heads, size});
    add(x, linear(seen, at('attn.proj.weight').data, at('attn.proj.bias').data, d, d));
    add(x, gated(rmsNorm(x, at('norm2.weight').data, eps), name => at(`mlp.${name}`)));
    progress?.((l + 1)/depth);
  }
  return {tokens: merge(rmsNorm(x, own('merger.ln_q.weight').data, eps), own, cells, grid), grid: [grid, grid]};
}

function merge(x, own, cells, grid) { // four neighbors to one token, back in the order of rows
  const bring = (o, i) => linear(o, own(`merger.mlp.${i}.weight`).data, own(`merger.mlp.${i}.bias`).data,
    own(`merger.mlp.${i}.weight`).shape[1], own(`merger.mlp.${i}.bias`).shape[0]);
  const y = bring(map(bring(x, 0), gelu), 2), out = new Float32Array(y.length), d = y.length/cells.length;
  cells.forEach(([row, col], i) => out.set(y.subarray(i*d, i*d + d), (row*grid + col)*d));
  return out;
}
