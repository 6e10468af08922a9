// `gpt2 compare --html`: prompts side by side.

import { bar } from "./bars.js";
import { make } from "./elements.js";
import { percent, shown, signed } from "./words.js";

const share = (value) => (value ? percent(Math.log(value)) : "0 %");
const ratio = (value) => (value < 0 ? "" : "+") + signed(value);

export function comparison(root, data) {
  const { sides, unit } = data;
  const ratios = `the natural logarithm of the probability after one prompt over that after another, in ${unit}`;
  if (data.note) root.append(make("p", { class: "note" }, data.note));
  root.append(
    make("ul", { class: "sides" }, ...sides.map(named)),
    make("h2", {}, "The next token"),
    make("div", { class: "columns" }, ...sides.map(likeliest)),
    make("h2", {}, "Where they differ most"),
    about(
      "The probability of a token after each prompt: hot where it is above the mean of all, cold where it is below. " +
        `log is ${ratios}: 0.69 is twice as probable, \u22120.69 half.`,
    ),
    table(["Token", ...behind(sides, [""])], data.differences, differences(sides), [shown, "word"]),
    make("h2", {}, `Divergences in ${unit}`),
    divergences(data.divergences),
  );
  if (sides[0].endings) {
    root.append(make("h2", {}, "Endings"), ...endings(sides, ratios));
  }
  if (sides.some(({ words }) => words)) {
    root.append(make("h2", {}, "First words of samples, with intervals of 95 %"));
    const heads = sides.flatMap(({ label }) => [`${label} texts`, `${label} share`, "95 %"]);
    root.append(table(["Word", ...heads], across(sides, "words"), words(sides), [word, "word"]), ...sides.map(samples));
  }
}

function named({ label, model, prompt }, _, sides) {
  const several = new Set(sides.map((side) => side.model)).size > 1;
  const parts = [make("b", {}, label), make("span", { class: "prompt", lang: "" }, prompt || "(the start of a text)")];
  return make("li", {}, ...parts, ...(several ? [make("span", { class: "quiet" }, model)] : []));
}

// The bars of all sides are on one scale.
function likeliest(side, _, sides) {
  const most = Math.max(...sides.map((one) => one.likeliest[0].logprob));
  const rows = side.likeliest.map((one) =>
    bar({ word: shown(one), number: percent(one.logprob), share: Math.exp(one.logprob - most) }),
  );
  return make("section", { "aria-label": side.label }, make("h3", {}, side.label), make("ol", { class: "bars" }, ...rows));
}

const about = (words) => make("p", { class: "quiet" }, words);

// The headings of columns that each side has, and after the first side of how it compares to that.
const behind = (sides, names) =>
  sides.flatMap(({ label }, at) => [
    ...names.map((name) => `${label} ${name}`.trim()),
    ...(at ? [`log ${label}/${sides[0].label}`] : []),
  ]);

// A row for each of `rows`, under headings.
function table(heads, rows, cells, [name, kind]) {
  const head = heads.map((one) => make("th", { scope: "col" }, one));
  const body = rows.map((row) => make("tr", {}, make("th", { scope: "row", class: kind, lang: "" }, name(row)), ...cells(row)));
  return scrolled(make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)), heads[0]);
}

// A table may be wider than its page: then it can be moved, by keys too.
const scrolled = (node, label) => make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": label }, node);

// The colour says how far above or below all sides together: twice as likely, half as likely.
function differences(sides) {
  return ({ probabilities, log_ratios }) => {
    const mean = log_ratios.reduce((sum, one) => sum + one, 0) / sides.length;
    return probabilities.flatMap((one, at) => {
      const step = Math.min(8, Math.round((Math.abs(log_ratios[at] - mean) / Math.LN2) * 4));
      const ground = step ? `${log_ratios[at] > mean ? "heat" : "cold"}${step}` : "";
      return [make("td", { class: ground }, share(one)), ...(at ? [make("td", {}, ratio(log_ratios[at]))] : [])];
    });
  };
}

const across = (sides, name) => sides[0][name].map((_, at) => sides.map((side) => side[name][at]));
const text = ([one]) => one.text;
const word = ([one]) => (one.word === null ? "(others)" : one.word || "(no word)");

// The share of one that stands alone is always the whole.
function endings(sides, ratios) {
  const several = sides[0].endings.length > 1;
  const names = ["log p", "a token", ...(several ? ["share"] : [])];
  const cells = (row) =>
    row.flatMap((one, at) => {
      const numbers = [signed(one.logprob), signed(one.per_token), ...(several ? [share(one.share)] : [])];
      return [...numbers, ...(at ? [ratio(one.log_ratio)] : [])].map((number) => make("td", {}, number));
    });
  const shares = several ? " The share is how probable an ending is if one of these follows." : "";
  return [
    about(`log p is the natural logarithm of the probability, whole and per token; log is ${ratios}.${shares}`),
    table(["Ending", ...behind(sides, names)], across(sides, "endings"), cells, [text, "word"]),
  ];
}

// Each share as a dot on its interval, all on one scale.
function words(sides) {
  const most = Math.max(...sides.flatMap((side) => side.words.map(({ high }) => high)));
  return (row) =>
    row.flatMap(({ count, share: value, low, high }) => {
      const interval = make("span", { class: "interval", title: `${share(low)} to ${share(high)}` });
      const line = make("span", { class: "line" });
      const dot = make("span", { class: "dot" });
      line.style.left = `${(low / most) * 100}%`;
      line.style.width = `${((high - low) / most) * 100}%`;
      dot.style.left = `${(value / most) * 100}%`;
      interval.append(line, dot);
      return [`${count}`, share(value), interval].map((one) => make("td", {}, one));
    });
}

function divergences(found) {
  const heads = ["Sides", "KL(1st‖2nd)", "KL(2nd‖1st)", "Jensen-Shannon"];
  const rows = found.map(({ first, second, kl, kl_back, js }) => {
    const numbers = [kl, kl_back, js].map((one) => make("td", {}, one.toFixed(4)));
    return make("tr", {}, make("th", { scope: "row" }, `${first}, ${second}`), ...numbers);
  });
  const head = make("tr", {}, ...heads.map((one) => make("th", { scope: "col" }, one)));
  return scrolled(make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)), "Divergences");
}

function samples({ label, texts }) {
  const rows = (texts ?? []).map((one) => make("li", { lang: "" }, one));
  return make("details", {}, make("summary", {}, `${label}: ${rows.length} texts`), make("ol", { class: "samples" }, ...rows));
}
