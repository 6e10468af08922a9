// What is known of one token, beside the text: how probable it was, and what else there was.

import { bar } from "./bars.js";
import { make } from "./elements.js";
import { ordinal, percent, shown } from "./words.js";

export class Details {
  // `unit` is what surprise is told in, where tokens are shown.
  constructor(label, unit) {
    this.unit = unit;
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
    this.list(shown(token), chance(token, this.unit), others);
  }

  // A title, some lines, and words with bars, as `bar` takes them.
  list(title, lines, bars) {
    const about = lines.map((line) => make("p", {}, line));
    this.node.replaceChildren(make("h3", {}, title), ...about, make("ul", { class: "bars" }, ...bars.map(bar)));
  }
}

// For who hears the page.
export function spoken(token, unit) {
  return [shown(token), ...chance(token, unit)].join(", ");
}

function chance(token, { name, nats }) {
  const { logprob, rank, entropy } = token;
  if (logprob === null || logprob === undefined) return ["Nothing precedes it: it has no probability."];
  const which = rank === 1 ? "the likeliest" : `the ${ordinal(rank)} likeliest`;
  const place = rank ? `${percent(logprob)}, ${which}` : percent(logprob);
  const told = (value) => `${(value / nats).toFixed(1)} ${name}`;
  const surprise = `surprise ${told(-logprob)}`;
  return [place, entropy === undefined ? surprise : `${surprise}, entropy ${told(entropy)}`];
}
