// What is said below the text, quietly; and what is only spoken, by a screen reader, never token by token.

const LASTS = 6000;

export class Status {
  constructor(line, spoken, field) {
    Object.assign(this, { line, spoken, field });
    this.lasting = ""; // what stands there while nothing else is said
  }

  // `stays`: until something else is said.
  say(text, { stays = false } = {}) {
    clearTimeout(this.timer);
    this.#write(text || this.lasting);
    if (text && !stays) this.timer = setTimeout(() => this.#write(this.lasting), LASTS);
  }

  always(text) {
    this.lasting = text;
    this.say("");
  }

  speak(text) {
    this.spoken.textContent = text;
  }

  #write(text) {
    if (this.line.textContent !== text) this.line.textContent = text;
  }
}
