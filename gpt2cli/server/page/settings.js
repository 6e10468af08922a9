// How the model is asked: the command's parameters, as the server declares them, and what was changed here.

import { local } from "./store.js";

const PAGE = { max_tokens: 40 }; // a person who writes along wants less at a time than a command's user
const SUGGESTED = 16;
const UNASKED = ["logit_bias"]; // a table, for which there is no box

export class Settings {
  constructor() {
    this.parameters = [];
    this.changed = local.get("parameters", {});
  }

  declare(parameters) {
    this.parameters = parameters.filter((one) => !UNASKED.includes(one.name));
  }

  usual(one) {
    return PAGE[one.name] ?? one.default;
  }

  get(one) {
    return one.name in this.changed ? this.changed[one.name] : this.usual(one);
  }

  // `undefined` goes back to what is usual.
  set(name, value) {
    if (value === undefined) delete this.changed[name];
    else this.changed[name] = value;
    local.set("parameters", this.changed);
  }

  // All by name, as a request takes them; without those that have no value, as a seed that is drawn.
  values() {
    const pairs = this.parameters.map((one) => [one.name, this.get(one)]);
    return Object.fromEntries(pairs.filter(([, value]) => value !== null));
  }

  get suggested() {
    return local.get("suggested", SUGGESTED);
  }

  set suggested(count) {
    local.set("suggested", count);
  }
}
