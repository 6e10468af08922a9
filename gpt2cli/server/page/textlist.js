// All documents of this browser: open one, begin one, take one away.

import { make } from "./elements.js";

export class TextList {
  // `open(id)`, `begin()` and `removed(id)` are the page's.
  constructor({ node, store, current, open, begin, removed }) {
    Object.assign(this, { node, store, current, open, begin, removed });
  }

  async draw() {
    const fresh = make("button", { type: "button", id: "new-text", class: "wide" }, "New text");
    fresh.addEventListener("click", () => this.begin());
    const rows = (await this.store.documents()).map((head) => this.#row(head));
    const none = make("p", { class: "quiet" }, "Nothing is kept yet. What you write is kept in this browser, and nowhere else.");
    const had = document.activeElement?.id === "new-text";
    this.node.replaceChildren(fresh, rows.length ? make("ul", { class: "texts" }, ...rows) : none);
    if (had) fresh.focus();
  }

  #row(head) {
    const when = new Date(head.when).toLocaleDateString([], { day: "numeric", month: "short", year: "numeric" });
    const about = `${head.words.toLocaleString("en")} ${head.words === 1 ? "word" : "words"}, ${when}`;
    const link = make("a", { href: `#${head.id}` }, make("span", { class: "name" }, head.title), make("span", { class: "quiet" }, about));
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return; // another tab, as with every link
      event.preventDefault();
      this.open(head.id);
    });
    if (head.id === this.current()) link.setAttribute("aria-current", "true");
    return make("li", {}, link, this.#remove(head));
  }

  // Asked for twice, as it cannot be undone.
  #remove(head) {
    const button = make("button", { type: "button", class: "quiet", "aria-label": `Delete ${head.title}` }, "Delete");
    button.addEventListener("click", async () => {
      if (button.dataset.sure) {
        await this.store.remove(head.id);
        this.removed(head.id);
        this.draw();
        return;
      }
      button.dataset.sure = "yes";
      button.textContent = "For good?";
      button.setAttribute("aria-label", `Delete ${head.title} for good`);
    });
    button.addEventListener("blur", () => {
      delete button.dataset.sure;
      button.textContent = "Delete";
    });
    return button;
  }
}
