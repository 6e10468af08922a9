// `gpt2 score --html`: texts coloured by surprise, or by the rank of their tokens.

import { Details, spoken } from "./details.js";
import { make } from "./elements.js";
import { TokenText } from "./tokentext.js";
import { CLASSES, classOf } from "./words.js";

const STEPS = 8; // of heat
const HOTTEST = 12; // bits
const MOST = 16; // bits, in the histogram
const RANKS = ["10 likeliest", "100", "1,000", "beyond"];

const bitsOf = ({ logprob }) => -logprob / Math.LN2;
const heat = (token) => Math.min(STEPS, Math.round((bitsOf(token) / HOTTEST) * STEPS));

const COLOURS = {
  surprise: (token) => (token.logprob === null || !heat(token) ? "" : `heat${heat(token)}`),
  rank: (token) => CLASSES[classOf(token)],
};

export function scores(root, data) {
  const legend = make("ul", { class: "legend" });
  const every = data.texts.flatMap(({ tokens }) => tokens).filter(({ logprob }) => logprob !== null);
  const drawn = [];
  const colour = (name) => {
    for (const text of drawn) text.paint(COLOURS[name]);
    legend.replaceChildren(...(name === "rank" ? ranks(every) : surprises()));
  };
  const chosen = make("select", {}, ...["surprise", "rank"].map((name) => make("option", { value: name }, name)));
  chosen.addEventListener("change", () => colour(chosen.value));
  const choice = make("label", { class: "choice" }, "Colour by ", chosen);
  const details = new Details();
  const texts = data.texts.map((text) => section(text, details, drawn));
  if (data.note) root.append(make("p", { class: "note" }, data.note));
  root.append(
    make("div", { class: "choices" }, choice, legend),
    make("div", { class: "beside" }, make("div", {}, ...texts), details.node),
    ...histogram(every),
  );
  colour("surprise");
}

function section({ name, about, tokens }, details, drawn) {
  const pick = (index) => details.show(tokens[index]);
  const text = new TokenText(tokens, { label: `Tokens of ${name}`, describe: spoken, pick });
  drawn.push(text);
  const sums = about ? [make("p", { class: "quiet" }, about)] : [];
  return make("section", {}, make("h2", {}, name), ...sums, text.node);
}

function surprises() {
  const bits = (step) => `${(step * HOTTEST) / STEPS}`;
  return [2, 4, 6, 8].map((step) =>
    make("li", { class: `heat${step}` }, step === STEPS ? `${bits(step)} bits and more` : bits(step)),
  );
}

function ranks(every) {
  const counts = [0, 0, 0, 0];
  for (const token of every) counts[classOf(token) ?? 3]++;
  const share = (count) => (every.length ? `${Math.round((count / every.length) * 100)} %` : "0 %");
  return CLASSES.map((name, at) => make("li", { class: name }, `${RANKS[at]}: ${share(counts[at])}`));
}

function histogram(every) {
  const counts = new Array(MOST).fill(0);
  for (const token of every) counts[Math.min(MOST - 1, Math.floor(bitsOf(token)))]++;
  const most = Math.max(1, ...counts);
  const bars = counts.map((count, bits) => {
    const words = bits === MOST - 1 ? `${bits} bits and more` : `${bits} to ${bits + 1} bits`;
    const node = make("span", { title: `${words}: ${count.toLocaleString("en")}` });
    node.style.height = `${(count / most) * 100}%`;
    return node;
  });
  const label = `Tokens by surprise: ${counts.map((count, bits) => `${bits} bits ${count}`).join(", ")}`;
  const marks = [0, 4, 8, 12].map((bits) => make("span", {}, `${bits}`));
  return [
    make("h2", {}, "How surprising the tokens are"),
    make("div", { class: "histogram", role: "img", "aria-label": label }, ...bars),
    make("div", { class: "scale", "aria-hidden": "true" }, ...marks, make("span", {}, `${MOST} bits`)),
  ];
}
