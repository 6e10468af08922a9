// Which of its numbers colours each token, chosen above the texts, and what the colours mean.

import { make } from "./elements.js";
import { CLASSES, classOf } from "./words.js";

const STEPS = 8; // of heat and of cold
const HOTTEST = 12; // bits
const RANKS = ["10 likeliest", "100", "1,000", "beyond"];

const bits = (value) => heat(value / Math.LN2 / HOTTEST);
const COLOURS = {
  surprise: ({ logprob }) => (logprob === null ? "" : bits(-logprob)),
  entropy: ({ entropy }) => (entropy === null ? "" : bits(entropy)),
  rank: (token) => CLASSES[classOf(token)],
};

// The class of a share from -1 (cold) to 1 (hot); none for about nothing.
export function heat(share) {
  const step = Math.min(STEPS, Math.round(Math.abs(share) * STEPS));
  return step ? `${share > 0 ? "heat" : "cold"}${step}` : "";
}

// Paints the texts, all of whose tokens are `every`, by one of `names`; gives what stands above them.
export function colouring(texts, every, names) {
  const legend = make("ul", { class: "legend" });
  const colour = (name) => {
    for (const text of texts) text.paint(COLOURS[name]);
    legend.replaceChildren(...(name === "rank" ? ranks(every) : scale()));
  };
  colour(names[0]);
  return make("div", { class: "choices" }, choice("Colour by", names, colour), legend);
}

// A label and a select; `options` are words, or pairs of a value and a word.
export function choice(label, options, chosen) {
  const pairs = options.map((one) => (Array.isArray(one) ? one : [one, one]));
  const select = make("select", {}, ...pairs.map(([value, word]) => make("option", { value: `${value}` }, word)));
  select.addEventListener("change", () => chosen(select.value));
  return make("label", { class: "choice" }, `${label} `, select);
}

function scale() {
  return [2, 4, 6, 8].map((step) => {
    const amount = (step * HOTTEST) / STEPS;
    return make("li", { class: `heat${step}` }, step === STEPS ? `${amount} bits and more` : `${amount}`);
  });
}

function ranks(every) {
  const ranked = every.filter(({ rank }) => rank);
  const share = (at) => ranked.filter((token) => classOf(token) === at).length / Math.max(1, ranked.length);
  return CLASSES.map((name, at) => make("li", { class: name }, `${RANKS[at]}: ${Math.round(share(at) * 100)} %`));
}
