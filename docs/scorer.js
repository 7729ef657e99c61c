/* The order of what a search finds: chapters, tutorials, explanations, library, then single functions; a page whose own title has the words comes first. */
var Scorer = {
  objNameMatch: 11, objPartialMatch: 6, objPrio: {0: 5, 1: 0, 2: -5}, objPrioDefault: 0,
  title: 15, partialTitle: 7, term: 5, partialTerm: 2,
  score: ([docname, title, , , score]) => {
    const place = /^\d\d_/.test(docname) ? 40 : docname === 'quickstart' || docname.startsWith('tutorials/') ? 25 : docname.startsWith('notes/') ? 20 : docname.startsWith('api/') ? 0 : 10;
    const asked = (new URLSearchParams(location.search).get('q') ?? '').trim().toLowerCase();
    return score + place + (asked && place && !title.includes(' > ') && title.toLowerCase().includes(asked) ? 30 : 0);
  },
};
