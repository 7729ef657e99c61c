// Matrices in row order as Float32Array: products in blocks, norms, activations, attention.

export function linear(x, w, bias, nin, nout) { // [n, nin], [nout, nin] -> [n, nout]
  const n = x.length/nin, y = new Float32Array(n*nout);
  for (let i = 0; i < n; i += 3) { // a block: 3 rows by 4; what it has too little is computed twice
    const i1 = Math.min(i + 1, n - 1), i2 = Math.min(i + 2, n - 1);
    const a = i*nin, b = i1*nin, c = i2*nin;
    for (let j = 0; j < nout; j += 4) {
      const j1 = Math.min(j + 1, nout - 1), j2 = Math.min(j + 2, nout - 1);
      const j3 = Math.min(j + 3, nout - 1);
      const p = j*nin, q = j1*nin, r = j2*nin, s = j3*nin;
      let a0 = 0, a1 = 0, a2 = 0, a3 = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0;
      let c0 = 0, c1 = 0, c2 = 0, c3 = 0;
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
  return bias ? add(y, bias) : y;
}

export function add(x, y) { // in place; a row to all rows
  for (let i = 0; i < x.length; i++) x[i] += y[i%y.length];
  return x;
}

export function layerNorm(x, gain, bias, eps) {
  const d = gain.length, y = new Float32Array(x.length);
  for (let o = 0; o < x.length; o += d) {
    const row = x.subarray(o, o + d), mean = row.reduce((sum, v) => sum + v, 0)/d;
    const s = 1/Math.sqrt(row.reduce((sum, v) => sum + (v - mean)**2, 0)/d + eps);
    for (let k = 0; k < d; k++) y[o + k] = (row[k] - mean)*s*gain[k] + bias[k];
  }
  return y;
}

export function rmsNorm(x, gain, eps) {
  const d = gain.length, y = new Float32Array(x.length);
  for (let o = 0; o < x.length; o += d) {
    const row = x.subarray(o, o + d);
    const s = 1/Math.sqrt(row.reduce((sum, v) => sum + v*v, 0)/d + eps);
    for (let k = 0; k < d; k++) y[o + k] = row[k]*s*gain[k];
  }
  return y;
}

export const silu = v => v/(1 + Math.exp(-v)), quickGelu = v => v/(1 + Math.exp(-1.702*v));

export function gelu(v) { // with the series of erf, which is 1 in float32 beyond 4
  const x = Math.max(-4, Math.min(v/Math.SQRT2, 4));
  let sum = 0;
  for (let k = 0, t = x; Math.abs(t) > 1e-14; k++, t *= -x*x/k) sum += t/(2*k + 1);
  return .5*v*(1 + 2/Math.sqrt(Math.PI)*sum);
}

export function dense(x, weight, name) { // a layer, by the name of its weight and bias
  const w = weight(`${name}.weight`);
  return linear(x, w.data, weight(`${name}.bias`)?.data, w.shape[1], w.shape[0]);
}

export function gated(x, weight) { // the feed-forward block of both decoders and of Qwen's tower
  const gate = dense(x, weight, 'mlp.gate_proj').map(silu), up = dense(x, weight, 'mlp.up_proj');
  for (let i = 0; i < gate.length; i++) gate[i] *= up[i];
  return dense(gate, weight, 'mlp.down_proj');
}

export const speeds = (theta, n) => Float32Array.from({length: n}, (_, k) => // in float32
  1/Math.fround(theta**Math.fround(k/n)));

export function angles(places, speed, axis) { // [n, speeds]; speed k turns with place[axis(k)]
  const n = speed.length, out = new Float32Array(places.length*n);
  for (let i = 0; i < out.length; i++) out[i] = places[Math.floor(i/n)][axis(i%n)]*speed[i%n];
  return out;
}

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

export function columns(x, width, from, size, flipped) { // some of each row, as rows or as columns
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

// `keep`: [heads, n, all]
export function attend(q, k, v, {heads, groups = heads, size, causal, keep}) {
  const n = q.length/heads/size, all = k.length/groups/size, out = new Float32Array(q.length);
  for (let h = 0; h < heads; h++) {
    const from = Math.floor(h*groups/heads)*size, mine = columns(q, heads*size, h*size, size);
    const scores = linear(mine, columns(k, groups*size, from, size), null, size, all);
    const rows = softmax(scores, n, all, size**-.5, causal);
    const seen = linear(rows, columns(v, groups*size, from, size, true), null, all, size);
    keep?.set(rows, h*n*all);
    for (let i = 0; i < n; i++) out.set(seen.subarray(i*size, i*size + size), (i*heads + h)*size);
  }
  return out;
}
