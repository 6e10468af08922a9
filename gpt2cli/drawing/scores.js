// `gpt2 score --html`: texts coloured by surprise, or by the rank of their tokens.

import { colouring } from "./colouring.js";
import { Details, spoken } from "./details.js";
import { make } from "./elements.js";
import { TokenText } from "./tokentext.js";
import { readable } from "./words.js";

const MOST = 16; // bits, in the histogram

export function scores(root, data) {
  const details = new Details("The token");
  const texts = data.texts.map((text) => {
    const tokens = readable(text.tokens);
    const pick = (index) => details.show(tokens[index]);
    return new TokenText(tokens, { label: `Tokens of ${text.name}`, describe: spoken, pick });
  });
  const every = texts.flatMap(({ tokens }) => tokens);
  if (data.note) root.append(make("p", { class: "note" }, data.note));
  root.append(
    colouring(texts, every, ["surprise", "rank"]),
    make("div", { class: "beside" }, make("div", {}, ...data.texts.map((text, at) => section(text, texts[at]))), details.node),
    ...histogram(every),
  );
}

function section({ name, about }, text) {
  const sums = about ? [make("p", { class: "quiet" }, about)] : [];
  return make("section", {}, make("h2", {}, name), ...sums, text.node);
}

function histogram(every) {
  const counts = new Array(MOST).fill(0);
  for (const { logprob } of every) {
    if (logprob !== null) counts[Math.min(MOST - 1, Math.floor(-logprob / Math.LN2))]++;
  }
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
