// The tree of versions of one document. A version is its parent and one change of it; none is ever removed or changed,
// but for its name. Ids are random, so that two tabs on one document add to one tree and overwrite nothing.

import { lengthOf, newId, splice, textOf } from "./spans.js";

const CACHED = 40;

export class Versions {
  constructor(id = newId()) {
    this.id = id;
    this.root = id;
    this.all = new Map([[id, { id, doc: id, parent: null, at: 0, cut: 0, put: [], when: Date.now() }]]);
    this.cache = new Map();
  }

  // Versions that stand in any order; those whose parent is unknown are left out.
  static from(id, records) {
    const versions = new Versions(id);
    const waiting = new Map();
    for (const one of records) {
      if (one.id === id) versions.all.set(id, one);
      else if (waiting.has(one.parent)) waiting.get(one.parent).push(one);
      else waiting.set(one.parent, [one]);
    }
    const places = [id];
    while (places.length) {
      for (const one of waiting.get(places.pop()) ?? []) {
        versions.all.set(one.id, one);
        places.push(one.id);
      }
    }
    return versions;
  }

  // `change` is {at, cut, put} and, of a text of the model's, {made}: what made it.
  add(parent, change) {
    const version = { id: newId(), doc: this.id, parent, when: Date.now(), ...change };
    this.all.set(version.id, version);
    return version;
  }

  has(id) {
    return this.all.has(id);
  }

  get(id) {
    return this.all.get(id);
  }

  path(id) {
    const path = [];
    for (let one = this.get(id); one; one = this.get(one.parent)) path.push(one);
    return path.reverse();
  }

  spansAt(id) {
    const steps = [];
    let one = this.get(id);
    while (one && !this.cache.has(one.id) && one.parent !== null) {
      steps.push(one);
      one = this.get(one.parent);
    }
    let spans = this.cache.get(one.id) ?? [];
    for (const step of steps.reverse()) spans = splice(spans, step.at, step.cut, step.put);
    this.cache.delete(id);
    this.cache.set(id, spans);
    if (this.cache.size > CACHED) this.cache.delete(this.cache.keys().next().value);
    return spans;
  }

  textAt(id) {
    return textOf(this.spansAt(id));
  }

  lengthAt(id) {
    return lengthOf(this.spansAt(id));
  }

  // Parent to children, oldest first.
  families() {
    const families = new Map();
    for (const one of this.inOrder()) {
      if (one.parent === null) continue;
      if (families.has(one.parent)) families.get(one.parent).push(one);
      else families.set(one.parent, [one]);
    }
    return families;
  }

  // Parents stand before their children, whatever a clock said.
  inOrder() {
    return [...this.all.values()];
  }

  // A run of typing after which one typed on: nobody looks for it in a list, or in a file.
  isPassing(version, children, current) {
    if (version.made || version.parent === null || version.name || version.id === current) return false;
    return children.length === 1 && !children[0].made;
  }

  // The last version at or before `id` that the model made.
  lastMade(id) {
    return this.path(id).findLast((one) => one.made) ?? null;
  }

  // One word that is no number: the REPL's rule, so that each name may travel there.
  nameFor(wish) {
    const name = wish.trim().replace(/\s+/gu, "-").replace(/[\p{C}\p{Z}]/gu, "");
    return !name ? null : /^\p{Nd}+$/u.test(name) ? `v${name}` : name;
  }

  named(name) {
    return this.inOrder().find((one) => one.name === name) ?? null;
  }
}
