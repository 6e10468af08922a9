// The text field and the document behind it: each change of the text, by whomever, passes here. What has been typed and
// is no version yet is `pending`: one stretch of the text.

import { difference, oneKindOfLine, slice, span, splice, textOf } from "./spans.js";

const PAUSE = 1500; // milliseconds without a key that end a run of typing

export class Editor {
  constructor(field) {
    this.field = field;
    this.changed = () => {}; // ({at, cut, length}) after each change
    this.committed = () => {}; // (version)
    this.pendingChanged = () => {};
    this.pasting = () => {}; // before a paste
    this.spans = [];
    this.text = "";
    this.pending = null;
    field.addEventListener("input", (event) => this.#typed(event));
    field.addEventListener("paste", (event) => this.#pasted(event));
    field.addEventListener("blur", () => this.commit());
  }

  open(versions, history) {
    this.versions = versions;
    this.history = history;
    this.pending = null;
    this.base = history.current;
    this.#showBase();
    this.field.setSelectionRange(this.text.length, this.text.length);
  }

  // The whole field is set, which may be long: only what differs is written.
  #showBase() {
    const spans = this.versions.spansAt(this.base);
    const change = difference(this.text, textOf(spans));
    this.spans = spans;
    this.#write(change.at, change.cut, change.put);
    this.changed({ at: change.at, cut: change.cut, length: change.put.length });
    return change.at + change.put.length;
  }

  #write(at, cut, text) {
    this.text = this.text.slice(0, at) + text + this.text.slice(at + cut);
    if (cut || text) this.field.setRangeText(text, at, at + cut, "preserve");
  }

  get caret() {
    return this.field.selectionEnd;
  }

  set caret(place) {
    this.field.setSelectionRange(place, place);
  }

  #typed(event) {
    const { at, cut, put } = difference(this.text, this.field.value, this.field.selectionEnd);
    if (!cut && !put) return;
    const whole = /^(insertFrom|deleteBy)/.test(event.inputType ?? "");
    if (whole || !this.#continues(at, cut)) this.commit();
    this.run ??= span("you", "").run;
    this.text = this.field.value;
    this.spans = splice(this.spans, at, cut, put ? [span("you", put, { run: this.run })] : []);
    this.#extend(at, cut, put.length);
    this.changed({ at, cut, length: put.length });
    this.pendingChanged();
    clearTimeout(this.timer);
    if (whole) this.commit();
    else this.timer = setTimeout(() => this.commit(), PAUSE);
  }

  // A browser takes many seconds to paste a thousand lines.
  #pasted(event) {
    const text = oneKindOfLine(event.clipboardData?.getData("text/plain") ?? "");
    if (!text) return;
    event.preventDefault();
    this.pasting();
    this.commit();
    const { selectionStart, selectionEnd } = this.field;
    this.replace(selectionStart, selectionEnd - selectionStart, [span("you", text)]);
    this.commit();
  }

  #continues(at, cut) {
    const p = this.pending;
    return p && !p.made && at + cut >= p.at && at <= p.at + p.length;
  }

  // Joins a change to the pending one: both in one stretch, told as a change of the base.
  #extend(at, cut, length) {
    const p = this.pending;
    if (!p) {
      this.pending = { at, cut, length };
      return;
    }
    const start = Math.min(p.at, at);
    const end = Math.max(p.at + p.length, at + cut);
    const outside = p.at - start + (end - p.at - p.length);
    this.pending = { ...p, at: start, cut: p.cut + outside, length: end - start - cut + length };
  }

  // What the page or the model changes. It is pending until `commit`.
  replace(at, cut, put) {
    const caret = this.field.selectionEnd;
    const text = textOf(put);
    this.spans = splice(this.spans, at, cut, put);
    this.#write(at, cut, text);
    this.#extend(at, cut, text.length);
    if (caret >= at) this.caret = caret <= at + cut ? at + text.length : caret - cut + text.length;
    this.changed({ at, cut, length: text.length });
  }

  // The tokens of a text of the model's, once it is complete.
  describe(run, details) {
    this.spans = this.spans.map((one) => (one.run === run ? { ...one, ...details } : one));
  }

  change() {
    const { at, cut, length } = this.pending;
    return { at, cut, put: slice(this.spans, at, at + length) };
  }

  // Makes a version of what is pending; `made` is told of a text of the model's.
  commit(made) {
    clearTimeout(this.timer);
    this.run = null;
    if (!this.pending) return null;
    const change = this.change();
    this.pending = null;
    if (!change.cut && !change.put.length) {
      this.pendingChanged();
      return null;
    }
    const version = this.versions.add(this.base, made ? { ...change, made } : change);
    this.base = version.id;
    this.history.visit(version.id);
    this.committed(version);
    return version;
  }

  undo() {
    this.commit();
    this.#move(this.history.undo());
  }

  redo() {
    if (!this.pending) this.#move(this.history.redo());
  }

  goto(id) {
    this.commit();
    this.history.visit(id);
    this.#move(id);
  }

  #move(id) {
    if (id === this.base) return;
    this.base = id;
    this.caret = this.#showBase();
    this.committed(null);
  }
}
