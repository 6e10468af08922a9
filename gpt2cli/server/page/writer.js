// The model's part: going on from the caret, continuations to choose from, another token in place of one.

import { ServerError, idsOfText, stream } from "./completions.js";
import { oneKindOfLine, span } from "./spans.js";

const ALTERNATIVES = 10;
const BEAT = 40; // milliseconds between two changes of the text while tokens arrive
const PATIENCE = 5; // times a full queue is asked again

export class Writer {
  constructor({ editor, tokens, settings, server, status }) {
    Object.assign(this, { editor, tokens, settings, server, status });
    this.running = null;
    this.changed = () => {};
  }

  get busy() {
    return this.running !== null;
  }

  body(prompt, more = {}) {
    const asked = { model: this.server.model?.id, logprobs: ALTERNATIVES, return_token_ids: true, slide: true };
    return { prompt: prompt.toWellFormed(), ...this.settings.values(), ...asked, ...more };
  }

  // Events of a stream; a full queue is asked again for a while.
  async *ask(body, signal) {
    for (let attempt = 1; ; attempt++) {
      try {
        yield* stream(body, signal);
        return;
      } catch (reason) {
        if (!(reason instanceof ServerError) || !reason.retryAfter || attempt === PATIENCE) throw reason;
        this.status.say("The server is busy; one moment.");
        await pause(reason.retryAfter * 1000, signal);
      }
    }
  }

  async goOn(at = this.editor.caret) {
    this.stop();
    this.editor.commit();
    const running = new Run(this, at);
    this.running = running;
    this.changed();
    this.status.say("Writing", { stays: true });
    try {
      for await (const event of this.ask(this.body(this.editor.text.slice(0, at)), running.signal)) {
        if (this.running !== running) return;
        running.take(event);
      }
      this.#end(running, "");
    } catch (reason) {
      if (this.running === running) this.#end(running, this.explain(reason));
    }
  }

  // Stops, and keeps what there is.
  stop() {
    if (!this.busy) return;
    const { running } = this;
    running.interrupted = !running.finish;
    this.#end(running, "Stopped.");
    running.controller.abort();
  }

  #end(running, words) {
    running.flush();
    this.running = null;
    const text = running.complete();
    this.status.say(words || (text ? "" : "The model ends the text here."));
    if (text) this.status.speak(`The model wrote: ${text}`);
    this.changed();
  }

  explain(reason) {
    if (reason.name === "AbortError") return "Stopped.";
    if (!(reason instanceof ServerError)) throw reason;
    if (reason.status === 404) {
      this.server.renew();
      return "The server has another model now. Ask again, and it answers.";
    }
    if (reason.away || reason.status === 503) this.server.look();
    return reason.away ? "" : reason.message;
  }

  details(seed) {
    const settings = { ...this.settings.values() };
    delete settings.seed;
    return { model: this.server.model?.id ?? null, seed, settings };
  }

  // `chosen`: {ids, text, seed, row, entries, finish} of one of several continuations.
  accept(at, chosen) {
    const { editor } = this;
    editor.commit();
    const details = { ...this.details(chosen.seed), settings: chosen.settings };
    editor.replace(at, 0, [span("model", chosen.text, { ...details, ids: chosen.ids })]);
    for (const [index, entry] of chosen.entries.entries()) this.tokens.append(...chosen.places[index], entry);
    const made = { row: chosen.row, tokens: chosen.ids.length, interrupted: !chosen.finish };
    editor.commit({ ...details, ...made, precision: this.server.model?.meta?.precision });
    this.changed();
  }

  // Another token in place of one: the text is cut there, and goes on.
  replaceToken(start, entry) {
    this.stop();
    const { editor } = this;
    editor.commit();
    const details = { ...this.details(null), ids: [entry.id], settings: {} };
    editor.replace(start, editor.text.length - start, [span("model", oneKindOfLine(entry.token), details)]);
    editor.commit();
    editor.caret = editor.text.length;
    return this.goOn();
  }
}

// One text of the model's while it comes.
class Run {
  constructor(writer, at) {
    this.writer = writer;
    this.controller = new AbortController();
    this.at = this.end = this.shown = at;
    this.text = "";
    this.waiting = "";
    this.ids = [];
    this.entries = [];
    this.span = span("model", "", writer.details(null));
    this.settings = writer.settings.values();
  }

  get signal() {
    return this.controller.signal;
  }

  take({ seed, choices: [choice] }) {
    this.seed = seed ?? this.seed;
    if (!choice) return;
    const text = oneKindOfLine(choice.text);
    this.finish = choice.finish_reason ?? this.finish;
    this.ids.push(...idsOfText(choice));
    for (const entry of choice.logprobs?.entries ?? []) this.entries.push([this.end, text.length, entry]);
    this.waiting += text;
    this.end += text.length;
    this.timer ??= setTimeout(() => this.flush(), BEAT);
  }

  flush() {
    clearTimeout(this.timer);
    this.timer = null;
    const { editor, tokens } = this.writer;
    if (this.waiting) editor.replace(this.shown, 0, [{ ...this.span, text: this.waiting }]);
    this.text += this.waiting;
    this.shown = this.end;
    this.waiting = "";
    for (const [start, length, entry] of this.entries) tokens.append(start, length, entry);
    this.entries = [];
    this.writer.drawn?.();
    editor.pendingChanged();
  }

  // Makes a version of it; returns the text.
  complete() {
    const { editor, server } = this.writer;
    if (!this.text) return "";
    const { model, settings } = this.span;
    editor.describe(this.span.run, { ids: this.ids, seed: this.seed });
    const precision = server.model?.meta?.precision;
    const made = { model, seed: this.seed, settings, precision, tokens: this.ids.length };
    editor.commit({ ...made, interrupted: !this.finish });
    return this.text;
  }
}

function pause(time, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, time);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
