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
export const questionOf = o => `What digit is on the ${nameOf(o)}?`;

export async function readImage(url) { // RGBA, as all images here; its width
  const blob = await (await fetch(url)).blob();
  const image = await createImageBitmap(blob, {colorSpaceConversion: 'none'});
  const c = new OffscreenCanvas(image.width, image.height).getContext('2d');
  c.drawImage(image, 0, 0);
  return {data: c.getImageData(0, 0, image.width, image.height).data, width: image.width};
}

const rounded = v => v%1 === .5 ? 2*Math.round(v/2) : Math.round(v); // halves to even numbers
const by255 = v => (v + 128 + (v + 128 >> 8)) >> 8; // Pillow's division by 255
const mix = (under, over, share) => by255(under*(255 - share) + over*share);
const above = (least, size) => (size*(size - 1) - least*(least - 1))/2; // rows before a size

// The sheet has shapes in red and green, which count fill and rim, of 16; and digits in blue
function shapeOf(o, {data, width}) { // (x, y) -> opacity and color
  const left = SHAPES.indexOf(o.shape)*MOST, top = above(LEAST, o.side), rim = o.dark ? 20 : 245;
  return (x, y) => {
    const at = ((top + y)*width + left + x)*4, fills = data[at], rims = data[at + 1];
    const alpha = 255*(fills + rims) + 8 >> 4;
    const mean = v => v*fills + rim*rims + 8 >> 4; // premultiplied
    return [alpha, ...o.rgb.map(v => alpha && Math.min(255, Math.floor(255*mean(v)/alpha)))];
  };
}

function digitOf(o, {data, width, digits}) { // (x, y) -> how much it covers
  const tall = Math.max(4, rounded(.42*o.side)), wide = digits[tall][o.digit];
  const left = rounded((o.side - wide)/2), from = above(15, tall);
  const top = rounded(o.side*(MIDDLE[o.shape] ?? .5) - tall/2);
  return (x, y) => x < left || x >= left + wide || y < top || y >= top + tall ? 0 :
    data[((from + y - top)*width + o.digit*26 + x - left)*4 + 2];
}

export function paint(ground, objects, sheet) {
  const out = ground.slice();
  for (const o of objects) {
    const shape = shapeOf(o, sheet), digit = digitOf(o, sheet), [red, green, blue] = o.rgb;
    const ink = red*.299 + green*.587 + blue*.114 > 110 ? 0 : 255;
    for (let i = 0; i < o.side**2; i++) {
      const x = i%o.side, y = Math.floor(i/o.side), at = ((o.y + y)*SIDE + o.x + x)*4;
      const cover = digit(x, y), [alpha, ...color] = shape(x, y), share = alpha ? cover : 255;
      const all = mix(alpha, 255, cover);
      color.forEach((v, c) => { out[at + c] = mix(out[at + c], mix(v, ink, share), all); });
    }
  }
  return out;
}

const apart = (a, b) =>
  a[2] + 4 <= b[0] || b[2] + 4 <= a[0] || a[3] + 4 <= b[1] || b[3] + 4 <= a[1];
const PAIRS = Object.keys(COLORS).flatMap(color => SHAPES.map(shape => ({color, shape})));

export const pick = (all, random = Math.random) => all[Math.floor(all.length*random())];

function shade(color, random) { // of a color
  const light = .88 + .2*random(), near = v => v*light + Math.floor(21*random()) - 10;
  return COLORS[color].map(v => Math.trunc(Math.min(255, Math.max(0, near(v)))));
}

function newObject(others, random) { // where there is room; undefined where there is none
  const pair = pick(PAIRS.filter(p => !others.some(o => nameOf(o) === nameOf(p))), random);
  const whole = (from, to) => from + Math.floor((to - from)*random());
  for (let i = 0; i < 60; i++) {
    const side = whole(LEAST, MOST + 1), end = SIDE - side - 1;
    const place = {x: whole(2, end), y: whole(2, end)}, digit = whole(0, 10), dark = random() < .7;
    const o = {...pair, side, ...place, digit, dark, rgb: shade(pair.color, random)};
    if (others.every(other => apart(boxOf(o), boxOf(other)))) return o;
  }
}

export function newScene(random = Math.random) { // 3 to 12 objects
  const n = 3 + Math.floor(10*random()), objects = [];
  for (let o; objects.length < n && (o = newObject(objects, random));) objects.push(o);
  return objects;
}
