/* Tables: words on the left, numbers on the right; sorted and scrolled with the keyboard. A search that finds some of the words. */
'use strict';
document.addEventListener('DOMContentLoaded', () => {
  const text = c => c.textContent.trim();
  for (const table of document.querySelectorAll('article table.dataframe')) {
    // The name of the index, which pandas puts in a row of its own, stands in the empty corner of the row above it.
    const [above, below] = table.tHead?.rows ?? [];
    if (below && above.cells.length === below.cells.length) {
      const n = [...below.cells].filter(text).length;
      if (![...above.cells].slice(0, n).some(text) && ![...below.cells].slice(n).some(text)) {
        for (let i = 0; i < n; i++) above.cells[i].textContent = text(below.cells[i]);
        below.remove();
      }
    }
    const rows = [...table.tBodies[0]?.rows ?? []].map(r => [...r.querySelectorAll('td')]), count = rows[0]?.length ?? 0;
    for (let i = 0; i < count; i++) {
      if (!rows.some(r => r[i] && /\p{L}{2}/u.test(text(r[i]).replace(/NaN|nan/g, '')))) continue;
      const heads = [...table.tHead?.rows ?? []].map(r => r.cells[r.cells.length - count + i]);
      for (const cell of [...rows.map(r => r[i]), ...heads]) cell?.classList.add('words');
    }
  }
  const number = t => { const m = t.replace(/[−–]/g, '-').match(/^[^\d-]{0,2}(-?[\d.,]+(e[-+]?\d+)?)(?![\d_])/); return m ? parseFloat(m[1].replace(/,/g, '')) : NaN; };
  for (const table of document.querySelectorAll('article table')) {
    const head = table.tHead?.rows, body = table.tBodies[0];
    if (!head?.length || table.closest('.moving') || body.rows.length < 4 || table.querySelector('[rowspan], [colspan]')) continue;
    const count = body.rows[0].cells.length;
    if ([...body.rows].some(r => r.cells.length !== count)) continue;
    const numbers = i => [...body.rows].filter(r => !isNaN(number(r.cells[i].textContent.trim()))).length;
    if (![...Array(count).keys()].some(i => i && numbers(i) > body.rows.length/2)) continue;  // words stand in an order of their own
    for (let i = 0; i < count; i++) {
      const th = [...head].map(r => r.cells[i]).filter(c => c && c.textContent.trim()).at(-1);
      if (!th || head[0].cells.length !== count) continue;
      const button = document.createElement('button');
      button.className = 'sort'; button.type = 'button'; button.title = 'Sort by this column';
      button.append(...th.childNodes); th.append(button);
      button.onclick = () => {
        const down = th.getAttribute('aria-sort') === 'descending';
        table.querySelectorAll('[aria-sort]').forEach(o => o.removeAttribute('aria-sort'));
        th.setAttribute('aria-sort', down ? 'ascending' : 'descending');
        const text = r => r.cells[i].textContent.trim(), rows = [...body.rows];
        const numeric = numbers(i) > rows.length/2;
        const order = numeric ? (a, b) => { const [x, y] = [a, b].map(r => number(text(r))); return isNaN(x) - isNaN(y) || (down ? x - y : y - x); }
          : (a, b) => (down ? 1 : -1)*text(b).localeCompare(text(a), undefined, {numeric: true});
        body.append(...rows.sort(order));
      };
    }
  }
  const reach = () => document.querySelectorAll('article .cell_output, article .table-wrapper, article pre, article .math').forEach(e => {
    if (e.scrollWidth > e.clientWidth + 1 && !['visible', 'hidden'].includes(getComputedStyle(e).overflowX)) e.tabIndex = 0; });
  if (typeof Search !== 'undefined') {    // where no page has all words, those that have some are found
    const all = Search.performTermsSearch;
    Search.performTermsSearch = (terms, excluded) => {
      const found = all(terms, excluded);
      return found.length ? found : [...terms].flatMap(t => all(new Set([t]), excluded));
    };
    document.querySelector('#search-results').insertAdjacentHTML('afterend',
      '<p class="else">Not there? <a href="tutorials/how_do_i.html">How do I …?</a> has one line for each thing that people ask.</p>');
  }
  for (const e of document.querySelectorAll('.sidebar-tree .caption')) e.ariaLevel = 2;
  reach();
  window.addEventListener('load', () => setTimeout(reach, 500));
});
