// Keeps one document: new versions go to the database, what is not there yet to localStorage, where one is (and has
// been) to the tab's own sessionStorage.

import { History } from "./history.js";
import { newId } from "./spans.js";
import { local, session } from "./store.js";
import { Versions } from "./versions.js";

const TITLE = 60; // characters
const ORPHANED = 3600e3; // after an hour what a tab has left unsaved is nobody's any more

export class Keeper {
  constructor(store, editor) {
    this.store = store;
    this.editor = editor;
    this.failed = () => {}; // told when nothing can be kept
    this.saved = () => {};
    this.unsaved = [];
    this.key = `unsaved.${newId()}`;
  }

  // The document with this id and where this tab has been in it; what was not saved is brought back.
  async load(id) {
    const versions = Versions.from(id, await this.store.versions(id));
    const head = await this.store.document(id);
    const tab = session.get("tab");
    const mine = tab?.doc === id ? tab : null;
    let current = versions.has(mine?.current) ? mine.current : versions.has(head?.current) ? head.current : versions.root;
    for (const name of local.names("unsaved.")) {
      const left = local.get(name);
      const own = name === mine?.key;
      if (left?.doc !== id || (!own && Date.now() - left.when < ORPHANED)) continue;
      const last = this.#recover(versions, left);
      if (own && versions.has(left.current)) current = last ?? left.current;
      local.set(name, null);
    }
    const places = (mine?.places ?? []).filter((place) => versions.has(place));
    const history = places[mine?.index] === current ? new History(places, mine.index) : pathTo(versions, current);
    this.begin(versions, history);
    return { versions, history, caret: mine?.caret ?? null };
  }

  #recover(versions, left) {
    for (const version of left.versions) {
      if (versions.has(version.id) || !versions.has(version.parent)) continue;
      versions.all.set(version.id, version);
      this.unsaved.push(version);
    }
    if (!left.pending || !versions.has(left.current)) return null;
    const version = versions.add(left.current, left.pending);
    this.unsaved.push(version);
    return version.id;
  }

  begin(versions, history) {
    this.versions = versions;
    this.history = history;
    if (this.unsaved.length) this.flush();
  }

  // Of a typed letter: to the shelf that is written at once.
  note() {
    const { editor } = this;
    const pending = editor.pending ? editor.change() : null;
    const left = { doc: this.versions.id, when: Date.now(), current: editor.base, versions: this.unsaved, pending };
    const kept = local.set(this.key, pending || this.unsaved.length ? left : null);
    this.noteTab();
    if (!kept && !this.store.keeps) this.failed();
  }

  noteTab() {
    const { places, index } = this.history;
    const caret = this.editor.caret;
    const from = Math.max(0, index - 200);
    const recent = { places: places.slice(from, index + 200), index: index - from };
    session.set("tab", { doc: this.versions.id, key: this.key, current: this.editor.base, caret, ...recent });
  }

  add(version) {
    if (version) this.unsaved.push(version);
    this.note();
    return this.flush();
  }

  // The database has lost the document, which is being written here.
  addAll() {
    this.unsaved = this.versions.inOrder().filter((one) => one.parent !== null);
    return this.flush();
  }

  async flush() {
    const batch = [...this.unsaved];
    const { versions } = this;
    if (versions.all.size === 1 && !batch.length) return; // an empty document is not worth a place in the list
    const text = this.editor.text;
    const head = { id: versions.id, title: titleOf(text), current: this.editor.base, when: Date.now(), words: words(text) };
    try {
      await this.store.save(head, batch);
    } catch {
      this.failed();
      return;
    }
    this.saved();
    if (versions !== this.versions) return;
    this.unsaved = this.unsaved.filter((version) => !batch.includes(version));
    this.note();
  }
}

function pathTo(versions, id) {
  return new History(versions.path(id).map((one) => one.id));
}

// The first line, as far as whole words go.
export function titleOf(text) {
  const line = text.slice(0, 400).trim().split("\n", 1)[0].trimEnd();
  const start = [...line].slice(0, TITLE).join("");
  const whole = start.length < line.length ? `${start.replace(/\s+\S*$/u, "")}\u2026` : start;
  return whole.toWellFormed() || "Untitled";
}

export function words(text) {
  return text.match(/\S+/gu)?.length ?? 0;
}
