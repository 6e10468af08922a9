// What is known of one token, beside the text: how probable it was, and what else there was.

import { make } from "./elements.js";
import { ordinal, percent, shown } from "./words.js";

export class Details {
  constructor() {
    this.node = make("aside", { class: "details", "aria-label": "The token", tabindex: "-1" });
    this.node.append(make("p", {}, "Point at a token, or go with the arrow keys. A click or Enter holds it."));
  }

  show(token, ...more) {
    const list = make("ul", { class: "bars" }, ...(token.top ?? []).map((one) => bar(one, token)));
    const about = chance(token).map((line) => make("p", {}, line));
    this.node.replaceChildren(make("h3", {}, shown(token)), ...about, list, ...more);
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

function bar(one, token) {
  const inner = make("span");
  inner.style.width = `${Math.exp(one.logprob) * 100}%`;
  const parts = [
    make("span", { class: "word", lang: "" }, shown(one)),
    make("span", { class: "bar", "aria-hidden": "true" }, inner),
    make("span", { class: "number" }, percent(one.logprob)),
  ];
  return make("li", one.id === token.id ? { "aria-current": "true", title: "In the text" } : {}, ...parts);
}
