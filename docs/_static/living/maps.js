// What is read from attention, as the package does: contrast, the strongest patch, region and crop.
import {SIDE} from './scene.js';

const LEAST = 96, KEPT = .04; // side of a crop; share of the pixels that are a region

export function contrast(a, g) { // A_Q / (A_G + λ), λ the mean of A_G
  const mean = g.reduce((sum, v) => sum + v)/g.length;
  return a.map((v, i) => v/(g[i] + mean));
}

export function average(maps) {
  return maps[0].map((_, i) => maps.reduce((sum, map) => sum + map[i], 0)/maps.length);
}

export const peakAt = map => map.reduce((best, v, i) => v > map[best] ? i : best, 0);

export function pointsAt(map, [x0, y0, x1, y1]) { // does the strongest patch overlap the box?
  const n = Math.sqrt(map.length), cell = SIDE/n, at = peakAt(map);
  const x = at%n*cell, y = Math.floor(at/n)*cell;
  return x0 < x + cell && x < x1 && y0 < y + cell && y < y1;
}

export function toPixels(map) { // bilinear
  const n = Math.sqrt(map.length), out = new Float32Array(SIDE*SIDE);
  const along = Array.from({length: SIDE}, (_, i) => { // the cell before, the weight of the next
    const u = Math.min(Math.max((i + .5)/SIDE*n - .5, 0), n - 1);
    const lo = Math.min(Math.floor(u), n - 2);
    return [lo, u - lo];
  });
  along.forEach(([j, b], y) => {
    const row = Array.from({length: n}, (_, i) => map[j*n + i]*(1 - b) + map[(j + 1)*n + i]*b);
    along.forEach(([i, a], x) => { out[y*SIDE + x] = row[i]*(1 - a) + row[i + 1]*a; });
  });
  return out;
}

function regionBox(map) { // around the strongest pixel: what is connected with it in the top share
  const pixels = toPixels(map), seen = new Set([peakAt(pixels)]);
  const least = pixels.slice().sort()[Math.ceil((1 - KEPT)*(pixels.length - 1))];
  for (const at of seen) { // which grows
    const left = at%SIDE ? at - 1 : -1, right = (at + 1)%SIDE ? at + 1 : -1;
    for (const o of [left, right, at - SIDE, at + SIDE]) if (pixels[o] >= least) seen.add(o);
  }
  const x = Array.from(seen, at => at%SIDE), y = Array.from(seen, at => Math.floor(at/SIDE));
  return [Math.min(...x), Math.min(...y), Math.max(...x) + 1, Math.max(...y) + 1];
}

export function cropBox(map) { // a square around the region, inside the scene
  const [x0, y0, x1, y1] = regionBox(map), side = Math.max(x1 - x0, y1 - y0, LEAST);
  const start = (lo, hi) =>
    Math.min(Math.max(lo - Math.floor((side - (hi - lo))/2), 0), SIDE - side);
  const x = start(x0, x1), y = start(y0, y1);
  return [x, y, x + side, y + side];
}
