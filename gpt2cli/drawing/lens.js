// The logit lens: what the model would say after each layer, for each place. A row is a place, a column a layer.

import { heat } from "./colouring.js";
import { make } from "./elements.js";
import { percent, shown } from "./words.js";

let tables = 0;

export function lens({ lens: found }, tokens) {
  if (!found) return null;
  const name = `lens-${tables++}`;
  const told = make("p", { class: "quiet told", "aria-live": "polite" }, "Point at a cell, or go with the arrow keys.");
  const rows = found.positions.map((place, row) =>
    found.layers.map((layer, column) => cell(found.said[column][row], place, layer, tokens, `${name}-${row}-${column}`)),
  );
  const head = ["after", ...found.layers.map((layer) => `${layer}`)].map((word) => make("th", { scope: "col" }, word));
  const body = rows.map((cells, row) => {
    const place = found.positions[row];
    return make("tr", {}, make("th", { scope: "row", lang: "" }, shown(tokens[place])), ...cells);
  });
  const table = make(
    "table",
    { class: "lens", role: "grid", tabindex: "0", "aria-label": "The likeliest token after each layer" },
    make("thead", {}, make("tr", {}, ...head)),
    make("tbody", {}, ...body),
  );
  moving(table, rows, (node) => told.replaceChildren(node.title));
  return make(
    "section",
    {},
    make("h2", {}, "What each layer would say"),
    make(
      "p",
      { class: "quiet" },
      "The likeliest next token after each layer (0: the embeddings), the surer the hotter. Bold: what the text has.",
    ),
    told,
    make("div", { class: "scroll" }, table),
  );
}

function cell(one, place, layer, tokens, id) {
  const next = tokens[place + 1];
  const same = next?.id === one.id;
  const words = [
    `${shown(tokens[place])}, layer ${layer}: ${shown(one)} ${percent(one.logprob)}`,
    `the last layer's divergence (KL) ${one.kl.toFixed(2)}`,
    ...(next ? [`the text has ${shown(next)}`] : []),
  ];
  const looks = [heat(Math.exp(one.logprob)), same ? "same" : ""].filter(Boolean).join(" ");
  return make("td", { id, class: looks, lang: "", title: words.join(" · ") }, shown(one));
}

// One cell is the current one: under the mouse, or by arrow keys.
function moving(table, rows, tell) {
  let at = null;
  const go = (row, column) => {
    const node = rows[row]?.[column];
    if (!node) return;
    if (at) rows[at[0]][at[1]].classList.remove("now");
    at = [row, column];
    node.classList.add("now");
    table.setAttribute("aria-activedescendant", node.id);
    tell(node);
  };
  const placeOf = (node) => {
    const row = rows.findIndex((cells) => cells[0].parentNode === node.parentNode);
    return [row, rows[row]?.indexOf(node)];
  };
  table.addEventListener("pointerover", ({ target }) => target.localName === "td" && go(...placeOf(target)));
  table.addEventListener("focus", () => at ?? go(rows.length - 1, rows[0].length - 1));
  table.addEventListener("keydown", (event) => {
    const [row, column] = at ?? [0, 0];
    const places = {
      ArrowUp: [row - 1, column],
      ArrowDown: [row + 1, column],
      ArrowLeft: [row, column - 1],
      ArrowRight: [row, column + 1],
      Home: [row, 0],
      End: [row, rows[0].length - 1],
    };
    if (!(event.key in places)) return;
    event.preventDefault();
    go(...places[event.key]);
    rows[at[0]][at[1]].scrollIntoView({ block: "nearest", inline: "nearest" });
  });
}
