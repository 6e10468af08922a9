// Files out and in, and the command that makes the last text again.

import { commandFor } from "./command.js";
import { make } from "./elements.js";
import { fileName, fromFile, toJson, toMarkdown } from "./formats.js";
import { titleOf } from "./keeper.js";

export class FilePanel {
  // `imported({versions, history})` opens a document.
  constructor({ node, editor, settings, status, imported }) {
    Object.assign(this, { node, editor, settings, status, imported });
  }

  draw() {
    this.node.replaceChildren(this.#out(), this.#in(), this.#command());
  }

  #out() {
    const { editor } = this;
    const kinds = [
      ["txt", "Text", "text/plain", () => editor.text.toWellFormed()],
      ["md", "Markdown, yours in bold", "text/markdown", () => toMarkdown(editor.spans).toWellFormed()],
      ["json", "All versions, for gpt2 repl", "application/json", () => toJson(editor.versions, editor.base)],
    ];
    const buttons = kinds.map(([ending, label, type, content]) => {
      const button = make("button", { type: "button", class: "wide", id: `export-${ending}` }, make("span", {}, label), make("span", { class: "quiet" }, `.${ending}`));
      button.addEventListener("click", () => {
        editor.commit();
        download(fileName(titleOf(editor.text), ending), type, content());
      });
      return button;
    });
    return make("div", { class: "part" }, make("h3", {}, "Export"), ...buttons);
  }

  #in() {
    const input = make("input", { type: "file", id: "import", accept: ".txt,.md,.markdown,.json,text/plain" });
    const label = make("label", { for: "import" }, "Import a file as a new text");
    input.addEventListener("change", async () => {
      const [file] = input.files;
      if (!file) return;
      try {
        await this.imported(fromFile(file.name, await file.text()));
        this.status.say("Imported.");
      } catch (reason) {
        this.status.say(reason.message);
      }
      input.value = "";
    });
    return make("div", { class: "part" }, make("h3", {}, "Import"), label, input);
  }

  #command() {
    const part = make("div", { class: "part" }, make("h3", {}, "Copy as command"));
    const line = this.command();
    if (!line) {
      part.append(make("p", { class: "quiet" }, "Once the model has written, its command stands here."));
      return part;
    }
    const shown = make("textarea", { id: "command", rows: "5", readOnly: true, spellcheck: "false", "aria-label": "Command" });
    shown.value = line;
    const button = make("button", { type: "button", class: "wide", id: "copy-command" }, "Copy");
    button.addEventListener("click", () => this.#copy(shown, button));
    const row = this.last().made.row;
    const note = row ? `It prints ${row + 1} texts; yours is the last.` : "It makes the model's last text again.";
    part.append(shown, make("p", { class: "quiet" }, note), button);
    return part;
  }

  last() {
    this.editor.commit();
    return this.editor.versions.lastMade(this.editor.base);
  }

  command() {
    const last = this.last();
    if (!last) return "";
    const before = this.editor.versions.textAt(last.parent).slice(0, last.at);
    return commandFor(last.made, before, this.settings.parameters);
  }

  async #copy(shown, button) {
    try {
      await navigator.clipboard.writeText(shown.value);
    } catch {
      shown.select(); // without the clipboard (http from another host) the old way
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    this.status.say("The command is copied.");
    setTimeout(() => (button.textContent = "Copy"), 2000);
  }
}

function download(name, type, content) {
  const address = URL.createObjectURL(new Blob([content], { type: `${type};charset=utf-8` }));
  const link = make("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
