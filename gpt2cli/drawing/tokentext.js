// A text as its tokens. One of them is the current one: under the mouse, or by arrow keys; a click or Enter holds it
// while the mouse goes elsewhere, Escape lets it go.

import { make } from "./elements.js";
import { shown } from "./words.js";

const BLANK = /^ +(?=[^ ])/;

let count = 0;

export class TokenText {
  // `tokens` have a `text`, what of a character became complete with them; `pick(index)` hears which is current. `at` is
  // the one that is questioned, if any; `stacked`: each has a row of its own.
  constructor(tokens, { label, describe, pick, at = -1, stacked = false }) {
    Object.assign(this, { tokens, describe, pick, stacked, index: -1, held: false });
    this.name = `text-${count++}`;
    this.spans = tokens.map((token, index) => this.#span(token, index));
    this.spans[at]?.classList.add("asked");
    const attributes = { role: "listbox", tabindex: "0", "aria-label": label, lang: "", dir: "auto" };
    // a blank before a word has no colour: where a row ends, it would hang there alone
    const blanks = (index) => (stacked ? "" : (BLANK.exec(tokens[index].text)?.[0] ?? ""));
    const parts = this.spans.flatMap((span, index) => [blanks(index), span]);
    this.node = make("div", { class: stacked ? "stack" : "tokens", ...attributes }, ...parts);
    this.node.addEventListener("pointerover", ({ target }) => this.held || this.#go(this.spans.indexOf(target)));
    this.node.addEventListener("click", ({ target }) => this.#hold(this.spans.indexOf(target)));
    this.node.addEventListener("keydown", (event) => this.#key(event));
    this.node.addEventListener("focus", () => this.index < 0 && this.#go(0));
  }

  // Each token in the class that `colour(token, index)` names, if any.
  paint(colour) {
    for (const [index, span] of this.spans.entries()) {
      const kept = ["part", "now", "held", "asked"].filter((name) => span.classList.contains(name));
      span.className = [colour(this.tokens[index], index), ...kept].filter(Boolean).join(" ");
    }
  }

  // Make one the current one, unheard.
  mark(index) {
    const before = this.spans[this.index];
    const span = this.spans[index];
    if (before === span || !span) return;
    before?.classList.remove("now", "held");
    before?.setAttribute("aria-selected", "false");
    this.index = index;
    span.classList.add("now");
    span.setAttribute("aria-selected", "true");
    span.setAttribute("aria-label", this.describe(this.tokens[index], index));
    this.node.setAttribute("aria-activedescendant", span.id);
  }

  #span(token, index) {
    const part = !token.text && !this.stacked;
    const text = this.stacked ? shown(token) : token.text.replace(BLANK, "").replaceAll("\n", "\u21b5\n");
    const attributes = { role: "option", id: `${this.name}-${index}`, "aria-selected": "false" };
    if (part) attributes.class = "part";
    if (part || !text.trim()) attributes["aria-label"] = shown(token);
    return make("span", attributes, part ? "\u22c5" : text);
  }

  #go(index) {
    if (index === this.index || !this.spans[index]) return;
    this.mark(index);
    this.pick(index);
  }

  #hold(index) {
    if (index < 0) return;
    const again = this.held && index === this.index;
    this.#go(index);
    this.held = !again;
    this.spans[index].classList.toggle("held", this.held);
  }

  #key(event) {
    const { index, spans } = this;
    const places = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: spans.length - 1 };
    if (event.key in places) this.#go(places[event.key]);
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") this.#row(event.key === "ArrowDown" ? 1 : -1);
    else if (event.key === "Enter" || event.key === " ") this.#hold(index);
    else if (event.key === "Escape" && this.held) this.#hold(index);
    else return;
    event.preventDefault();
    if (this.held) for (const [at, span] of this.spans.entries()) span.classList.toggle("held", at === this.index);
    spans[this.index]?.scrollIntoView({ block: "nearest" });
  }

  // To the nearest token of the next or the previous row.
  #row(by) {
    const from = this.spans[this.index]?.getBoundingClientRect();
    if (!from) return;
    let best = -1;
    let least = Infinity;
    for (let at = this.index + by; this.spans[at]; at += by) {
      const { top, left } = this.spans[at].getBoundingClientRect();
      if ((top - from.top) * by < 4) continue;
      const far = Math.abs(left - from.left) + 8 * Math.abs(top - from.top);
      if (far > least + 4000) break;
      if (far < least) [best, least] = [at, far];
    }
    this.#go(best);
  }
}
