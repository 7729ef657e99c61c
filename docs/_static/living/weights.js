// The files of a packaged model, kept by the browser, and their tensors as Float32Array.

function half(h) { // the number that 16 bits stand for in IEEE 754
  const e = h >> 10 & 31, f = h & 1023, sign = h >> 15 ? -1 : 1;
  if (e === 31) return f ? NaN : sign*Infinity;
  return sign*(e ? 2**(e - 15)*(1 + f/1024) : 2**-14*f/1024);
}

export function readHalf(bytes) { // float16 -> float32
  const all = Float32Array.from({length: 65536}, (_, i) => half(i));
  return Float32Array.from(new Uint16Array(bytes), h => all[h]);
}

const wide = { // exactly, as each of these is a part of float32
  F32: bytes => new Float32Array(bytes),
  F16: readHalf,
  BF16: bytes => new Float32Array(Uint32Array.from(new Uint16Array(bytes), h => h << 16).buffer),
};

export function readTensors(buffer) { // of a safetensors file -> {name: {shape, data}}
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  delete head.__metadata__;
  return Object.fromEntries(Object.entries(head).map(([name, {dtype, shape, data_offsets: [a, b]}]) =>
    [name, {shape, data: wide[dtype](buffer.slice(8 + length + a, 8 + length + b))}]));
}

async function fetchKept(url, progress) { // the bytes; progress(read, all)
  const store = await globalThis.caches?.open('carve-models').catch(() => null);
  const kept = await store?.match(url);
  if (kept) return kept.arrayBuffer();
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${answer.statusText}`);
  const all = +answer.headers.get('content-length') || 0, parts = [], reader = answer.body.getReader();
  let read = 0;
  for (let step; !(step = await reader.read()).done;) {
    parts.push(step.value);
    progress(read += step.value.length, all);
  }
  const bytes = await new Blob(parts).arrayBuffer();
  await store?.put(url, new Response(bytes)).catch(() => null); // a full disk: fetched again next time
  return bytes;
}

export async function loadFiles(folder, version, progress = () => null) { // a URL that ends with /
  const json = name => fetch(folder + name).then(answer => answer.json());
  const [config, tokenizer] = await Promise.all([json('config.json'), json('tokenizer.json')]);
  const bytes = await fetchKept(`${folder}model.safetensors?${version}`, progress);
  return {config, tokenizer, tensors: readTensors(bytes)};
}
