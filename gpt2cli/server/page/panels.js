// The panel at the side, a sheet in narrow windows: one of four sections, or none.

const NARROW = matchMedia("(max-width: 860px)");

export class Panels {
  constructor({ panel, scrim, rest, sections }) {
    Object.assign(this, { panel, scrim, rest, sections });
    this.shown = null;
    for (const [name, { opener }] of Object.entries(sections)) {
      opener.addEventListener("click", () => (this.shown === name ? this.close() : this.open(name)));
    }
    panel.querySelector("#close").addEventListener("click", () => this.close());
    scrim.addEventListener("click", () => this.close());
    panel.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.defaultPrevented) return;
      event.preventDefault();
      this.close();
    });
    NARROW.addEventListener("change", () => this.#lay());
  }

  open(name) {
    this.shown = name;
    const { title } = this.sections[name];
    this.panel.querySelector("#panel-title").textContent = title;
    this.#lay();
    this.update();
    this.panel.querySelector("#close").focus();
  }

  close() {
    const { opener } = this.sections[this.shown] ?? {};
    this.shown = null;
    this.#lay();
    opener?.focus();
  }

  // Draws the section that is shown again, if it is one of `names`.
  update(...names) {
    if (this.shown && (!names.length || names.includes(this.shown))) this.sections[this.shown].draw();
  }

  #lay() {
    for (const [name, { node, opener }] of Object.entries(this.sections)) {
      node.hidden = name !== this.shown;
      opener.setAttribute("aria-expanded", String(name === this.shown));
    }
    const sheet = this.shown !== null && NARROW.matches;
    this.panel.hidden = this.shown === null;
    document.documentElement.classList.toggle("with-panel", this.shown !== null);
    this.scrim.hidden = !sheet;
    for (const node of this.rest) node.inert = sheet; // behind a sheet nothing can be reached
    if (sheet) this.panel.setAttribute("aria-modal", "true");
    else this.panel.removeAttribute("aria-modal");
    this.panel.setAttribute("role", sheet ? "dialog" : "complementary");
  }
}
