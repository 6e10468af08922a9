// A copy of the text behind the field, a block a paragraph. It gives the field its height, carries underlines and
// grounds, and knows where on the screen a character is. Only paragraphs that changed are drawn again.

import { difference } from "./spans.js";

export class Overlay {
  constructor(root) {
    this.root = root;
    this.lines = []; // {text, key, node}
    this.starts = [];
  }

  // `marks`: stretches {start, end, name}, in order, none over another.
  draw(text, marks) {
    const wanted = paragraphs(text, marks);
    const old = this.lines;
    const most = Math.min(wanted.length, old.length);
    let head = 0;
    while (head < most && same(wanted[head], old[head])) head++;
    let tail = 0;
    while (tail < most - head && same(wanted[wanted.length - 1 - tail], old[old.length - 1 - tail])) tail++;
    const after = old[old.length - tail]?.node ?? null;
    const fresh = wanted.slice(head, wanted.length - tail).map((line, index) => {
      const reused = head + index < old.length - tail ? old[head + index].node : null;
      return { ...line, node: fill(reused ?? this.root.insertBefore(document.createElement("div"), after), line) };
    });
    for (const line of old.slice(head + fresh.length, old.length - tail)) line.node.remove();
    this.lines = [...old.slice(0, head), ...fresh, ...old.slice(old.length - tail)];
    this.starts = [];
    let at = 0;
    for (const line of this.lines) {
      this.starts.push(at);
      at += line.text.length + 1;
    }
  }

  #lineOf(place) {
    let low = 0;
    let high = this.starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.starts[middle] <= place) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  // The rectangles of a stretch that lies in one paragraph; of an empty one, of the place alone.
  rects(start, end = start) {
    const index = this.#lineOf(start);
    const line = this.lines[index];
    const before = this.starts[index];
    const range = document.createRange();
    range.setStart(...spot(line.node, start - before));
    range.setEnd(...spot(line.node, Math.min(end - before, line.text.length)));
    const rects = [...range.getClientRects()].filter((rect) => rect.height);
    return rects.length ? rects : [edge(line.node, range)];
  }

  rect(place) {
    return this.rects(place).at(-1);
  }

  // The token under a point, as its place in `tokens.list`; -1 where there is none.
  tokenAt(x, y, tokens) {
    const index = this.#lineAt(y);
    if (index < 0) return -1;
    const end = this.starts[index] + this.lines[index].text.length;
    const first = Math.max(tokens.at(this.starts[index]), 0);
    for (let place = this.#skip(first, end, y, tokens); place < tokens.list.length; place++) {
      const token = tokens.list[place];
      if (token.start > end) break;
      if (token.end <= this.starts[index]) continue;
      const rects = this.rects(token.start, token.end);
      if (rects.some((one) => x >= one.left && x <= one.right && y >= one.top && y <= one.bottom)) return place;
      if (rects[0].top > y) break;
    }
    return -1;
  }

  // Whether there is text at the height of a point.
  isOver(y) {
    const index = this.#lineAt(y);
    return index >= 0 && this.lines[index].text !== "";
  }

  // In a long paragraph most tokens stand above the point.
  #skip(first, end, y, tokens) {
    let low = first;
    let high = tokens.list.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      const token = tokens.list[middle];
      if (token.start >= end || this.rects(token.start, token.end).at(-1).bottom >= y) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #lineAt(y) {
    let low = 0;
    let high = this.lines.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const box = this.lines[middle].node.getBoundingClientRect();
      if (y < box.top) high = middle - 1;
      else if (y > box.bottom) low = middle + 1;
      else return middle;
    }
    return -1;
  }
}

const same = (one, other) => one.text === other.text && one.key === other.key;

function paragraphs(text, marks) {
  const lines = [];
  let at = 0;
  let mark = 0;
  for (const part of text.split("\n")) {
    const end = at + part.length;
    const own = [];
    while (mark < marks.length && marks[mark].end <= at) mark++;
    for (let one = mark; one < marks.length && marks[one].start < end; one++) {
      const { start, end: last, name } = marks[one];
      own.push([Math.max(start - at, 0), Math.min(last - at, part.length), name]);
    }
    lines.push({ text: part, marks: own, key: own.join() });
    at = end + 1;
  }
  return lines;
}

// Where only letters change, the elements stay: a browser lays out anew no more than it must.
function fill(node, { text, marks }) {
  const parts = partsOf(text, marks);
  const children = [...node.childNodes];
  const alike = children.length === parts.length && children.every((one, place) => nameOf(one) === parts[place][1]);
  if (alike) {
    for (const [place, [wanted]] of parts.entries()) rewrite(children[place].firstChild ?? children[place], wanted);
  } else node.replaceChildren(...parts.map(elementOf));
  return node;
}

function partsOf(text, marks) {
  const parts = [];
  let at = 0;
  for (const [start, end, name] of marks) {
    if (start > at) parts.push([text.slice(at, start), ""]);
    parts.push([text.slice(start, end), name]);
    at = end;
  }
  if (at < text.length) parts.push([text.slice(at), ""]);
  return parts;
}

const nameOf = (child) => child.className ?? "";

function elementOf([text, name]) {
  const node = document.createTextNode(text);
  if (!name) return node;
  const mark = document.createElement("span");
  mark.className = name;
  mark.append(node);
  return mark;
}

function rewrite(node, wanted) {
  if (node.data === wanted) return;
  const { at, cut, put } = difference(node.data, wanted);
  node.replaceData(at, cut, put);
}

// The text node of a paragraph, and the place in it.
function spot(node, place) {
  let left = place;
  for (const child of node.childNodes) {
    const text = child.firstChild ?? child;
    if (left <= text.length) return [text, left];
    left -= text.length;
  }
  return [node, node.childNodes.length];
}

// An empty paragraph, and a place between two characters, have no rectangle of their own everywhere.
function edge(node, range) {
  const box = range.getBoundingClientRect();
  const line = node.getBoundingClientRect();
  return box.height ? box : new DOMRect(line.left, line.top, 0, line.height);
}
