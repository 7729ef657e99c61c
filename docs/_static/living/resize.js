// Pillow's resampling of 8-bit images: two passes, coefficients of 22 bits, each pass rounded to 8.

const sinc = x => x ? Math.sin(x*Math.PI)/(x*Math.PI) : 1;
const filters = { // half its width, its value
  bicubic: [2, x => x < 1 ? (1.5*x - 2.5)*x*x + 1 : x < 2 ? ((-.5*x + 2.5)*x - 4)*x + 2 : 0],
  lanczos: [3, x => x < 3 ? sinc(x)*sinc(x/3) : 0],
};

function taps(from, to, filter) { // of each pixel: the first that it reads, and the weights
  const [support, value] = filters[filter], scale = from/to, stretch = Math.max(1, scale);
  return Array.from({length: to}, (_, i) => {
    const center = (i + .5)*scale, lo = Math.max(0, Math.trunc(center - support*stretch + .5));
    const hi = Math.min(from, Math.trunc(center + support*stretch + .5));
    const w = Array.from({length: hi - lo}, (_, k) => value(Math.abs((k + lo - center + .5)/stretch)));
    const sum = w.reduce((a, b) => a + b);
    return [lo, Int32Array.from(w, v => Math.trunc(v/sum*2**22 + (v < 0 ? -.5 : .5)))];
  });
}

function pass(image, lines, from, to, filter, down) { // along rows, or down columns
  const out = new Uint8ClampedArray(lines*to*3), all = taps(from, to, filter);
  const step = down ? lines*3 : 3, line = down ? 3 : from*3, place = down ? 3 : to*3;
  for (let l = 0; l < lines; l++) {
    for (let i = 0; i < to; i++) {
      const [lo, w] = all[i];
      for (let c = 0; c < 3; c++) {
        let sum = 2**21;
        for (let k = 0; k < w.length; k++) sum += w[k]*image[l*line + (lo + k)*step + c];
        out[l*place + i*step + c] = sum >> 22;
      }
    }
  }
  return out;
}

export function resize(image, [width, height], [w, h], filter = 'bicubic') { // RGB, three bytes a pixel
  const across = w === width ? image : pass(image, height, width, w, filter);
  return h === height ? across : pass(across, w, height, h, filter, true);
}

export function cut(image, width, [x0, y0, x1, y1]) { // a part of it
  const out = new Uint8ClampedArray((x1 - x0)*(y1 - y0)*3);
  for (let y = y0; y < y1; y++) {
    out.set(image.subarray((y*width + x0)*3, (y*width + x1)*3), (y - y0)*(x1 - x0)*3);
  }
  return out;
}

const normal = Float32Array.from({length: 256}, (_, v) => (Math.fround(v/255) - .5)/.25);

export function normalize(image) { // RGB -> a plane for each color, float32
  const n = image.length/3;
  return Float32Array.from(image, (_, i) => normal[image[i%n*3 + Math.floor(i/n)]]);
}
