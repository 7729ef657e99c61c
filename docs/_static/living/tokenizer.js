// Words to tokens and back, and the chat of each model around images and question.

export const SHORT_ANSWER = 'Answer the question using a single word or phrase.';
export const DESCRIBE = 'Write a general description of the image.';

export function makeTokenizer({model: {vocab}, added_tokens: added}) {
  const names = [], special = new Set(added.map(o => o.content));
  for (const [word, id] of Object.entries(vocab)) names[id] = word;
  const split = text => text.toLowerCase().match(/\p{P}|[\p{L}\p{M}\p{N}]+|[^\p{L}\p{M}\p{N}\p{P}\s]+/gu) ?? [];
  return {
    split, names, words: names.filter(name => !special.has(name)),
    id: word => vocab[word] ?? vocab['<unk>'],
    encode: text => split(text).map(word => vocab[word] ?? vocab['<unk>']),
    unknown: text => split(text).filter(word => !(word in vocab) || special.has(word)),
    decode: ids => ids.map(id => names[id]).join(' ').replace(/ ([.,?!])/g, '$1'),
  };
}

const both = (tokenizer, before, after, end) => (
  {before: before.map(tokenizer.id), after: after.map(tokenizer.id), end: tokenizer.id(end)});

export const chats = { // tokens before all images, around each, after the words; that which ends an answer
  llava: t => ({...both(t, ['<s>', 'user', ':'], ['assistant', ':'], '</s>'), open: [], close: []}),
  qwen2_5_vl: t => ({
    ...both(t, ['<|im_start|>', 'user'], ['<|im_end|>', '<|im_start|>', 'assistant'], '<|im_end|>'),
    open: [t.id('<|vision_start|>')], close: [t.id('<|vision_end|>')],
  }),
};
