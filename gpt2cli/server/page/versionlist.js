// The tree of versions as a list, oldest first; a branch is set in.

import { make } from "./elements.js";
import { textOf } from "./spans.js";

const DEEPEST = 6;
const SNIPPET = 90;

export class VersionList {
  constructor({ node, editor, keeper, status }) {
    Object.assign(this, { node, editor, keeper, status });
    node.addEventListener("keydown", (event) => this.#key(event));
  }

  draw() {
    const { versions, base } = this.editor;
    const families = versions.families();
    const rows = [];
    const walk = [[versions.root, 0]];
    while (walk.length) {
      const [id, depth] = walk.pop();
      const children = families.get(id) ?? [];
      if (!versions.isPassing(versions.get(id), children, base)) rows.push(this.#row(versions.get(id), depth));
      // the newest branch goes straight on below, the older ones are set in above it
      const inner = Math.min(depth + 1, DEEPEST);
      for (const [place, child] of [...children.entries()].reverse()) {
        walk.push([child.id, place === children.length - 1 ? depth : inner]);
      }
    }
    const list = make("ol", { class: "versions" }, ...rows);
    this.node.replaceChildren(this.#naming(versions.get(base)), list);
    list.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  }

  #row(version, depth) {
    const current = version.id === this.editor.base;
    const who = version.parent === null ? "Start" : authorOf(version) === "model" ? "Model" : "You";
    const time = new Date(version.when).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    const head = make("span", { class: "head" }, make("span", { class: "who" }, who), make("time", {}, time));
    if (version.name) head.prepend(make("strong", {}, version.name));
    const button = make("button", { type: "button", "data-id": version.id }, head, make("span", { class: "snippet" }, snippet(version)));
    if (current) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => {
      this.editor.goto(version.id);
      this.draw();
      this.node.querySelector("[aria-current]")?.focus();
    });
    return make("li", { class: `${who.toLowerCase()} depth-${depth}` }, button);
  }

  #naming(version) {
    const input = make("input", { id: "version-name", type: "text", autocomplete: "off", maxlength: "60" });
    input.value = version.name ?? "";
    const button = make("button", { type: "submit" }, "Name");
    const label = make("label", { for: "version-name" }, "A name for this version");
    const form = make("form", { class: "naming" }, label, make("span", { class: "pair" }, input, button));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#name(input.value);
    });
    return form;
  }

  #name(wish) {
    this.editor.commit();
    const { versions, base } = this.editor;
    const name = versions.nameFor(wish);
    const taken = name && versions.named(name);
    if (taken && taken.id !== base) return this.status.say(`The name ${name} is taken.`);
    versions.get(base).name = name;
    this.keeper.add(versions.get(base));
    this.draw();
    return this.status.say(name ? `This version is ${name} now.` : "This version has no name now.");
  }

  #key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const buttons = [...this.node.querySelectorAll("li button")];
    const place = buttons.indexOf(document.activeElement);
    if (!step || place < 0) return;
    event.preventDefault();
    buttons[Math.max(0, Math.min(place + step, buttons.length - 1))].focus();
  }
}

const authorOf = ({ made, put }) => (made || put.some((one) => one.author === "model") ? "model" : "you");

function snippet({ parent, put, cut }) {
  if (parent === null) return "The empty page";
  const text = textOf(put).trim().replace(/\s+/g, " ");
  if (text) return text.length > SNIPPET ? `${text.slice(0, SNIPPET).toWellFormed()}\u2026` : text;
  return cut ? `Took out ${cut.toLocaleString("en")} characters` : "White space";
}
