/* The order of what a search finds, and the section to which it leads. A page counts for the words asked for that its title, its
   first sentence and the titles of its sections have, or one of the questions that it answers (docs/order.toml); then chapters,
   tutorials, notes, the library. `ABOUT` is written by tools/pages.py: of each page title with first sentence, and its questions by section. */
const ABOUT = {};
const wordsOf = text => (text.toLowerCase().match(/[\p{L}\p{N}_]+/gu) ?? []).map(w => w.replace(/(?<=\w{3})e?s$/, ''));
const SMALL = new Set(wordsOf([...stopwords].join(' ')));
const shareIn = (asked, text) => {
  const found = wordsOf(text);
  return asked.filter(w => found.includes(w)).length/Math.max(1, asked.length); };
const sectionsOf = docname => Object.entries(Search._index.alltitles).flatMap(([title, places]) => places
  .filter(([file, id]) => id && Search._index.docnames[file] === docname).map(([, id]) => ({title, id})));
var Scorer = {
  objNameMatch: 11, objPartialMatch: 6, objPrio: {0: 5, 1: 0, 2: -5}, objPrioDefault: 0,
  title: 15, partialTitle: 7, term: 5, partialTerm: 2,
  score: item => {
    const [docname, title, anchor, , score, , kind] = item, {page, asked: answers} = ABOUT[docname] ?? {page: '', asked: {}};
    const place = /^\d\d_/.test(docname) ? 20 : docname === 'quickstart' || docname.startsWith('tutorials/') ? 25 : docname.startsWith('notes/') ? 15 : 5;
    const all = wordsOf(new URLSearchParams(location.search).get('q') ?? ''), content = all.filter(w => !SMALL.has(w));
    const asked = content.length ? content : all;
    const best = id => Math.max(0, ...(answers[id] ?? []).map(question => shareIn(asked, question)));
    const sections = sectionsOf(docname).map(s => ({...s, share: Math.max(shareIn(asked, s.title), best(s.id)), tie: shareIn(all, s.title)}));
    const first = sections.reduce((a, b) => (b.share - a.share || b.tie - a.tie) > 0 ? b : a, {share: 0, tie: 0});
    if (kind === 'text' && !anchor && first.share >= .5 && first.share > Math.max(shareIn(asked, page), best('')))
      [item[1], item[2]] = [`${title} > ${first.title}`, `#${first.id}`];
    if (kind === 'object') return score + place;    // a function of the page is no answer to what the page answers
    return score + place + 60*Math.max(shareIn(asked, page), first.share, best('')) + 40*Math.max(best(''), ...Object.keys(answers).map(best));
  },
};
