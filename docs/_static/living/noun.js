// The query token 'noun' of the library: carve_nb.core.text says how it is found, and has the table of words.

const KINDS = ['plain', 'of', 'place', 'which'];
const isWord = text => /^[\p{L}\p{N}\p{M}]+$/u.test(text);

function sentencesOf(words) {
  const sentences = [[]];
  for (const word of words) {
    sentences.at(-1).push(word);
    if ('.!?'.includes(word.text.at(-1))) sentences.push([]);
  }
  return sentences.filter(s => s.some(({text}) => isWord(text)));
}

function phrasesOf(sentence, table) {
  const phrases = [];
  let run = [], kind = 'plain', named = false;
  for (const word of [...sentence, {text: '.'}]) {
    const {text} = word, closed = name => table[name].includes(text);
    if (isWord(text) && !['which', 'prepositions', 'determiners', 'others'].some(closed)) { run.push(word); continue; }
    if (run.length && ["'s", '’s'].includes(text)) { run = []; named = true; continue; }
    if (run.length) phrases.push({kind, named, words: run});
    if (run.length || !closed('determiners')) { kind = 'plain'; named = false; }
    run = [];
    if (closed('determiners')) named = true;
    else if (closed('which')) kind = 'which';
    else if (closed('prepositions')) kind = text === 'of' ? 'of' : 'place';
  }
  return phrases;
}

export function findNoun(tokens, table) { // the words of a question -> the place of one of them, or -1
  const words = tokens.map((token, place) => ({text: token.trim().toLowerCase(), place})).filter(({text}) => text);
  const sentences = sentencesOf(words);
  while (sentences.length > 1 && sentences.at(-1).some(({text}) => table.pronouns.includes(text))) sentences.pop();
  const isStrong = ({text}, {named, words}) => {
    if (table.weak.includes(text)) return false;
    const participle = text.length > 4 && /ing$|[^e]ed$/.test(text) && !table.nouns.includes(text);
    return !participle || named && words.length === 1;
  };
  const head = phrase => phrase.words.findLast(word => isStrong(word, phrase)) ?? phrase.words.at(-1);
  for (const sentence of sentences.toReversed()) {
    const strong = phrasesOf(sentence, table).filter(phrase => isStrong(head(phrase), phrase));
    strong.sort((a, b) => KINDS.indexOf(a.kind) - KINDS.indexOf(b.kind));
    if (strong.length) return head(strong[0]).place;
  }
  const phrases = sentences.length ? phrasesOf(sentences.at(-1), table) : [];
  const chosen = phrases.find(({named}) => named) ?? phrases[0];
  return chosen ? head(chosen).place : -1;
}
