// What a reader of the explorer sees, asked of the page: `() => cutOff()` and `() => paleWords()` behind this text.
// Each answers with how many elements it looked at, and with those that fail.

const root = document.querySelector('.carve-explore');

// Elements whose right edge lies behind that of the explorer.
function cutOff() {
  const edge = root.getBoundingClientRect().right + 1;
  const shown = [...root.querySelectorAll('img, button, select, input, textarea, .noUi-handle')].filter(e => e.offsetParent);
  const beyond = shown.filter(e => e.getBoundingClientRect().right > edge);
  return [shown.length, beyond.map(e => e.alt || e.innerText || e.tagName)];
}

// Relative luminance of a color, as WCAG 2 defines it.
function luminance(color) {
  const channels = color.match(/[\d.]+/g).slice(0, 3).map(v => v / 255);
  const [r, g, b] = channels.map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b;
}

// The color behind an element: of the nearest one that is not transparent.
function backgroundOf(element) {
  for (let e = element; e; e = e.parentElement) {
    const color = getComputedStyle(e).backgroundColor;
    if (!/, 0\)|transparent/.test(color)) return color;
  }
  return 'rgb(255, 255, 255)';
}

function contrastOf(element) {
  const levels = [luminance(getComputedStyle(element).color), luminance(backgroundOf(element))];
  return (Math.max(...levels) + .05) / (Math.min(...levels) + .05);
}

// Words with less contrast than WCAG 2 asks of small text, 4.5.
function paleWords() {
  const kinds = '.widget-label, .widget-readout, .widget-html-content div, .widget-html-content strong, select, textarea';
  const textOf = e => e.innerText || e.value || '';
  const shown = [...root.querySelectorAll(kinds)].filter(e => e.offsetParent && textOf(e).trim());
  const pale = shown.filter(e => contrastOf(e) < 4.5);
  return [shown.length, pale.map(e => [contrastOf(e), textOf(e).slice(0, 30)])];
}
