// Files: plain text, Markdown with what is yours in bold, and the document of `gpt2 repl` with all versions.

import { History } from "./history.js";
import { oneKindOfLine, span } from "./spans.js";
import { Versions } from "./versions.js";

const FORMAT = "gpt2 document";
const MOST = 16e6; // characters in one file; with more, only the ends of branches and places with a name travel

export function toJson(versions, current) {
  const tree = new NodeTree(versions);
  const families = versions.families();
  const childrenOf = (one) => families.get(one.id) ?? [];
  let wanted = versions.inOrder().filter((one) => !versions.isPassing(one, childrenOf(one), current));
  const size = wanted.reduce((sum, one) => sum + versions.lengthAt(one.id), 0);
  if (size > MOST) wanted = wanted.filter((one) => one.name || !childrenOf(one).length);
  const names = {};
  for (const one of wanted) {
    const node = tree.add(versions.spansAt(one.id));
    if (one.name && !(one.name in names)) names[one.name] = node;
  }
  const place = tree.add(versions.spansAt(current));
  const head = JSON.stringify({ format: FORMAT, version: 1, current: place, names }).slice(0, -1);
  return `${head}, "nodes": [\n${tree.nodes.map((node) => JSON.stringify(node)).join(",\n")}\n]}\n`;
}

// A text is a path from the root; texts that begin with the same spans share them.
class NodeTree {
  constructor() {
    this.nodes = [node(0, null, { author: "you", text: "", ids: [], model: null, seed: null, settings: {} })];
    this.children = [new Map()];
  }

  add(spans) {
    let place = 0;
    for (const one of spans) {
      const key = `${one.run} ${one.text}`;
      let next = this.children[place].get(key);
      if (next === undefined) {
        next = this.nodes.length;
        this.nodes.push(node(next, place, one));
        this.children[place].set(key, next);
        this.children.push(new Map());
      }
      place = next;
    }
    return place;
  }
}

function node(id, parent, { author, text, ids, model, seed, settings }) {
  return { id, parent, author, text: text.toWellFormed(), ids, model, seed, settings };
}

// Throws an Error in words for anything that is no such document.
export function fromJson(text) {
  let data;
  try {
    data = JSON.parse(text);
  } catch {
    throw new Error("This file is no JSON.");
  }
  if (data?.format !== FORMAT || !Array.isArray(data.nodes)) throw new Error("This file is no document of gpt2.");
  if (data.version !== 1) throw new Error("A newer gpt2 has written this file.");
  const versions = new Versions();
  const places = [versions.root];
  const lengths = [0];
  for (const [place, one] of data.nodes.entries()) {
    if (place === 0) continue;
    if (!(one.parent >= 0 && one.parent < place) || typeof one.text !== "string" || !/^(you|model)$/.test(one.author)) {
      throw new Error(`This document is broken at node ${place}.`);
    }
    const put = [span(one.author, oneKindOfLine(one.text), details(one))];
    places[place] = versions.add(places[one.parent], { at: lengths[one.parent], cut: 0, put }).id;
    lengths[place] = lengths[one.parent] + put[0].text.length;
  }
  for (const [name, place] of Object.entries(data.names ?? {})) {
    if (places[place]) versions.get(places[place]).name = String(name);
  }
  return opened(versions, places[data.current] ?? places.at(-1));
}

function details({ ids, model, seed, settings }) {
  return { ids: Array.isArray(ids) ? ids : [], model: model ?? null, seed: seed ?? null, settings: settings ?? {} };
}

function opened(versions, current) {
  return { versions, history: new History(versions.path(current).map((one) => one.id)) };
}

export function fromSpans(spans) {
  const versions = new Versions();
  const put = spans.filter((one) => one.text);
  return opened(versions, put.length ? versions.add(versions.root, { at: 0, cut: 0, put }).id : versions.root);
}

export function fromText(text) {
  return fromSpans([span("you", oneKindOfLine(text.replace(/^\ufeff/, "")))]);
}

const escaped = (line) => line.replace(/[\\`*_[\]<>#]/g, "\\$&");

// Asterisks may not stand beside white space.
function bold(line) {
  const core = line.trim();
  return core ? line.replace(core, () => `**${core}**`) : line;
}

export function toMarkdown(spans) {
  const parts = spans.map((one) => {
    const lines = one.text.split("\n").map(escaped);
    return (one.author === "you" ? lines.map(bold) : lines).join("\n");
  });
  return `${parts.join("").replaceAll("****", "").replaceAll("\n", "  \n").trimEnd()}\n`;
}

// What `toMarkdown` wrote; of other Markdown, bold text is yours as well, and nothing is lost.
export function fromMarkdown(text) {
  const spans = [];
  const marked = /\\([\\`*_[\]<>#])|(\*\*)|( {2}\n)|([^\\* ]+|[\s\S])/g;
  let author = "model";
  let run = "";
  const end = () => {
    const last = spans.at(-1);
    if (last && !run.trim()) last.text += run; // bold text may not end with white space
    else if (run) spans.push(span(author, run));
    run = "";
  };
  for (const [, character, stars, line, other] of oneKindOfLine(text).replace(/\n$/, "").matchAll(marked)) {
    if (stars) {
      end();
      author = author === "you" ? "model" : "you";
    } else run += character ?? (line ? "\n" : other);
  }
  end();
  return fromSpans(spans.some((one) => one.author === "you") ? spans : [span("you", spans.map((one) => one.text).join(""))]);
}

export function fromFile(name, text) {
  if (/\.json$/i.test(name) || text.trimStart().startsWith(`{"format": "${FORMAT}"`)) return fromJson(text);
  return /\.(md|markdown)$/i.test(name) ? fromMarkdown(text) : fromText(text);
}

export function fileName(title, ending) {
  const name = title.replace(/[^\p{L}\p{N} _-]/gu, "").trim().replace(/\s+/g, "-").slice(0, 40);
  return `${name || "text"}.${ending}`;
}
