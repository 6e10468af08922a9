// Other tabs of this page. They share the documents; each opens its own.

const PATIENCE = 150;

export class Tabs {
  constructor(current) {
    this.channel = new BroadcastChannel("gpt2");
    this.open = new Set();
    this.changed = () => {};
    this.removed = () => {}; // (id): another tab has deleted a document
    this.channel.addEventListener("message", ({ data }) => {
      if (data.asks) this.channel.postMessage({ open: current() });
      if (data.open) this.open.add(data.open);
      if (data.saved) this.changed();
      if (data.removed) this.removed(data.removed);
    });
  }

  // The documents that other tabs have open.
  async documents() {
    this.open.clear();
    this.channel.postMessage({ asks: true });
    await new Promise((resolve) => setTimeout(resolve, PATIENCE));
    return this.open;
  }

  saved() {
    this.channel.postMessage({ saved: true });
  }

  remove(id) {
    this.channel.postMessage({ removed: id });
  }
}
