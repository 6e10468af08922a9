// A text as a list of spans: who wrote what. Spans are never changed, only replaced.

export function newId() {
  const [high, low] = crypto.getRandomValues(new Uint32Array(2));
  return Date.now().toString(36) + high.toString(36) + low.toString(36);
}

// Spans of one run stand for one piece of writing: a run of typing, or one text of the model's.
export function span(author, text, details = {}) {
  return { author, text, run: newId(), ids: [], model: null, seed: null, settings: {}, ...details };
}

export const lengthOf = (spans) => spans.reduce((sum, one) => sum + one.text.length, 0);

export const textOf = (spans) => spans.map((one) => one.text).join("");

// A part of a span has lost its tokens: a character may have been cut out of one.
const part = (one, text) => ({ ...one, text, ids: [], seed: null });

export function slice(spans, from, to = Infinity) {
  const found = [];
  let at = 0;
  for (const one of spans) {
    if (at >= to) break;
    const start = Math.max(from - at, 0);
    const end = Math.min(to - at, one.text.length);
    if (start < end) found.push(end - start === one.text.length ? one : part(one, one.text.slice(start, end)));
    at += one.text.length;
  }
  return found;
}

export function splice(spans, at, cut, put) {
  return joined([...slice(spans, 0, at), ...put, ...slice(spans, at + cut)]);
}

function joined(spans) {
  const found = [];
  for (const one of spans) {
    const last = found.at(-1);
    if (last && last.run === one.run) found[found.length - 1] = part(last, last.text + one.text);
    else if (one.text) found.push(one);
  }
  return found;
}

// The one stretch in which two texts differ. Half of a surrogate pair is never told apart from the other.
export function difference(before, after, caret = after.length) {
  const most = Math.min(before.length, after.length);
  let suffix = after.length - caret;
  if (suffix > most || !before.endsWith(after.slice(caret))) {
    suffix = 0;
    while (suffix < most && before[before.length - 1 - suffix] === after[after.length - 1 - suffix]) suffix++;
  }
  let at = 0;
  while (at < most - suffix && before.charCodeAt(at) === after.charCodeAt(at)) at++;
  if (caret === after.length) {
    while (suffix < most - at && before[before.length - 1 - suffix] === after[after.length - 1 - suffix]) suffix++;
  }
  if (at && isHigh(before.charCodeAt(at - 1))) at--;
  if (suffix && isLow(before.charCodeAt(before.length - suffix))) suffix--;
  return { at, cut: before.length - suffix - at, put: after.slice(at, after.length - suffix) };
}

const isHigh = (code) => code >= 0xd800 && code < 0xdc00;
const isLow = (code) => code >= 0xdc00 && code < 0xe000;

// Text fields know one kind of line break.
export const oneKindOfLine = (text) => text.replace(/\r\n?/g, "\n");
