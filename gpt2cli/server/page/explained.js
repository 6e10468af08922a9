// Why a token is there: a window above the page, with the view of `gpt2 explain --html`.

import { explain } from "./completions.js";
import { make } from "./elements.js";

const MOST = 200; // tokens up to it: each is left out once, which takes its time

export class Explained {
  constructor({ dialog, field, editor, writer, status }) {
    Object.assign(this, { dialog, field, editor, writer, status });
    dialog.querySelector("button").addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => {
      this.controller.abort();
      this.#fill();
      field.focus();
    });
  }

  // Of the token that ends at a place of the text.
  async open(end = this.field.selectionEnd) {
    const text = this.editor.text.slice(0, end).toWellFormed();
    if (!text) return this.status.say("There is no token before the caret.");
    const controller = new AbortController();
    this.controller = controller;
    this.#fill(make("p", { class: "quiet", role: "status" }, "Looking inside the model ..."));
    this.dialog.showModal();
    try {
      const [data, { explanation }] = await Promise.all([
        explain(text, MOST, controller.signal),
        import("./explanation.js"),
      ]);
      if (controller.signal.aborted) return undefined;
      const view = make("div", { class: "view" });
      explanation(view, data);
      this.#fill(view);
    } catch (reason) {
      if (controller.signal.aborted) return undefined;
      const words = this.writer.explain(reason) || "The server does not answer.";
      this.#fill(make("p", { role: "alert" }, words));
    }
    return undefined;
  }

  // What stands below the title.
  #fill(...nodes) {
    this.dialog.lastElementChild.replaceChildren(...nodes);
  }
}
