// Words to tokens and back, and the chat of each model around images and question.

export const SHORT_ANSWER = 'Answer the question using a single word or phrase.';
export const DESCRIBE = 'Write a general description of the image.';

const PART = /\p{P}|[\p{L}\p{M}\p{N}]+|[^\p{L}\p{M}\p{N}\p{P}\s]+/gu;

const CHATS = { // before all images, around each, after the words; the end of an answer
  llava: {before: ['<s>', 'user', ':'], open: [], close: [], after: ['assistant', ':'],
    end: ['</s>']},
  qwen2_5_vl: {
    before: ['<|im_start|>', 'user'], open: ['<|vision_start|>'], close: ['<|vision_end|>'],
    after: ['<|im_end|>', '<|im_start|>', 'assistant'], end: ['<|im_end|>'],
  },
};

export function makeTokenizer({model: {vocab}, added_tokens: added}, type) {
  const names = Object.keys(vocab).sort((a, b) => vocab[a] - vocab[b]);
  const special = new Set(added.map(o => o.content));
  const split = text => text.toLowerCase().match(PART) ?? [];
  const id = word => vocab[word] ?? vocab['<unk>'];
  const chat = Object.entries(CHATS[type]).map(([part, all]) => [part, all.map(id)]);
  return {
    chat: Object.fromEntries(chat),
    words: split,
    encode: text => split(text).map(id),
    unknown: text => split(text).filter(word => !(word in vocab) || special.has(word)),
    decode: ids => ids.map(i => names[i]).join(' ').replace(/ ([.,?!])/g, '$1'),
  };
}
