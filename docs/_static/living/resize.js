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
    const at = k => Math.abs((k + lo - center + .5)/stretch);
    const w = Array.from({length: hi - lo}, (_, k) => value(at(k)));
    const sum = w.reduce((a, b) => a + b);
    return [lo, Int32Array.from(w, v => Math.trunc(v/sum*2**22 + (v < 0 ? -.5 : .5)))];
  });
}

function pass(image, width, [x0, y0, x1, y1], to, filter) { // along rows, which become columns
  const lines = y1 - y0, out = new Uint8ClampedArray(lines*to*4);
  taps(x1 - x0, to, filter).forEach(([lo, w], i) => {
    for (let l = 0; l < lines; l++) {
      const from = ((y0 + l)*width + x0 + lo)*4;
      for (let c = 0; c < 4; c++) {
        let sum = 2**21;
        for (let k = 0; k < w.length; k++) sum += w[k]*image[from + k*4 + c];
        out[(i*lines + l)*4 + c] = sum >> 22;
      }
    }
  });
  return out;
}

// RGBA of a square part of a square image
export function resize(image, box, to, filter = 'bicubic') {
  const side = box[2] - box[0], across = pass(image, Math.sqrt(image.length/4), box, to, filter);
  return pass(across, side, [0, 0, side, to], to, filter);
}

const normal = Float32Array.from({length: 256}, (_, v) => (Math.fround(v/255) - .5)/.25);

export function normalize(image) { // RGBA -> a plane for each color, float32
  const n = image.length/4;
  return Float32Array.from({length: n*3}, (_, i) => normal[image[i%n*4 + Math.floor(i/n)]]);
}
