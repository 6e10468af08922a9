// Three continuations below the caret. The focus stays in the text.

import { idsOfText } from "./completions.js";
import { make } from "./elements.js";
import { placeBeside, reveal } from "./floating.js";
import { oneKindOfLine } from "./spans.js";

const COUNT = 3;
const ROOM = 230; // pixels that the list may take below the caret

export class Suggestions {
  constructor({ list, field, writer, overlay, status, floor }) {
    Object.assign(this, { list, field, writer, overlay, status, floor });
    this.changed = () => {};
    list.addEventListener("pointerdown", (event) => event.preventDefault()); // the field keeps the focus
    list.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) this.take(this.options.indexOf(option));
    });
  }

  get open() {
    return !this.list.hidden;
  }

  async ask() {
    const { writer } = this;
    this.close();
    writer.stop();
    writer.editor.commit();
    this.at = writer.editor.caret;
    this.controller = new AbortController();
    this.rows = Array.from({ length: COUNT }, (_, row) => newRow(row, this.at, writer));
    this.#show();
    this.status.say("");
    const { signal } = this.controller;
    const asked = { n: COUNT, max_tokens: writer.settings.suggested };
    for (const row of this.rows) Object.assign(row.settings, { max_tokens: asked.max_tokens });
    try {
      const prompt = writer.editor.text.slice(0, this.at);
      for await (const event of writer.ask(writer.body(prompt, asked), signal)) {
        if (signal.aborted) return;
        for (const choice of event.choices) this.#grow(choice, event.seed);
      }
      this.#complete();
    } catch (reason) {
      if (signal.aborted) return;
      this.close();
      this.status.say(writer.explain(reason));
    }
  }

  #show() {
    this.options = this.rows.map((_, row) =>
      make("div", { role: "option", id: `option-${row}`, "aria-selected": "false", class: "option" }, "\u2026"),
    );
    const hint = make("p", { class: "hint", role: "presentation" }, "Enter takes one, Tab offers others, Esc closes");
    this.list.replaceChildren(...this.options, hint);
    this.list.setAttribute("aria-busy", "true");
    this.field.setAttribute("aria-controls", this.list.id);
    this.#select(0, false);
    const { left, top, bottom } = this.overlay.rect(this.at);
    reveal(new DOMRect(left, top, 0, bottom - top + ROOM), this.floor());
    placeBeside(this.list, this.overlay.rect(this.at));
    this.changed();
  }

  #grow(choice, seed) {
    const { index, text, logprobs, finish_reason } = choice;
    const row = this.rows[index];
    const piece = oneKindOfLine(text);
    for (const entry of logprobs?.entries ?? []) {
      row.places.push([this.at + row.text.length, piece.length]);
      row.entries.push(entry);
    }
    row.text += piece;
    row.ids.push(...idsOfText(choice));
    row.seed = seed ?? row.seed;
    row.finish = finish_reason ?? row.finish;
    this.options[index].textContent = row.text.trim() ? row.text.replace(/\n+/g, " \u21b5 ") : "\u2026";
    placeBeside(this.list, this.overlay.rect(this.at));
  }

  #complete() {
    this.list.removeAttribute("aria-busy");
    for (const [index, row] of this.rows.entries()) {
      if (!row.text) this.options[index].textContent = "(the text ends here)";
    }
    this.status.speak(`Three continuations. ${this.#spoken()}`);
  }

  #spoken() {
    return `${this.chosen + 1} of ${COUNT}: ${this.rows[this.chosen].text.trim() || "the text ends here"}`;
  }

  #select(index, speak = true) {
    this.chosen = (index + COUNT) % COUNT;
    for (const [place, option] of this.options.entries()) {
      option.setAttribute("aria-selected", String(place === this.chosen));
    }
    this.field.setAttribute("aria-activedescendant", `option-${this.chosen}`);
    if (speak) this.status.speak(this.#spoken());
  }

  move(step) {
    this.#select(this.chosen + step);
  }

  take(index = this.chosen) {
    const row = this.rows[index];
    this.close();
    if (!row.text) return;
    this.writer.accept(this.at, row);
    this.field.focus();
  }

  close() {
    if (!this.open) return;
    this.controller.abort();
    this.list.hidden = true;
    this.field.removeAttribute("aria-activedescendant");
    this.field.removeAttribute("aria-controls");
    this.changed();
  }
}

function newRow(row, at, writer) {
  const { settings } = writer.details(null);
  return { row, text: "", ids: [], entries: [], places: [], seed: null, finish: null, settings: { ...settings } };
}
