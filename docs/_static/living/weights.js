// The files of a packaged model, which the browser keeps, and their tensors as Float32Array.

const spread = (bits, place) => new Float32Array(Uint32Array.from(bits, place).buffer);
const wide = { // exactly, as both are a part of float32; its exponents begin 112 lower
  F16: bits => spread(bits, h => (h & 0x8000) << 16 | (h & 0x7fff) << 13).map(v => v*2**112),
  BF16: bits => spread(bits, h => h << 16),
};

export function readTensors(buffer) { // of a safetensors file -> {name: {shape, data}}
  const length = Number(new DataView(buffer).getBigUint64(0, true)), start = 8 + length;
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  delete head.__metadata__;
  const read = ({dtype, shape, data_offsets: [a, b]}) =>
    ({shape, data: wide[dtype](new Uint16Array(buffer.slice(start + a, start + b)))});
  return Object.fromEntries(Object.entries(head).map(([name, place]) => [name, read(place)]));
}

async function fetchBytes(url, progress) { // progress(bytes read)
  const answer = await fetch(url, {cache: 'force-cache'});
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${answer.statusText}`);
  let read = 0;
  const counted = new TransformStream({
    transform(part, out) { progress(read += part.length); out.enqueue(part); },
  });
  return new Response(answer.body.pipeThrough(counted)).arrayBuffer();
}

export async function loadFiles(folder, version, progress = () => null) { // a URL that ends with /
  const json = name => fetch(folder + name).then(answer => answer.json());
  const [config, tokenizer, bytes] = await Promise.all([json('config.json'), json('tokenizer.json'),
    fetchBytes(`${folder}model.safetensors?${version}`, progress)]);
  return {config, tokenizer, tensors: readTensors(bytes)};
}
