// The keys of the text field.

export class Keys {
  constructor({ field, editor, writer, suggestions, why, explained, status }) {
    Object.assign(this, { field, editor, writer, suggestions, why, explained, status });
    this.leaving = false;
    field.addEventListener("keydown", (event) => this.#key(event));
    field.addEventListener("blur", () => (this.leaving = false));
    field.addEventListener("beforeinput", (event) => this.#before(event));
    editor.pasting = () => this.#before({});
    addEventListener("keydown", (event) => this.#anywhere(event));
  }

  #key(event) {
    if (event.isComposing || event.keyCode === 229) return;
    const action = this.#action(event);
    if (event.key !== "Tab" && event.key !== "Escape" && event.key !== "Shift") this.leaving = false;
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  #action(event) {
    const { key, altKey, shiftKey } = event;
    const control = event.ctrlKey || event.metaKey;
    const { writer, suggestions, why, editor } = this;
    if (key === "Enter" && control) return () => this.goOn();
    if (key === "Enter" && altKey) return () => (shiftKey ? this.explained.open() : why.atCaret());
    if (key === "Escape") return () => this.#escape();
    if (key === "Tab" && !shiftKey && !control && !altKey && !this.leaving) return () => suggestions.ask();
    if (suggestions.open && !control && !altKey) {
      if (key === "ArrowDown" || key === "ArrowUp") return () => suggestions.move(key === "ArrowDown" ? 1 : -1);
      if (key === "Enter" && !shiftKey) return () => suggestions.take();
    }
    return control && !altKey ? undoing(event, editor, writer) : null;
  }

  goOn() {
    this.suggestions.close();
    this.why.close(false);
    this.writer.goOn();
  }

  #escape() {
    if (this.suggestions.open) this.suggestions.close();
    else if (this.why.open) this.why.close(false);
    else if (this.writer.busy) this.writer.stop();
    else this.status.say("Tab leaves the text now.");
    this.leaving = true;
  }

  // Whoever types while the model writes takes over.
  #before(event) {
    this.suggestions.close();
    this.why.close(false);
    if (event.inputType === "historyUndo" || event.inputType === "historyRedo") {
      event.preventDefault();
      this.writer.stop();
      if (event.inputType === "historyUndo") this.editor.undo();
      else this.editor.redo();
    } else this.writer.stop();
  }

  // Outside of the text the keys that no other field needs mean the same.
  #anywhere(event) {
    if (event.defaultPrevented || event.target.closest("input, textarea, select")) return;
    const control = event.ctrlKey || event.metaKey;
    if (event.key === "Escape" && this.writer.busy) this.writer.stop();
    const action = control && event.key === "Enter" ? () => this.goOn() : control ? undoing(event, this.editor, this.writer) : null;
    if (!action) return;
    event.preventDefault();
    action();
  }
}

function undoing({ key, shiftKey }, editor, writer) {
  const letter = key.toLowerCase();
  if (letter !== "z" && letter !== "y") return null;
  return () => {
    writer.stop();
    if (letter === "z" && !shiftKey) editor.undo();
    else editor.redo();
  };
}
