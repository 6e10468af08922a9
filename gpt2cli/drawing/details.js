// What is known of one token, beside the text: how probable it was, and what else there was.

import { make } from "./elements.js";
import { ordinal, percent, shown } from "./words.js";

export class Details {
  constructor(label) {
    const hint = "Point at a token, or go with the arrow keys. A click or Enter holds it.";
    this.node = make("aside", { class: "details", "aria-label": label }, make("p", {}, hint));
  }

  show(token) {
    const others = (token.top ?? []).map((one) => ({
      word: shown(one),
      number: percent(one.logprob),
      share: Math.exp(one.logprob),
      current: one.id === token.id,
    }));
    this.list(shown(token), chance(token), others);
  }

  // A title, some lines, and words with bars: `word`, `number`, `share`; perhaps `tone`, hot or
  // cold, and whether it is the `current` one.
  list(title, lines, bars) {
    const about = lines.map((line) => make("p", {}, line));
    this.node.replaceChildren(make("h3", {}, title), ...about, make("ul", { class: "bars" }, ...bars.map(bar)));
  }
}

// For who hears the page.
export function spoken(token) {
  return [shown(token), ...chance(token)].join(", ");
}

function chance(token) {
  const { logprob, rank, entropy } = token;
  if (logprob === null || logprob === undefined) return ["Nothing precedes it: it has no probability."];
  const place = rank ? `${percent(logprob)}, the ${ordinal(rank)} likeliest` : percent(logprob);
  const bits = `surprise ${(-logprob / Math.LN2).toFixed(1)} bits`;
  return [place, entropy === undefined ? bits : `${bits}, entropy ${(entropy / Math.LN2).toFixed(1)} bits`];
}

function bar({ word, number, share, tone, current }) {
  const inner = make("span", tone ? { class: tone } : {});
  inner.style.width = `${share * 100}%`;
  const parts = [
    make("span", { class: "word", lang: "" }, word),
    make("span", { class: "bar", "aria-hidden": "true" }, inner),
    make("span", { class: "number" }, number),
  ];
  return make("li", current ? { "aria-current": "true" } : {}, ...parts);
}
