// Whether the server is there, which model it has, and which parameters there are. It may go away and come back.

const WATCH = 15000;
const AGAIN = [1000, 2000, 3000, 5000];

async function json(path) {
  const response = await fetch(path, { cache: "no-store" });
  if (!response.ok) throw new Error(String(response.status));
  return response.json();
}

export class Server {
  constructor() {
    this.state = "unknown"; // ready, loading, locked or away
    this.changed = () => {};
    this.model = null;
    this.parameters = [];
    this.missed = 0;
  }

  start() {
    document.addEventListener("visibilitychange", () => document.hidden || this.look());
    addEventListener("online", () => this.look());
    return this.look();
  }

  // Called by whoever found it missing, too.
  async look() {
    clearTimeout(this.timer);
    const state = await this.#ask();
    this.missed = state === "ready" ? 0 : this.missed + 1;
    if (state !== this.state) {
      const before = this.state;
      this.state = state;
      this.changed(before);
    }
    const wait = state === "ready" ? WATCH : AGAIN[Math.min(this.missed, AGAIN.length) - 1];
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.look(), wait);
  }

  // Another model is there now.
  renew() {
    this.state = "unknown";
    return this.look();
  }

  async #ask() {
    try {
      const response = await fetch("/health", { cache: "no-store" });
      if (response.status === 503) return "loading";
      if (!response.ok) return "away";
      if (this.state !== "ready") await this.#learn();
      return "ready";
    } catch (reason) {
      return reason.message === "401" ? "locked" : "away";
    }
  }

  async #learn() {
    this.model = (await json("/v1/models")).data.at(-1); // after its other names
    this.parameters = await json("/parameters");
  }
}
