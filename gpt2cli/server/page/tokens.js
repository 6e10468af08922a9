// What the model thinks of the text: a stretch of neighbouring tokens with their probabilities. An edit ends the
// stretch, as all that follows would have other probabilities.

import { extend } from "./marks.js";
import { CLASSES, classOf } from "./words.js";

export class Tokens {
  constructor() {
    this.list = [];
  }

  clear() {
    this.list = [];
  }

  get from() {
    return this.list[0]?.start ?? 0;
  }

  get to() {
    return this.list.at(-1)?.end ?? 0;
  }

  edit(at) {
    let keep = this.list.length;
    while (keep && this.list[keep - 1].end > at) keep--;
    this.list.length = keep;
  }

  // A token that the model has just written; `length` characters became complete with it.
  append(start, length, entry) {
    if (start !== this.to || start !== (this.held?.at ?? start)) this.list = [];
    if (start !== this.held?.at) this.held = { at: start, entries: [] };
    this.held.entries.push(entry);
    if (!length) return;
    for (const one of this.held.entries) this.list.push({ start, end: start + length, entry: one });
    this.held = null;
  }

  // Entries of a text as the server tells them; with a long text they are the last ones.
  read(text, entries) {
    const end = text.length;
    const sizes = entries.map((entry) => entry.bytes.length);
    const start = placeBefore(text, end, sizes.reduce((sum, size) => sum + size, 0));
    this.list = [];
    let place = start;
    let ahead = 0; // bytes of the character at `place` that earlier tokens have
    for (const [index, entry] of entries.entries()) {
      const first = place;
      let bytes = ahead + sizes[index];
      while (place < end && bytes >= size(text, place)) {
        bytes -= size(text, place);
        place += width(text, place);
      }
      ahead = bytes;
      const last = bytes && place < end ? place + width(text, place) : place;
      if (last > first) this.list.push({ start: first, end: last, entry });
    }
  }

  // The index of the token with the character at a place, -1 where it is not known.
  at(place) {
    let low = 0;
    let high = this.list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.list[middle].end <= place) low = middle + 1;
      else high = middle;
    }
    const found = this.list[low];
    return found && found.start <= place ? low : -1;
  }

  // Stretches to colour: where several tokens share a character, by the most surprising one.
  marks() {
    const each = [];
    for (const { start, end, entry } of this.list) {
      const kind = classOf(entry);
      const last = each.at(-1);
      if (last && last.end > start) last.kind = Math.max(last.kind, kind ?? 0);
      else if (kind !== null) each.push({ start, end, kind });
    }
    const marks = [];
    for (const { start, end, kind } of each) extend(marks, { start, end, name: CLASSES[kind] });
    return marks;
  }
}

// Bytes in UTF-8, and places in the text, of the character there.
function size(text, place) {
  const code = text.charCodeAt(place);
  if (code < 0x80) return 1;
  if (code < 0x800) return 2;
  return width(text, place) === 2 ? 4 : 3;
}

const width = (text, place) => (text.codePointAt(place) > 0xffff ? 2 : 1);

function placeBefore(text, end, bytes) {
  let place = end;
  while (place > 0 && bytes > 0) {
    const code = text.charCodeAt(place - 1);
    const low = code >= 0xdc00 && code < 0xe000 && place > 1 && text.codePointAt(place - 2) > 0xffff;
    place -= low ? 2 : 1;
    bytes -= size(text, place);
  }
  return place;
}
