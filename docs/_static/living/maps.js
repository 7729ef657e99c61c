// What is read from attention: contrast, the strongest patch, the region around it, its crop; as the package does.

const SIDE = 448, LEAST = 96, KEPT = .04; // of a scene, of a crop, of its pixels

export function contrast(a, g) { // A_Q / (A_G + λ), λ the mean of A_G
  const mean = g.reduce((sum, v) => sum + v)/g.length;
  return a.map((v, i) => v/(g[i] + mean));
}

export function average(maps) {
  return maps[0].map((_, i) => maps.reduce((sum, map) => sum + map[i], 0)/maps.length);
}

export const peakAt = map => map.reduce((best, v, i) => v > map[best] ? i : best, 0);

export function pointsAt(map, [x0, y0, x1, y1]) { // does the strongest patch overlap the box?
  const n = Math.sqrt(map.length), cell = SIDE/n, at = peakAt(map), x = at%n*cell, y = Math.floor(at/n)*cell;
  return x0 < x + cell && x < x1 && y0 < y + cell && y < y1;
}

function tent(cells, pixels) { // of each pixel: the cell before it, and the weight of the next one
  return Array.from({length: pixels}, (_, i) => {
    const u = Math.min(Math.max((i + .5)/pixels*cells - .5, 0), cells - 1), lo = Math.min(Math.floor(u), cells - 2);
    return [lo, u - lo];
  });
}

export function toPixels(map, side = SIDE) { // bilinear
  const n = Math.sqrt(map.length), out = new Float32Array(side*side), along = tent(n, side);
  along.forEach(([j, b], y) => {
    const row = Array.from({length: n}, (_, i) => map[j*n + i]*(1 - b) + map[(j + 1)*n + i]*b);
    along.forEach(([i, a], x) => { out[y*side + x] = row[i]*(1 - a) + row[i + 1]*a; });
  });
  return out;
}

function quantile(values, q) {
  const sorted = values.slice().sort(), at = q*(sorted.length - 1), lo = Math.floor(at);
  return Math.fround(sorted[lo] + (sorted[Math.min(lo + 1, sorted.length - 1)] - sorted[lo])*(at - lo));
}

export function regionBox(map) { // around the strongest pixel: what is connected with it in the top share
  const pixels = toPixels(map), least = quantile(pixels, 1 - KEPT), seen = new Uint8Array(pixels.length);
  const queue = [peakAt(pixels)], box = [SIDE, SIDE, 0, 0];
  seen[queue[0]] = 1;
  while (queue.length) {
    const at = queue.pop(), x = at%SIDE, y = Math.floor(at/SIDE);
    [box[0], box[1], box[2], box[3]] =
      [Math.min(box[0], x), Math.min(box[1], y), Math.max(box[2], x + 1), Math.max(box[3], y + 1)];
    for (const [next, inside] of [[at - 1, x], [at + 1, x < SIDE - 1], [at - SIDE, y], [at + SIDE, y < SIDE - 1]]) {
      if (inside && !seen[next] && pixels[next] >= least) { seen[next] = 1; queue.push(next); }
    }
  }
  return box;
}

export function cropBox([x0, y0, x1, y1]) { // a square around a box, inside the scene
  const side = Math.min(Math.max(x1 - x0, y1 - y0, LEAST), SIDE);
  const start = (lo, hi) => Math.min(Math.max(lo - Math.floor((side - (hi - lo))/2), 0), SIDE - side);
  const x = start(x0, x1), y = start(y0, y1);
  return [x, y, x + side, y + side];
}
