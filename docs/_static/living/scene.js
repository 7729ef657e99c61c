// Scenes as carve_nb/data/drawing.py paints them: shapes with digits on a ground, pixel by pixel.

export const SIDE = 448, LEAST = 36, MOST = 60; // of a scene; of an object
export const COLORS = {
  red: [214, 38, 38], orange: [244, 134, 26], yellow: [240, 216, 44], green: [42, 150, 58],
  cyan: [52, 204, 214], blue: [38, 74, 214], purple: [132, 48, 176], pink: [246, 130, 190],
};
export const SHAPES = ['circle', 'square', 'triangle', 'star', 'cross', 'heart'];
const MIDDLE = {triangle: .6, star: .54, heart: .48}; // of the digit in its shape

export const nameOf = o => `${o.color} ${o.shape}`;
export const boxOf = o => [o.x, o.y, o.x + o.side, o.y + o.side];

const rounded = v => Math.abs(v%1) === .5 ? 2*Math.round(v/2) : Math.round(v); // halves to even numbers
const by255 = v => (v + 128 + (v + 128 >> 8)) >> 8; // Pillow's division by 255
const mix = (under, over, share) => by255(under*(255 - share) + over*share);

export async function readImage(url) { // RGBA of a file, its width
  const image = await createImageBitmap(await (await fetch(url)).blob(), {colorSpaceConversion: 'none'});
  const canvas = new OffscreenCanvas(image.width, image.height), c = canvas.getContext('2d');
  c.drawImage(image, 0, 0);
  return {data: c.getImageData(0, 0, image.width, image.height).data, width: image.width};
}

export function toRGB({data}) {
  return Uint8ClampedArray.from({length: data.length/4*3}, (_, i) => data[Math.floor(i/3)*4 + i%3]);
}

const above = (least, size) => (size*(size - 1) - least*(least - 1))/2; // rows of the sheet before a size

function sprite(o, {data, width, digits}) { // RGBA; of the sheet: red, green count fill and rim, of 16
  const px = o.side, out = new Uint8ClampedArray(px*px*4), rim = o.dark ? 20 : 245;
  const x0 = SHAPES.indexOf(o.shape)*MOST, y0 = above(LEAST, px);
  for (let i = 0; i < px*px; i++) {
    const at = ((y0 + Math.floor(i/px))*width + x0 + i%px)*4, fills = data[at], rims = data[at + 1];
    const alpha = 255*(fills + rims) + 8 >> 4;
    for (let c = 0; c < 3; c++) {
      const mean = o.rgb[c]*fills + rim*rims + 8 >> 4; // premultiplied
      out[i*4 + c] = alpha ? Math.min(255, Math.floor(255*mean/alpha)) : 0;
    }
    out[i*4 + 3] = alpha;
  }
  drawDigit(o, out, {data, width, digits});
  return out;
}

function drawDigit(o, out, {data, width, digits}) { // of the sheet: blue covers
  const px = o.side, tall = Math.max(4, rounded(.42*px)), wide = digits[tall][o.digit];
  const bright = o.rgb[0]*.299 + o.rgb[1]*.587 + o.rgb[2]*.114 > 110, ink = bright ? 0 : 255;
  const left = rounded((px - wide)/2), top = rounded(px*(MIDDLE[o.shape] ?? .5) - tall/2);
  for (let y = 0; y < tall; y++) {
    for (let x = 0; x < wide; x++) {
      const share = data[((above(15, tall) + y)*width + o.digit*26 + x)*4 + 2], at = ((top + y)*px + left + x)*4;
      if (!share) continue;
      const own = out[at + 3] ? share : 255;
      for (let c = 0; c < 3; c++) out[at + c] = mix(out[at + c], ink, own);
      out[at + 3] = mix(out[at + 3], 255, share);
    }
  }
}

export function paint(ground, objects, sheet) { // RGB
  const out = ground.slice();
  for (const o of objects) {
    const drawn = sprite(o, sheet);
    for (let i = 0; i < o.side*o.side; i++) {
      const at = ((o.y + Math.floor(i/o.side))*SIDE + o.x + i%o.side)*3, share = drawn[i*4 + 3];
      for (let c = 0; c < 3; c++) out[at + c] = mix(out[at + c], drawn[i*4 + c], share);
    }
  }
  return out;
}

export function recolor(color, random = Math.random) { // a shade of it
  const light = .88 + .2*random();
  return COLORS[color].map(v => Math.trunc(Math.min(255, Math.max(0, v*light + Math.floor(21*random()) - 10))));
}

const apart = (a, b) => a[2] + 4 <= b[0] || b[2] + 4 <= a[0] || a[3] + 4 <= b[1] || b[3] + 4 <= a[1];

export function newObject(others, random = Math.random) { // where there is room; undefined where there is none
  const pairs = Object.keys(COLORS).flatMap(color => SHAPES.map(shape => ({color, shape})));
  const free = pairs.filter(p => !others.some(o => nameOf(o) === nameOf(p))), whole = n => Math.floor(n*random());
  const pair = free[whole(free.length)];
  for (let i = 0; i < 60; i++) {
    const side = LEAST + whole(MOST - LEAST + 1), x = 2 + whole(SIDE - side - 3), y = 2 + whole(SIDE - side - 3);
    const o = {...pair, side, x, y, digit: whole(10), dark: random() < .7, rgb: recolor(pair.color, random)};
    if (others.every(other => apart(boxOf(o), boxOf(other)))) return o;
  }
}

export function newScene(random = Math.random) { // 3 to 12 objects
  const n = 3 + Math.floor(10*random()), objects = [];
  for (let o; objects.length < n && (o = newObject(objects, random));) objects.push(o);
  return objects;
}
