/* The order of what a search finds: chapters, tutorials, explanations, library, then single functions; a page's title before its headings. */
var Scorer = {
  objNameMatch: 11, objPartialMatch: 6, objPrio: {0: 5, 1: 0, 2: -5}, objPrioDefault: 0,
  title: 15, partialTitle: 7, term: 5, partialTerm: 2,
  score: ([docname, title, anchor, , score, , kind]) => {
    const place = /^\d\d_/.test(docname) ? 40 : docname.startsWith('tutorials/') ? 25 : docname.startsWith('explanations/') ? 20 : docname.startsWith('api/') ? 0 : 10;
    return score + place + (kind === 'title' && !anchor ? 30 : 0);
  },
};
