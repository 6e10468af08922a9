// Before the page is drawn, so that a dark page never flashes white.
{
  const read = (name) => {
    try {
      return JSON.parse(localStorage.getItem(`gpt2.${name}`));
    } catch {
      return null;
    }
  };
  document.documentElement.dataset.theme = read("theme") ?? "auto";
  document.documentElement.dataset.size = read("size") ?? "medium";
}
