// Asks the server for the probabilities of the text that is there, once for each state of it.

import { inspect } from "./completions.js";

const ALTERNATIVES = 10;
const REST = 600; // milliseconds without a change before a coloured text is asked about

export class Inspector {
  constructor({ editor, tokens, writer, status }) {
    Object.assign(this, { editor, tokens, writer, status });
    this.drawn = () => {};
    this.known = null; // the text whose tokens are all there
  }

  edited() {
    this.known = null;
    this.controller?.abort();
    this.controller = null;
    this.asking = null;
    clearTimeout(this.timer);
  }

  // Soon, when the text has come to rest.
  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.writer.busy || this.read(), REST);
  }

  // Resolves to whether the tokens of the text are known.
  read() {
    const { text } = this.editor;
    if (!text) return Promise.resolve(false);
    if (this.known === text) return Promise.resolve(true);
    this.asking ??= this.#ask(text);
    return this.asking;
  }

  async #ask(text) {
    const controller = new AbortController();
    this.controller = controller;
    try {
      const entries = await inspect(text.toWellFormed(), ALTERNATIVES, controller.signal);
      if (controller.signal.aborted || this.editor.text !== text) return false;
      this.tokens.read(text, entries);
      this.known = text;
      this.drawn();
      return true;
    } catch (reason) {
      if (!controller.signal.aborted) this.status.say(this.writer.explain(reason));
      return false;
    } finally {
      if (this.controller === controller) this.asking = null;
    }
  }
}
