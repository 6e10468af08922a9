// Begins a page: by day or by night, and filled by its view with the data that the page holds.

export function start(view) {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  theme.addEventListener("change", () => (root.dataset.theme = theme.value));
  const main = document.getElementById("view");
  main.className = "view";
  view(main, JSON.parse(document.getElementById("data").textContent));
  root.dataset.ready = "yes";
}
