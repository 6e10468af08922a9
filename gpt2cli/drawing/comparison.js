// `gpt2 compare --html`: prompts side by side.

import { make } from "./elements.js";
import { percent, shown } from "./words.js";

const share = (value) => percent(Math.log(value));
const number = (value) => value.toFixed(2).replace("-", "\u2212");
const signed = (value) => (value < 0 ? "" : "+") + number(value);

export function comparison(root, data) {
  const { sides, unit } = data;
  if (data.note) root.append(make("p", { class: "note" }, data.note));
  root.append(
    make("ul", { class: "sides" }, ...sides.map(named)),
    make("h2", {}, "The next token"),
    make("div", { class: "columns" }, ...sides.map(likeliest)),
    make("h2", {}, "Where they differ most"),
    table("Token", sides, data.differences, differences(sides), [shown, "word"]),
    make("h2", {}, `Divergences in ${unit}`),
    divergences(data.divergences),
  );
  if (sides[0].endings) {
    root.append(make("h2", {}, "Endings"), table("Ending", sides, across(sides, "endings"), endings, [text, "word"]));
  }
  if (sides.some(({ words }) => words)) {
    root.append(make("h2", {}, "First words of samples, with intervals of 95 %"));
    root.append(table("Word", sides, across(sides, "words"), words(sides), [word, "word"]), ...sides.map(samples));
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
  const rows = side.likeliest.map((one) => {
    const inner = make("span");
    inner.style.width = `${Math.exp(one.logprob - most) * 100}%`;
    return make(
      "li",
      {},
      make("span", { class: "word", lang: "" }, shown(one)),
      make("span", { class: "bar", "aria-hidden": "true" }, inner),
      make("span", { class: "number" }, percent(one.logprob)),
    );
  });
  return make("section", { "aria-label": side.label }, make("h3", {}, side.label), make("ol", { class: "bars" }, ...rows));
}

// A row for each of `rows`, a cell for each side.
function table(first, sides, rows, cells, [name, kind]) {
  const head = [first, ...sides.map(({ label }) => label)].map((one) => make("th", { scope: "col" }, one));
  const body = rows.map((row) => make("tr", {}, make("th", { scope: "row", class: kind, lang: "" }, name(row)), ...cells(row)));
  return scrolled(make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)), first);
}

// A table may be wider than its page: then it can be moved, by keys too.
const scrolled = (node, label) => make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": label }, node);

// The colour says how far above or below all sides together: twice as likely, half as likely.
function differences(sides) {
  return ({ probabilities, log_ratios }) => {
    const mean = log_ratios.reduce((sum, one) => sum + one, 0) / sides.length;
    return probabilities.map((one, at) => {
      const step = Math.min(8, Math.round((Math.abs(log_ratios[at] - mean) / Math.LN2) * 4));
      const ground = step ? `${log_ratios[at] > mean ? "heat" : "cold"}${step}` : "";
      const ratio = at ? [make("span", { class: "quiet" }, ` ${signed(log_ratios[at])}`)] : [];
      return make("td", { class: ground }, share(one), ...ratio);
    });
  };
}

const across = (sides, name) => sides[0][name].map((_, at) => sides.map((side) => side[name][at]));
const text = ([one]) => one.text;
const word = ([one]) => one.word || "(no word)";

function endings(row) {
  return row.map((one, at) => {
    const about = [number(one.logprob), `${number(one.per_token)} a token`];
    const ratio = at ? [make("span", { class: "quiet" }, ` ${signed(one.log_ratio)}`)] : [];
    return make("td", {}, share(one.share), ...ratio, make("span", { class: "quiet below" }, about.join(" · ")));
  });
}

// Each share as a dot on its interval, all on one scale.
function words(sides) {
  const most = Math.max(...sides.flatMap((side) => side.words.map(({ high }) => high)));
  return (row) =>
    row.map(({ count, share: value, low, high }) => {
      const interval = make("span", { class: "interval", title: `${share(low)} to ${share(high)}` });
      const line = make("span", { class: "line" });
      const dot = make("span", { class: "dot" });
      line.style.left = `${(low / most) * 100}%`;
      line.style.width = `${((high - low) / most) * 100}%`;
      dot.style.left = `${(value / most) * 100}%`;
      interval.append(line, dot);
      return make("td", {}, `${count} `, make("span", { class: "quiet" }, count ? share(value) : "0 %"), interval);
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
