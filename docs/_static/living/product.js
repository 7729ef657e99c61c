// Matrices in row order as Float32Array: products in blocks, norms, activations, attention.

export function linear(x, w, bias, nin, nout) { // [n, nin], [nout, nin] -> [n, nout]
  const n = x.length/nin, y = new Float32Array(n*nout);
  for (let i = 0; i < n; i += 3) { // a block: 3 rows by 4; one that ends before is computed twice
    const i1 = Math.min(i + 1, n - 1), i2 = Math.min(i + 2, n - 1), a = i*nin, b = i1*nin, c = i2*nin;
    for (let j = 0; j < nout; j += 4) {
      const j1 = Math.min(j + 1, nout - 1), j2 = Math.min(j + 2, nout - 1), j3 = Math.min(j + 3, nout - 1);
      const p = j*nin, q = j1*nin, r = j2*nin, s = j3*nin;
      let a0 = 0, a1 = 0, a2 = 0, a3 = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0, c0 = 0, c1 = 0, c2 = 0, c3 = 0;
      for (let k = 0; k < nin; k++) {
        const u = x[a + k], v = x[b + k], z = x[c + k];
        let f = w[p + k];
        a0 += u*f; b0 += v*f; c0 += z*f;
        f = w[q + k]; a1 += u*f; b1 += v*f; c1 += z*f;
        f = w[r + k]; a2 += u*f; b2 += v*f; c2 += z*f;
        f = w[s + k]; a3 += u*f; b3 += v*f; c3 += z*f;
      }
      y[i*nout + j] = a0; y[i*nout + j1] = a1; y[i*nout + j2] = a2; y[i*nout + j3] = a3;
      y[i1*nout + j] = b0; y[i1*nout + j1] = b1; y[i1*nout + j2] = b2; y[i1*nout + j3] = b3;
      y[i2*nout + j] = c0; y[i2*nout + j1] = c1; y[i2*nout + j2] = c2; y[i2*nout + j3] = c3;
    }
  }
  return bias ? addRows(y, bias) : y;
}

export function addRows(x, row) { // in place, as the next two
  for (let i = 0; i < x.length; i++) x[i] += row[i%row.length];
  return x;
}

export function add(x, y) {
  for (let i = 0; i < x.length; i++) x[i] += y[i];
  return x;
}

export function map(x, f) {
  for (let i = 0; i < x.length; i++) x[i] = f(x[i]);
  return x;
}

export function layerNorm(x, gain, bias, eps) {
  const d = gain.length, y = new Float32Array(x.length);
  for (let o = 0; o < x.length; o += d) {
    let mean = 0, square = 0;
    for (let k = 0; k < d; k++) mean += x[o + k]/d;
    for (let k = 0; k < d; k++) square += (x[o + k] - mean)**2/d;
    const s = 1/Math.sqrt(square + eps);
    for (let k = 0; k < d; k++) y[o + k] = (x[o + k] - mean)*s*gain[k] + bias[k];
  }
  return y;
}

export function rmsNorm(x, gain, eps) {
  const d = gain.length, y = new Float32Array(x.length);
  for (let o = 0; o < x.length; o += d) {
    let square = 0;
    for (let k = 0; k < d; k++) square += x[o + k]**2/d;
    const s = 1/Math.sqrt(square + eps);
    for (let k = 0; k < d; k++) y[o + k] = x[o + k]*s*gain[k];
  }
  return y;
}

export const silu = v => v/(1 + Math.exp(-v)), quickGelu = v => v/(1 + Math.exp(-1.702*v));
export const gelu = v => .5*v*(1 + erf(v/Math.SQRT2));

function erf(x) { // its series, or the continued fraction of its complement
  const z = Math.abs(x);
  let s = 0;
  if (z < 2.5) {
    for (let k = 0, t = z; Math.abs(t) > 1e-12; k++, t *= -z*z/k) s += t/(2*k + 1);
    s *= 2/Math.sqrt(Math.PI);
  } else {
    for (let k = 40; k > 0; k--) s = k/2/(z + s);
    s = 1 - Math.exp(-z*z)/Math.sqrt(Math.PI)/(z + s);
  }
  return x < 0 ? -s : s;
}

export function gated(x, weight) { // the feed-forward block of both decoders and of Qwen's tower
  const [inner, d] = weight('gate_proj.weight').shape, part = (name, o, nin, nout) =>
    linear(o, weight(`${name}.weight`).data, weight(`${name}.bias`)?.data, nin, nout);
  const gate = map(part('gate_proj', x, d, inner), silu), up = part('up_proj', x, d, inner);
  for (let i = 0; i < gate.length; i++) gate[i] *= up[i];
  return part('down_proj', gate, inner, d);
}

export const speeds = (theta, n) => Float32Array.from({length: n}, (_, k) => // of rotary positions, in float32
  1/Math.fround(theta**Math.fround(k/n)));

export function turn(x, angles, heads, size) { // rotary positions, in place; angles [n, size/2]
  const half = size/2, n = angles.length/half;
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < half; k++) {
      const cos = Math.cos(angles[i*half + k]), sin = Math.sin(angles[i*half + k]);
      for (let h = 0; h < heads; h++) {
        const p = (i*heads + h)*size + k, u = x[p], v = x[p + half];
        x[p] = u*cos - v*sin; x[p + half] = v*cos + u*sin;
      }
    }
  }
  return x;
}

function head(x, width, from, size, flipped) { // some columns of rows, as rows or as columns
  const n = x.length/width, y = new Float32Array(n*size);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < size; k++) y[flipped ? k*n + i : i*size + k] = x[i*width + from + k];
  }
  return y;
}

function softmax(x, n, all, scale, causal) { // each row, in place
  for (let i = 0; i < n; i++) {
    const o = i*all, end = causal ? all - n + i + 1 : all;
    let most = -Infinity, sum = 0;
    for (let j = 0; j < end; j++) if (x[o + j] > most) most = x[o + j];
    for (let j = 0; j < end; j++) sum += x[o + j] = Math.exp((x[o + j] - most)*scale);
    for (let j = 0; j < all; j++) x[o + j] = j < end ? x[o + j]/sum : 0;
  }
  return x;
}

export function attend(q, k, v, {heads, groups = heads, size, causal, keep}) { // keep: [heads, n, all]
  const n = q.length/heads/size, all = k.length/groups/size, out = new Float32Array(q.length);
  for (let h = 0; h < heads; h++) {
    const from = Math.floor(h*groups/heads)*size, of = (x, flipped) => head(x, groups*size, from, size, flipped);
    const scores = linear(head(q, heads*size, h*size, size), of(k), null, size, all);
    const rows = softmax(scores, n, all, size**-.5, causal), seen = linear(rows, of(v, true), null, all, size);
    if (keep) keep.set(rows, h*n*all);
    for (let i = 0; i < n; i++) out.set(seen.subarray(i*size, i*size + size), (i*heads + h)*size);
  }
  return out;
}
