// Which earlier tokens the prediction rests on: what is lost where each is left out, or its value is zeroed in a layer.

import { choice, heat } from "./colouring.js";
import { Details } from "./details.js";
import { make } from "./elements.js";
import { TokenText } from "./tokentext.js";
import { shown } from "./words.js";

const MOST = 12; // bars

export function influence(data, tokens) {
  const ways = measures(data);
  if (!ways.length) return null;
  const details = new Details("What it contributes");
  const told = make("p", { class: "quiet" });
  let way = ways[0];
  const describe = (token, index) => `${shown(token)}, ${number(way.scores[index])}`;
  const pick = (index) => details.list(shown(tokens[index]), [number(way.scores[index]), way.word], largest());
  const text = new TokenText(tokens, { label: "What the prediction rests on", describe, pick, at: data.target });
  const largest = () => {
    const all = tokens.map((token, index) => ({ token, index, score: way.scores[index] }));
    const found = all.filter(({ score }) => score).sort((one, other) => Math.abs(other.score) - Math.abs(one.score));
    const most = Math.abs(found[0]?.score ?? 1);
    return found.slice(0, MOST).map(({ token, index, score }) => ({
      word: shown(token),
      number: number(score),
      share: Math.abs(score) / most,
      tone: score < 0 ? "cold" : "hot",
      current: index === text.index,
    }));
  };
  const show = (name) => {
    way = ways.find((one) => one.name === name);
    const most = Math.max(...way.scores.map((score) => Math.abs(score ?? 0))) || 1;
    text.paint((_, index) => heat((way.scores[index] ?? 0) / most));
    told.replaceChildren(way.told);
    details.list("The largest", [way.word], largest());
  };
  show(ways[0].name);
  const names = ways.map((one) => [one.name, one.name]);
  return make(
    "section",
    {},
    make("h2", {}, "What the prediction rests on"),
    make("div", { class: "choices" }, choice("Measured by", names, show)),
    told,
    make("div", { class: "beside" }, text.node, details.node),
  );
}

// What there is to choose from: a name, the scores, what a score means, and a sentence.
function measures({ influence: found, value_zeroing: zeroed, rollout, target, tokens }) {
  const ways = [];
  const predicted = shown(tokens[target]);
  if (found) {
    const base = found.base.toFixed(2);
    const [value, what] = found.instead
      ? [`its lead over ${shown(found.instead)}`, `${shown(found.token)} leads ${shown(found.instead)} by ${base}`]
      : ["its log-probability", `The log-probability of ${shown(found.token)} is ${base}`];
    const told = `${what} (natural logarithm). Hot tokens carry it: without them it is lower. Cold ones hold it down.`;
    ways.push({ name: "leaving out", scores: found.scores, word: `what ${value} loses without this token`, told });
  }
  for (const { layer, scores } of zeroed?.layers ?? []) {
    const told = `How much the state from which ${predicted} is predicted turns in layer ${layer} without a token's value.`;
    ways.push({ name: `zeroing, layer ${layer}`, scores, word: "1 - cosine of the state with and without", told });
  }
  const row = rollout ? rollout.weights[rollout.positions.indexOf(target - 1)] : null;
  if (row) {
    const told = `Attention through all layers (rollout) at the place from which ${predicted} is predicted.`;
    ways.push({ name: "rollout", scores: row, word: "share of the attention", told });
  }
  return ways;
}

const number = (score) => (score === null || score === undefined ? "-" : score.toFixed(Math.abs(score) < 0.1 ? 4 : 2));
