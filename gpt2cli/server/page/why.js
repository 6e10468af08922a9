// How probable a token was, and what else there was: a small window at the token, under the mouse or by keyboard.

import { make } from "./elements.js";
import { placeBeside } from "./floating.js";
import { CLASSES, classOf, ordinal, percent, shown } from "./words.js";

const REST = 400; // milliseconds a mouse rests before the window opens
const GRACE = 250; // and it may be away before it closes
const WORDS = ["among the 10 likeliest", "among the 100 likeliest", "among the 1,000 likeliest", "beyond the 1,000 likeliest"];

export class Why {
  constructor({ node, field, overlay, tokens, inspector, writer, server, status }) {
    Object.assign(this, { node, field, overlay, tokens, inspector, writer, server, status });
    field.addEventListener("pointermove", (event) => this.#rest(event));
    field.addEventListener("pointerleave", () => this.#leave());
    node.addEventListener("pointerenter", () => clearTimeout(this.timer));
    node.addEventListener("pointerleave", () => this.#leave());
    node.addEventListener("keydown", (event) => this.#key(event));
    node.addEventListener("focusout", (event) => node.contains(event.relatedTarget) || this.close(false));
  }

  get open() {
    return !this.node.hidden;
  }

  #rest({ pointerType, clientX: x, clientY: y, buttons }) {
    clearTimeout(this.timer);
    if (pointerType !== "mouse" || buttons || this.node.contains(document.activeElement)) return;
    if (this.open) {
      if (this.overlay.tokenAt(x, y, this.tokens) !== this.index) this.#leave();
      else return;
    }
    this.timer = setTimeout(() => this.#peek(x, y), REST);
  }

  async #peek(x, y) {
    if (this.writer.busy || this.silent?.()) return;
    const timer = this.timer;
    if (this.overlay.tokenAt(x, y, this.tokens) < 0) {
      if (!this.overlay.isOver(y) || !(await this.inspector.read())) return;
    }
    const index = this.overlay.tokenAt(x, y, this.tokens);
    if (timer === this.timer && index >= 0) this.#show(index);
    else if (timer === this.timer) this.close(false);
  }

  #leave() {
    clearTimeout(this.timer);
    if (this.open && !this.node.contains(document.activeElement)) {
      this.timer = setTimeout(() => this.close(false), GRACE);
    }
  }

  // Of the token before the caret; the focus goes to the likeliest other one.
  async atCaret() {
    const place = this.field.selectionEnd - 1;
    if (place < 0) return this.status.say("There is no token before the caret.");
    if (this.tokens.at(place) < 0 && !(await this.inspector.read())) return undefined;
    const index = this.tokens.at(place);
    if (index < 0) return this.status.say("This token lies outside the model's window.");
    this.#show(index);
    this.#focusOther();
    return undefined;
  }

  #show(index) {
    this.index = index;
    const { start, end, entry } = this.tokens.list[index];
    const title = make("strong", { id: "why-token" }, shown(entry));
    const head = make("div", { class: "head" }, title, this.#steps());
    const list = make("ul", {}, ...(entry.top ?? []).map((one) => make("li", {}, this.#other(one, entry, start))));
    const about = make("p", { class: "chance" }, ...this.#chance(entry));
    this.node.replaceChildren(head, about, list);
    placeBeside(this.node, this.overlay.rects(start, end)[0]);
  }

  #chance({ logprob, rank }) {
    if (logprob === null || !rank) return ["The first token: nothing precedes it."];
    const kind = classOf({ rank });
    const of = this.server.model?.meta?.n_vocab;
    const place = of ? `${ordinal(rank)} of ${of.toLocaleString("en")}` : ordinal(rank);
    return [`${percent(logprob)}, ${place}`, make("span", { class: `class ${CLASSES[kind]}` }, WORDS[kind])];
  }

  #steps() {
    const step = (label, sign, by) => {
      const button = make("button", { type: "button", class: "step", "aria-label": label }, sign);
      button.disabled = !this.tokens.list[this.index + by];
      button.addEventListener("click", () => this.#step(by));
      return button;
    };
    return make("span", { class: "steps" }, step("Token before", "\u2039", -1), step("Token after", "\u203a", 1));
  }

  #step(by) {
    if (!this.tokens.list[this.index + by]) return;
    this.#show(this.index + by);
    this.#focusOther();
  }

  #focusOther() {
    (this.node.querySelector(".other:enabled") ?? this.node.querySelector("button:enabled"))?.focus();
  }

  #other(one, entry, start) {
    const bar = make("span", { class: "bar", "aria-hidden": "true" }, make("span"));
    bar.firstChild.style.width = `${Math.exp(one.logprob - entry.top[0].logprob) * 100}%`;
    const chance = make("span", { class: "number" }, percent(one.logprob));
    const button = make("button", { type: "button" }, make("span", { class: "token" }, shown(one)), bar, chance);
    if (one.id === entry.id) {
      button.setAttribute("aria-current", "true");
      button.setAttribute("title", "In the text");
    } else button.className = "other";
    if (isPart(one)) {
      button.disabled = true;
      button.title = "A part of a character; it cannot be taken alone";
    }
    button.addEventListener("click", () => this.#take(one, entry, start));
    return button;
  }

  #take(one, entry, start) {
    this.close(false);
    this.field.focus();
    if (one.id !== entry.id) this.writer.replaceToken(start, one);
  }

  #key(event) {
    const buttons = [...this.node.querySelectorAll("li button:enabled")];
    const place = buttons.indexOf(document.activeElement);
    const go = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") this.close(true);
    else if (go) buttons[(place + go + buttons.length) % buttons.length]?.focus();
    else if (step) this.#step(step);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  close(back) {
    clearTimeout(this.timer);
    if (!this.open) return;
    this.node.hidden = true;
    if (back) this.field.focus();
  }
}

function isPart({ bytes }) {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(bytes));
    return false;
  } catch {
    return true;
  }
}
