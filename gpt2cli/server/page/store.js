// What the browser keeps. Versions are added one by one to a database; what is not yet a version lies in localStorage,
// which is written at once, so that not even a crash of the tab loses a word.

const NAME = "gpt2";

const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

export class Store {
  // Without a database (some private windows) the page works, and keeps nothing.
  static async open() {
    const store = new Store();
    try {
      const request = indexedDB.open(NAME, 1);
      request.onupgradeneeded = () => {
        request.result.createObjectStore("documents", { keyPath: "id" });
        request.result.createObjectStore("versions", { keyPath: "id" }).createIndex("doc", "doc");
      };
      store.database = await done(request);
    } catch {
      store.database = null;
    }
    return store;
  }

  get keeps() {
    return this.database !== null;
  }

  #at(name, mode = "readonly") {
    return this.database.transaction(name, mode).objectStore(name);
  }

  async documents() {
    if (!this.keeps) return [];
    const all = await done(this.#at("documents").getAll());
    return all.sort((one, other) => other.when - one.when);
  }

  async document(id) {
    return this.keeps ? done(this.#at("documents").get(id)) : undefined;
  }

  async versions(doc) {
    return this.keeps ? done(this.#at("versions").index("doc").getAll(doc)) : [];
  }

  // Versions and the document's head together; resolves when they are on the disk.
  async save(head, versions) {
    if (!this.keeps) return;
    const transaction = this.database.transaction(["documents", "versions"], "readwrite");
    transaction.objectStore("documents").put(head);
    for (const version of versions) transaction.objectStore("versions").put(version);
    await new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
    });
  }

  async remove(doc) {
    if (!this.keeps) return;
    const transaction = this.database.transaction(["documents", "versions"], "readwrite");
    transaction.objectStore("documents").delete(doc);
    const request = transaction.objectStore("versions").index("doc").openKeyCursor(doc);
    request.onsuccess = () => {
      if (!request.result) return;
      transaction.objectStore("versions").delete(request.result.primaryKey);
      request.result.continue();
    };
    await new Promise((resolve) => {
      transaction.oncomplete = resolve;
    });
  }
}

// Small things, by name: in this browser (`local`), or in this tab alone (`session`).
class Shelf {
  constructor(shelf) {
    this.shelf = shelf;
  }

  get(name, otherwise = null) {
    try {
      return JSON.parse(this.shelf().getItem(`gpt2.${name}`)) ?? otherwise;
    } catch {
      return otherwise;
    }
  }

  // Returns whether it was kept: the shelf may be full, or forbidden.
  set(name, value) {
    try {
      if (value === null) this.shelf().removeItem(`gpt2.${name}`);
      else this.shelf().setItem(`gpt2.${name}`, JSON.stringify(value));
      return true;
    } catch {
      return false;
    }
  }

  names(prefix) {
    try {
      const start = `gpt2.${prefix}`;
      return Object.keys(this.shelf()).filter((key) => key.startsWith(start)).map((key) => key.slice(5));
    } catch {
      return [];
    }
  }
}

export const local = new Shelf(() => localStorage);
export const session = new Shelf(() => sessionStorage);
