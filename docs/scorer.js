/* The order of what a search finds: pages whose title or first sentence has the words asked for, or that
   answer such a question (docs/order.toml), then chapters, tutorials,
   notes, the library. `ABOUT` is written by tools/pages.py: title, first sentence and questions of each page. */
const ABOUT = {};
var Scorer = {
  objNameMatch: 11, objPartialMatch: 6, objPrio: {0: 5, 1: 0, 2: -5}, objPrioDefault: 0,
  title: 15, partialTitle: 7, term: 5, partialTerm: 2,
  score: ([docname, title, , , score]) => {
    const place = /^\d\d_/.test(docname) ? 20 : docname === 'quickstart' || docname.startsWith('tutorials/') ? 25 : docname.startsWith('notes/') ? 15 : 5;
    const words = text => text.toLowerCase().match(/[\p{L}\p{N}_]+/gu) ?? [];
    const asked = words(new URLSearchParams(location.search).get('q') ?? ''), [head, sentence, questions] = (ABOUT[docname] ?? ['', '', '']).map(words);
    const share = found => asked.filter(w => found.includes(w)).length/Math.max(1, asked.length);
    return score + place + 60*share([...head, ...sentence, ...questions]) + 40*share([...head, ...questions]);
  },
};
