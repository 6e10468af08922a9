// `gpt2 explain --html`, and the same in the page of `gpt2 serve`: what a model made of a text.

import { attention } from "./attention.js";
import { colouring } from "./colouring.js";
import { Details, spoken } from "./details.js";
import { make } from "./elements.js";
import { influence } from "./influence.js";
import { lens } from "./lens.js";
import { TokenText } from "./tokentext.js";
import { readable } from "./words.js";

// `data` is what `gpt2 explain --json` prints, perhaps with a `note`.
export function explanation(root, data) {
  const tokens = readable(data.tokens);
  if (data.note) root.append(make("p", { class: "note" }, data.note));
  root.append(
    said(data, tokens),
    ...[influence, lens, attention].map((view) => view(data, tokens)).filter(Boolean),
  );
}

// Each token: how probable it was, and what else there was.
function said(data, tokens) {
  const details = new Details("The token");
  const pick = (index) => details.show(tokens[index]);
  const text = new TokenText(tokens, { label: "The text", describe: spoken, pick, at: data.target });
  const choices = colouring([text], tokens, ["surprise", "rank", "entropy"]);
  return make(
    "section",
    {},
    make("h2", {}, "How surprising each token was"),
    choices,
    make("div", { class: "beside" }, text.node, details.node),
  );
}
