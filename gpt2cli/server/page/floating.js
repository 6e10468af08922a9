// Puts a small window below a place in the text, or above it where there is more room; it may cover the controls.

const GAP = 6;
const EDGE = 12;

export function placeBeside(node, rect) {
  node.hidden = false;
  node.style.maxHeight = "";
  const { offsetWidth: width, offsetHeight: height } = node;
  const column = document.querySelector(".sheet").getBoundingClientRect().right;
  const right = Math.min(document.documentElement.clientWidth - EDGE, column);
  const left = Math.max(EDGE, Math.min(rect.left - EDGE, right - width));
  const below = rect.bottom + GAP;
  const above = rect.top - GAP - height;
  const isAbove = below + height > innerHeight - EDGE && above > EDGE;
  const top = isAbove ? above : below;
  if (!isAbove) node.style.maxHeight = `${Math.max(innerHeight - below - EDGE, 10 * EDGE)}px`;
  node.style.left = `${left + scrollX}px`;
  node.style.top = `${top + scrollY}px`;
}

// Scrolls just so far that a rectangle stands above the floor.
export function reveal(rect, floor) {
  if (rect.bottom > floor - EDGE) scrollBy(0, rect.bottom - floor + EDGE);
  else if (rect.top < EDGE * 5) scrollBy(0, rect.top - EDGE * 5);
}
