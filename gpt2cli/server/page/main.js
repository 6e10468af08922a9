// The page: its parts, and what each tells the others.

import { Editor } from "./editor.js";
import { FilePanel } from "./filepanel.js";
import { reveal } from "./floating.js";
import { fromSpans } from "./formats.js";
import { Inspector } from "./inspector.js";
import { Keeper, titleOf, words } from "./keeper.js";
import { Keys } from "./keys.js";
import { models, trimmed } from "./marks.js";
import { Overlay } from "./overlay.js";
import { Panels } from "./panels.js";
import { Server } from "./server.js";
import { Settings } from "./settings.js";
import { SettingsForm } from "./settingsform.js";
import { Status } from "./status.js";
import { local, session, Store } from "./store.js";
import { Suggestions } from "./suggestions.js";
import { Tabs } from "./tabs.js";
import { TextList } from "./textlist.js";
import { Tokens } from "./tokens.js";
import { VersionList } from "./versionlist.js";
import { Why } from "./why.js";
import { ordinal, percent, shown } from "./words.js";
import { Writer } from "./writer.js";

const BACK = 4000; // milliseconds after the last key until the controls step forward again

const $ = (id) => document.getElementById(id);
const root = document.documentElement;
const field = $("text");

const store = await Store.open();
const editor = new Editor(field);
const keeper = new Keeper(store, editor);
const tabs = new Tabs(() => editor.versions?.id);
const status = new Status($("status"), $("spoken"));
const server = new Server();
const settings = new Settings();
const tokens = new Tokens();
const overlay = new Overlay($("overlay"));
const writer = new Writer({ editor, tokens, settings, server, status });
const inspector = new Inspector({ editor, tokens, writer, status });
const floor = () => $("dock").getBoundingClientRect().top;
const suggestions = new Suggestions({ list: $("suggestions"), field, writer, overlay, status, floor });
const why = new Why({ node: $("why"), field, overlay, tokens, inspector, writer, server, status });
const keys = new Keys({ field, editor, writer, suggestions, why, status });
const file = new FilePanel({ node: $("file"), editor, settings, status, imported: begin });
const versions = new VersionList({ node: $("versions"), editor, keeper, status });
const settingsForm = new SettingsForm({ node: $("settings"), settings });
const texts = new TextList({ node: $("texts"), store, current: () => editor.versions.id, open, begin, removed });
const section = (name, title, part) => ({ node: $(name), opener: $(`open-${name}`), title, draw: () => part.draw() });
const panels = new Panels({
  panel: $("panel"),
  scrim: $("scrim"),
  rest: [document.querySelector(".bar"), $("main"), $("dock")],
  sections: {
    texts: section("texts", "Texts", texts),
    versions: section("versions", "Versions", versions),
    file: section("file", "File", file),
    settings: section("settings", "Settings", settingsForm),
  },
});

// What is drawn

function marks() {
  const kind = $("marks").value;
  const found = kind === "surprise" ? tokens.marks() : kind === "who" ? models(editor.spans) : [];
  return found.map((mark) => trimmed(mark, editor.text)).filter(({ start, end }) => start < end);
}

const LEFTWARDS = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\ud802\ud803\ud83a\ud83b]/;

function draw() {
  root.classList.toggle("both-ways", LEFTWARDS.test(editor.text));
  overlay.draw(editor.text, marks());
}

function drawControls() {
  const { busy } = writer;
  field.setAttribute("aria-busy", String(busy));
  root.classList.toggle("busy", busy);
  $("go").textContent = busy ? "Stop" : "Go on";
  $("go").title = busy ? "Esc" : "Ctrl Enter";
  $("undo").disabled = !editor.history.canUndo && !editor.pending;
  $("redo").disabled = !editor.history.canRedo || Boolean(editor.pending);
  $("legend").hidden = $("marks").value !== "surprise";
}

function drawAbout() {
  const index = document.activeElement === field && !writer.busy ? tokens.at(field.selectionEnd - 1) : -1;
  const entry = tokens.list[index]?.entry;
  const token = entry?.rank ? `${shown(entry)}  ${percent(entry.logprob)}, ${ordinal(entry.rank)}` : "";
  const count = words(editor.text);
  const rest = `${server.model?.id ?? ""}  ${count.toLocaleString("en")} ${count === 1 ? "word" : "words"}`;
  $("about").textContent = token || rest.trim();
}

function drawTitle() {
  const title = titleOf(editor.text);
  $("title").textContent = title;
  document.title = title === "Untitled" ? "gpt2" : `${title} \u2013 gpt2`;
}

let slow;
function drawSlowly() {
  clearTimeout(slow);
  slow = setTimeout(() => {
    drawAbout();
    drawTitle();
  }, 150);
}

// What follows from what

editor.changed = ({ at }) => {
  tokens.edit(at);
  inspector.edited();
  if ($("marks").value === "surprise" && !writer.busy) inspector.later();
  draw();
  drawControls();
  drawSlowly();
};
editor.pendingChanged = () => {
  keeper.note();
  drawControls();
};
editor.committed = (version) => {
  drawControls();
  panels.update("versions", "file");
  return keeper.add(version);
};
keeper.saved = () => tabs.saved();
keeper.failed = () => status.always("This browser cannot keep the text. Export it before you leave.");
tabs.changed = () => panels.update("texts");
tabs.removed = (id) => (id === editor.versions.id ? keeper.addAll() : panels.update("texts"));
inspector.drawn = () => {
  draw();
  drawAbout();
};

let follows = true; // until the writer scrolls away
for (const kind of ["wheel", "touchmove"]) addEventListener(kind, () => (follows = false), { passive: true });
writer.drawn = () => {
  if ($("marks").value === "surprise") draw();
  if (follows) reveal(overlay.rect(writer.running?.shown ?? editor.caret), floor());
};
writer.changed = () => {
  follows = true;
  drawControls();
  drawSlowly();
  if (!writer.busy && $("marks").value === "surprise") inspector.later();
};
suggestions.changed = () => root.classList.toggle("choosing", suggestions.open);
why.silent = () => suggestions.open || root.classList.contains("writing");

server.changed = (before) => {
  settings.declare(server.parameters);
  panels.update("settings");
  drawAbout();
  const words = {
    away: "The server does not answer. Your text is kept; the page tries again.",
    loading: "The model is being loaded.",
    locked: "The server wants its key. Reload the page to give it.",
  };
  status.always(words[server.state] ?? "");
  if (server.state === "ready" && before === "away") status.say("The server is back.");
  root.dataset.server = server.state;
};

// Controls

$("go").addEventListener("click", () => (writer.busy ? writer.stop() : keys.goOn()));
$("suggest").addEventListener("click", () => {
  field.focus();
  suggestions.ask();
});
$("ask").addEventListener("click", () => why.atCaret());
$("undo").addEventListener("click", () => {
  writer.stop();
  editor.undo();
});
$("redo").addEventListener("click", () => editor.redo());
$("marks").value = local.get("marks", "who");
$("marks").addEventListener("change", () => {
  local.set("marks", $("marks").value);
  draw();
  drawControls();
  if ($("marks").value === "surprise") inspector.read();
});
document.addEventListener("selectionchange", drawSlowly);
addEventListener("resize", () => {
  suggestions.close();
  why.close(false);
});
addEventListener("pointerdown", (event) => {
  if (!event.target.closest(".floating")) why.close(false);
  if (!event.target.closest("#suggestions, #suggest")) suggestions.close();
});

// While one writes, the controls step back.
let calm;
field.addEventListener("input", () => {
  root.classList.add("writing");
  clearTimeout(calm);
  calm = setTimeout(() => root.classList.remove("writing"), BACK);
});
for (const kind of ["pointermove", "focusin"]) addEventListener(kind, () => root.classList.remove("writing"));

// Documents

async function open(id) {
  writer.stop();
  editor.commit();
  show(await keeper.load(id));
}

function begin(document = fromSpans([])) {
  writer.stop();
  if (editor.versions) editor.commit();
  for (const version of document.versions.inOrder().slice(1)) keeper.unsaved.push(version);
  const { versions, history } = document;
  show({ versions, history, caret: null });
  keeper.begin(versions, history);
}

function show({ versions, history, caret }) {
  suggestions.close();
  tokens.clear();
  keeper.versions = versions;
  keeper.history = history;
  editor.open(versions, history);
  if (caret !== null) editor.caret = Math.min(caret, editor.text.length);
  window.history.replaceState(null, "", `#${versions.id}`);
  keeper.noteTab();
  drawControls();
  drawTitle();
  panels.update("texts", "versions", "file");
}

function removed(id) {
  tabs.remove(id);
  if (id === editor.versions.id) begin();
}

async function first() {
  const wanted = location.hash.slice(1) || session.get("tab")?.doc;
  if (wanted && (wanted === session.get("tab")?.doc || (await store.document(wanted)))) return open(wanted);
  const taken = await tabs.documents();
  const latest = (await store.documents()).find((head) => !taken.has(head.id));
  return latest ? open(latest.id) : begin();
}

addEventListener("hashchange", () => {
  const id = location.hash.slice(1);
  if (id && id !== editor.versions.id) open(id);
});
addEventListener("pagehide", () => {
  writer.stop();
  editor.commit();
  keeper.note();
});
document.addEventListener("visibilitychange", () => document.hidden && keeper.noteTab());

if (!store.keeps) keeper.failed();
await first();
root.dataset.ready = "yes";
field.focus({ preventScroll: true });
reveal(overlay.rect(editor.caret), floor());
await server.start();
