// Canvases: a scene, a map over it, outlines and the ring around the strongest patch.
import {peakAt, toPixels} from './maps.js';
import {SIDE} from './scene.js';

const SHADES = [[254, 183, 126], [254, 161, 110], [252, 138, 98], [248, 116, 92], [240, 95, 94], [227, 78, 101],
  [210, 66, 111], [191, 58, 119], [171, 51, 124], [152, 45, 128], [132, 38, 129], [114, 31, 129], [95, 24, 127],
  [76, 17, 122], [56, 16, 108], [36, 18, 83], [20, 14, 54]];

function put(canvas, color) { // color(i): RGB of a pixel
  const c = canvas.getContext('2d'), image = c.createImageData(SIDE, SIDE);
  for (let i = 0; i < SIDE*SIDE; i++) {
    image.data.set(color(i), i*4);
    image.data[i*4 + 3] = 255;
  }
  c.putImageData(image, 0, 0);
  return c;
}

export const drawScene = (canvas, rgb) => put(canvas, i => rgb.subarray(i*3, i*3 + 3));

export function drawMap(canvas, rgb, map) { // in colors over the light image; the map's own scale
  const values = toPixels(map), lo = Math.min(...map), hi = Math.max(...map);
  return put(canvas, i => {
    const x = hi > lo ? Math.max(0, (values[i] - lo)/(hi - lo)) : 0, cover = .92*x**.6, at = x*16;
    const k = Math.min(Math.floor(at), 15), own = rgb.subarray(i*3, i*3 + 3);
    const gray = .299*own[0] + .587*own[1] + .114*own[2];
    return [0, 1, 2].map(c => (.45*(.25*own[c] + .75*gray) + .55*255)*(1 - cover) +
      (SHADES[k][c]*(k + 1 - at) + SHADES[k + 1][c]*(at - k))*cover);
  });
}

export function outline(c, [x0, y0, x1, y1], ...colors) { // the outer first
  colors.forEach((color, i) => {
    c.strokeStyle = color; c.lineWidth = 3;
    c.strokeRect(x0 - 1.5 + 3*i, y0 - 1.5 + 3*i, x1 - x0 + 3 - 6*i, y1 - y0 + 3 - 6*i);
  });
}

export function ring(c, map, color) {
  const n = Math.sqrt(map.length), at = peakAt(map), [x, y] = [at%n, Math.floor(at/n)].map(v => (v + .5)*SIDE/n);
  for (const [stroke, width] of [['#fff', 9], [color, 5]]) {
    c.strokeStyle = stroke; c.lineWidth = width; c.beginPath(); c.arc(x, y, 26, 0, 2*Math.PI); c.stroke();
  }
}

export function drawCrop(canvas, scene, [x0, y0, x1, y1]) {
  canvas.getContext('2d').drawImage(scene, x0, y0, x1 - x0, y1 - y0, 0, 0, SIDE, SIDE);
}
