// An image on a canvas, a map over it, and attributes of what is drawn above.
import {toPixels} from './maps.js';
import {SIDE} from './scene.js';

const SHADES = [
  [254, 183, 126], [254, 161, 110], [252, 138, 98], [248, 116, 92], [240, 95, 94], [227, 78, 101],
  [210, 66, 111], [191, 58, 119], [171, 51, 124], [152, 45, 128], [132, 38, 129], [114, 31, 129],
  [95, 24, 127], [76, 17, 122], [56, 16, 108], [36, 18, 83], [20, 14, 54]];

export function drawImage(canvas, image) {
  canvas.getContext('2d').putImageData(new ImageData(image, SIDE), 0, 0);
}

export function heat(image, map) { // the map in colors over the light image, on its own scale
  const lo = Math.min(...map), hi = Math.max(...map), out = image.slice();
  toPixels(map).forEach((value, i) => {
    const x = hi > lo ? Math.max(0, (value - lo)/(hi - lo)) : 0, cover = .92*x**.6, at = x*16;
    const k = Math.min(Math.floor(at), 15), rgb = image.subarray(i*4, i*4 + 3);
    const light = .75*(.299*rgb[0] + .587*rgb[1] + .114*rgb[2]);
    rgb.forEach((v, c) => {
      const color = SHADES[k][c]*(k + 1 - at) + SHADES[k + 1][c]*(at - k);
      out[i*4 + c] = (.45*(.25*v + light) + .55*255)*(1 - cover) + color*cover;
    });
  });
  return out;
}

export function showRange(bar, map) { // least and greatest value, in means of the map
  const mean = map.reduce((sum, v) => sum + v)/map.length, [least, , most] = bar.children;
  least.textContent = +(Math.min(...map)/mean).toFixed(2);
  most.textContent = `${+(Math.max(...map)/mean).toPrecision(2)} × mean`;
}

export function set(element, attributes) {
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
