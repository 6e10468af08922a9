// Where each token looks: by layer and head, several heads together, or rolled out through all layers; as lines between
// two columns, or as the text in the colours of what the current token looks at.

import { choice, heat } from "./colouring.js";
import { Details } from "./details.js";
import { make } from "./elements.js";
import { TokenText } from "./tokentext.js";
import { shown } from "./words.js";

const COLUMN = 80; // tokens, in lines: the last ones of a longer text
const ROW = 24; // pixels
const LEAST = 0.03; // of a line that is drawn
const BARS = 10;

export function attention(data, tokens) {
  if (!data.attention && !data.rollout) return null;
  const looks = new Looks(data);
  const details = new Details("Where it looks");
  const place = make("div", { class: "beside" });
  let view = null;
  let index = data.target - 1;
  const weights = (at) => looks.weights(at);
  const show = (at) => {
    index = at;
    const row = weights(at);
    view.light(at, row);
    if (row) details.list(`${shown(tokens[at])} looks at`, [looks.name], bars(row, tokens));
    else details.list(shown(tokens[at]), ["Where it looks is not in this page."], []);
  };
  const views = { lines: () => new Lines(tokens, weights, show), shading: () => new Shading(tokens, show) };
  const draw = (name) => {
    view = views[name]();
    place.replaceChildren(view.node, details.node);
    view.refresh?.();
    show(index);
  };
  const changed = () => {
    view.refresh?.();
    show(index);
  };
  const node = make(
    "section",
    {},
    make("h2", {}, "Where each token looks"),
    ...looks.controls(changed, choice("Shown as", ["lines", "shading"], draw)),
    place,
  );
  draw("lines");
  return node;
}

// Which weights are wanted: a layer and its heads, or the rollout.
class Looks {
  constructor({ attention: found, rollout }) {
    Object.assign(this, { found, rollout, sink: true });
    const layers = found?.layers ?? [];
    this.layer = layers.at(-1) ?? null;
    this.heads = new Set(this.layer?.heads.map(({ head }) => head));
  }

  get name() {
    if (!this.layer) return "rollout, all layers";
    const heads = [...this.heads].sort((one, other) => one - other);
    const all = heads.length === this.layer.heads.length;
    return `layer ${this.layer.layer}, ${all ? "all heads" : `heads ${heads.join(", ") || "-"}`}`;
  }

  // Of the token at a place, for each token up to it; null where there are none. Several heads are averaged.
  weights(at) {
    const source = this.layer ? this.found : this.rollout;
    const row = at - source.positions[0];
    if (row < 0 || row >= source.positions.length) return null;
    const rows = this.layer
      ? this.layer.heads.filter(({ head }) => this.heads.has(head)).map((one) => one.weights[row])
      : [this.rollout.weights[row]];
    const sum = new Array(at + 1).fill(0);
    for (const one of rows) for (const [place, weight] of one.entries()) sum[place] += weight / rows.length;
    return this.sink ? sum : withoutFirst(sum);
  }

  controls(changed, view) {
    const boxes = make("fieldset", { class: "heads" }, make("legend", {}, "Heads"));
    const fill = () => {
      const all = make("button", { type: "button" }, "all");
      all.addEventListener("click", () => this.#choose(this.layer.heads.map(({ head }) => head), boxes, changed));
      const heads = this.layer?.heads ?? [];
      boxes.replaceChildren(boxes.firstChild, all, ...heads.map(({ head }) => this.#box(head, changed)));
      boxes.hidden = !heads.length;
    };
    const layers = (this.found?.layers ?? []).map(({ layer }) => [layer, `${layer}`]).reverse();
    if (this.rollout) layers.push(["rollout", "rollout"]);
    const layer = choice("Layer", layers, (value) => {
      this.layer = this.found?.layers.find((one) => `${one.layer}` === value) ?? null;
      this.heads = new Set(this.layer?.heads.map(({ head }) => head));
      fill();
      changed();
    });
    const sink = make("input", { type: "checkbox" });
    sink.addEventListener("change", () => {
      this.sink = !sink.checked;
      changed();
    });
    fill();
    const first = make("label", { class: "choice" }, sink, "without the first token");
    return [make("div", { class: "choices" }, layer, view, first), boxes];
  }

  // A click alone takes one head; with Shift or Ctrl, or by the keyboard, it adds one.
  #box(head, changed) {
    const box = make("input", { type: "checkbox", checked: this.heads.has(head) });
    box.addEventListener("change", () => {
      this.heads[box.checked ? "add" : "delete"](head);
      changed();
    });
    const only = make("label", { title: `Double-click: head ${head} alone` }, box, `${head}`);
    only.addEventListener("dblclick", () => this.#choose([head], only.parentNode, changed));
    return only;
  }

  #choose(heads, boxes, changed) {
    this.heads = new Set(heads);
    for (const [at, box] of boxes.querySelectorAll("input").entries()) {
      box.checked = this.heads.has(this.layer.heads[at].head);
    }
    changed();
  }
}

// Most look at the first token where there is nothing better: the rest, as shares of the rest.
function withoutFirst([, ...rest]) {
  const sum = rest.reduce((one, other) => one + other, 0) || 1;
  return [0, ...rest.map((weight) => weight / sum)];
}

function bars(row, tokens) {
  const all = row.map((weight, at) => ({ weight, at })).filter(({ weight }) => weight >= 0.0005);
  const found = all.sort((one, other) => other.weight - one.weight).slice(0, BARS);
  return found.map(({ weight, at }) => ({
    word: shown(tokens[at]),
    number: `${(weight * 100).toFixed(1)} %`,
    share: weight,
  }));
}

class Shading {
  constructor(tokens, show) {
    this.text = new TokenText(tokens, { label: "Tokens that look", describe: shown, pick: show });
    this.node = this.text.node;
  }

  light(at, row) {
    const most = Math.max(...(row ?? [0])) || 1;
    this.text.paint((_, place) => heat((row?.[place] ?? 0) / most));
    this.text.mark(at);
  }
}

class Lines {
  constructor(tokens, weights, show) {
    Object.assign(this, { weights, from: Math.max(0, tokens.length - COLUMN), count: Math.min(COLUMN, tokens.length) });
    const drawn = tokens.slice(this.from);
    const pick = (index) => show(index + this.from);
    this.left = new TokenText(drawn, { label: "Tokens that look", describe: shown, pick, stacked: true });
    this.right = drawn.map((token) => make("span", {}, shown(token)));
    this.art = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.art.setAttribute("viewBox", `0 0 100 ${this.count * ROW}`);
    this.art.setAttribute("height", `${this.count * ROW}`);
    this.art.setAttribute("preserveAspectRatio", "none");
    this.art.setAttribute("aria-hidden", "true");
    const columns = make("div", { class: "lines" }, this.left.node, this.art, make("div", { lang: "" }, ...this.right));
    const cut = this.from ? [make("p", { class: "quiet" }, `The last ${COLUMN} tokens; shading shows all.`)] : [];
    this.node = make("div", {}, ...cut, columns);
  }

  // All lines again.
  refresh() {
    const lines = [];
    for (let at = 0; at < this.count; at++) {
      for (const [place, weight] of (this.weights(at + this.from) ?? []).entries()) {
        if (place >= this.from && weight >= LEAST) lines.push(line(at, place - this.from, weight));
      }
    }
    this.art.replaceChildren(...lines);
  }

  light(at, row) {
    for (const one of this.art.children) one.classList.toggle("lit", one.getAttribute("data-at") === `${at - this.from}`);
    const most = Math.max(...(row ?? [0])) || 1;
    for (const [place, span] of this.right.entries()) span.className = heat((row?.[place + this.from] ?? 0) / most);
    this.left.mark(at - this.from);
  }
}

function line(at, place, weight) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", "line");
  const ends = { x1: 0, y1: (at + 0.5) * ROW, x2: 100, y2: (place + 0.5) * ROW };
  for (const [name, value] of Object.entries(ends)) node.setAttribute(name, `${value}`);
  node.setAttribute("stroke-opacity", Math.sqrt(weight).toFixed(2));
  node.setAttribute("data-at", `${at}`);
  return node;
}
