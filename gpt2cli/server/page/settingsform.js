// The settings: a field for each parameter that the server declares, and the page's own few.

import { make } from "./elements.js";
import { local } from "./store.js";

const ITEM = { "\\n": "\n", "\\t": "\t", "\\\\": "\\" };

export class SettingsForm {
  constructor({ node, settings }) {
    Object.assign(this, { node, settings });
  }

  draw() {
    const groups = new Map();
    for (const one of this.settings.parameters) {
      if (!groups.has(one.group)) groups.set(one.group, []);
      groups.get(one.group).push(this.#field(one));
    }
    const sets = [...groups].map(([name, fields]) => make("fieldset", {}, make("legend", {}, name), ...fields));
    const none = make("p", { class: "quiet" }, "The server has not said yet what can be set.");
    this.node.replaceChildren(...(sets.length ? [...sets, this.#reset()] : [none]), this.#page());
  }

  #reset() {
    const button = make("button", { type: "button", class: "wide" }, "Set all back");
    button.addEventListener("click", () => {
      for (const one of this.settings.parameters) this.settings.set(one.name, undefined);
      this.draw();
      this.node.querySelector("input")?.focus();
    });
    return button;
  }

  #field(one) {
    const id = `set-${one.name}`;
    const input = inputOf(one, id, this.settings.get(one));
    input.setAttribute("aria-describedby", `${id}-help`);
    input.addEventListener("change", () => this.#take(one, input));
    const label = make("label", { for: id }, one.flag.replace(/^-+/, ""));
    const help = make("p", { id: `${id}-help`, class: "quiet" }, one.help.replace(/\s*Default: drawn\./, ""));
    return make("div", { class: `field ${one.kind.replace(" ", "-")}` }, label, input, help);
  }

  #take(one, input) {
    const value = valueOf(one, input);
    const wrong = !input.checkValidity() || value === undefined;
    input.setAttribute("aria-invalid", String(wrong));
    if (!wrong) this.settings.set(one.name, same(value, this.settings.usual(one)) ? undefined : value);
  }

  #page() {
    const length = make("input", { id: "set-suggested", type: "number", min: "1", max: "200", step: "1" });
    length.value = this.settings.suggested;
    length.addEventListener("change", () => {
      if (length.value && length.checkValidity()) this.settings.suggested = Number(length.value);
    });
    const suggested = make("div", { class: "field int" }, make("label", { for: "set-suggested" }, "Tokens to suggest"), length);
    return make(
      "fieldset",
      {},
      make("legend", {}, "Page"),
      suggested,
      choice("theme", "Colours", { auto: "As the system", light: "Light", dark: "Dark" }),
      choice("size", "Letters", { small: "Small", medium: "Medium", large: "Large" }),
    );
  }
}

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

function choice(name, label, words) {
  const { dataset } = document.documentElement;
  const select = make("select", { id: `set-${name}` });
  for (const [value, word] of Object.entries(words)) select.append(new Option(word, value, false, value === dataset[name]));
  select.addEventListener("change", () => {
    dataset[name] = select.value;
    local.set(name, select.value);
    dispatchEvent(new Event("resize"));
  });
  return make("div", { class: "field" }, make("label", { for: `set-${name}` }, label), select);
}

function inputOf({ name, kind, least, most }, id, value) {
  if (kind === "bool") {
    const box = make("input", { id, type: "checkbox" });
    box.checked = value;
    return box;
  }
  if (kind === "text list") {
    const area = make("textarea", { id, rows: "2", spellcheck: "false", placeholder: "one a line; \\n is a line break" });
    area.value = value.map((text) => text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll("\t", "\\t")).join("\n");
    return area;
  }
  const number = make("input", { id, type: "number", step: kind === "int" ? "1" : "any", inputmode: kind === "int" ? "numeric" : "decimal" });
  if (least !== null) number.min = name === "max_tokens" ? -1 : least; // -1: until it is stopped
  if (most !== null) number.max = most;
  number.value = value ?? "";
  if (value === null) number.placeholder = "none";
  return number;
}

// `undefined` for what is no value.
function valueOf({ kind, default: usual }, input) {
  if (kind === "bool") return input.checked;
  if (kind === "text list") {
    const lines = input.value.split("\n").filter((line) => line);
    return lines.map((line) => line.replace(/\\[nt\\]/g, (escape) => ITEM[escape]));
  }
  if (input.value === "") return usual === null ? null : undefined;
  return Number(input.value);
}
