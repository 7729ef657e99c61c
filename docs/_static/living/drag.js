// An object of a scene as an element above it: it moves by mouse, finger or arrow keys.
import {set} from './draw.js';
import {SIDE, nameOf} from './scene.js';

const STEPS = {ArrowLeft: [-8, 0], ArrowRight: [8, 0], ArrowUp: [0, -8], ArrowDown: [0, 8]};

export function movable(svg, o, moved) {
  const rect = document.createElementNS(svg.namespaceURI, 'rect');
  const inside = v => Math.round(Math.min(Math.max(v, 0), SIDE - o.side));
  const move = (x, y) => {
    if (o.x === inside(x) && o.y === inside(y)) return;
    Object.assign(o, {x: inside(x), y: inside(y)});
    set(rect, {x: o.x, y: o.y});
    moved();
  };
  const mouse = event => [event.clientX, event.clientY].map(v => v*SIDE/svg.clientWidth);
  let dx, dy;
  rect.onpointerdown = event => {
    const [x, y] = mouse(event);
    [dx, dy] = [o.x - x, o.y - y];
    rect.setPointerCapture(event.pointerId);
  };
  rect.onpointermove = event => {
    const [x, y] = mouse(event);
    if (rect.hasPointerCapture(event.pointerId)) move(x + dx, y + dy);
  };
  rect.onkeydown = event => {
    const [right, down] = STEPS[event.key] ?? [0, 0];
    if (right || down) event.preventDefault();
    move(o.x + right, o.y + down);
  };
  return set(rect, {x: o.x, y: o.y, width: o.side, height: o.side, class: 'object', tabindex: 0,
    role: 'button', 'aria-label': `${nameOf(o)} ${o.digit}: move it by the arrow keys`});
}
