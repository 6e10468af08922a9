// A word, a bar as long as its share, and a number.

import { make } from "./elements.js";

// `place` stands before the word; `tone` is hot or cold; `current` says that it is the one in the text.
export function bar({ word, number, share, place, tone, current }) {
  const inner = make("span", tone ? { class: tone } : {});
  inner.style.width = `${share * 100}%`;
  const parts = [
    make("span", { class: "word", lang: "" }, place === undefined ? "" : make("small", {}, `${place} `), word),
    make("span", { class: "bar", "aria-hidden": "true" }, inner),
    make("span", { class: "number" }, number),
  ];
  return make("li", current ? { "aria-current": "true" } : {}, ...parts);
}
