// The true answer to a question about a scene, if it names a color, a shape, or one of each.
import {COLORS, SHAPES} from './scene.js';

const OTHERS = /\b(other|same|left|right|above|below|where)\b/; // it asks about further objects

function truthOf(text, [o, ...more]) { // of the objects that are named; undefined: not known here
  if (/^how many/.test(text)) return `${o ? more.length + 1 : 0}`;
  if (/^(is|are) there/.test(text)) return o ? 'yes' : 'no';
  if (!o || more.length) return undefined;
  if (/^(what|which) color/.test(text)) return o.color;
  if (/^(what|which) shape/.test(text)) return o.shape;
  if (/\bon the\b/.test(text)) return `${o.digit}`;
}

export function readQuestion(question, objects) { // objects named, true answer, name of none
  const text = question.trim().toLowerCase(), fits = (word, all) => !all.length || all.includes(word);
  const inText = word => new RegExp(`\\b${word}(s|es)?\\b`).test(text);
  const colors = Object.keys(COLORS).filter(inText), shapes = SHAPES.filter(inText);
  const one = colors.length < 2 && shapes.length < 2 && colors.length + shapes.length;
  if (!one || OTHERS.test(text)) return {named: []};
  const named = objects.filter(o => fits(o.color, colors) && fits(o.shape, shapes));
  return {named, truth: truthOf(text, named), absent: named[0] ? '' : [...colors, ...shapes].join(' ')};
}
