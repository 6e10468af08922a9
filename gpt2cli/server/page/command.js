// The `gpt2 generate` line that makes a text of the model's again.

const LONG = 60000; // bytes; one argument may have 128 kB at most where arguments are shortest

export const quoted = (text) => (/^[\w./:@%+,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

// `made` is what a version remembers, `prompt` the text before it, `parameters` the server's list.
export function commandFor(made, prompt, parameters) {
  const words = ["gpt2", "generate", "-m", quoted(made.model)];
  if (made.precision) words.push("--precision", quoted(made.precision));
  words.push("-s", String(made.seed));
  for (const one of parameters) {
    if (one.name !== "seed") words.push(...flag(one, made.settings[one.name]));
  }
  if (made.interrupted) words.push(...tokens(words, made.tokens));
  if (made.row) words.push("-N", String(made.row + 1));
  const bytes = new TextEncoder().encode(prompt).length;
  if (bytes > LONG || prompt === "-") return `printf '%s\\n' ${quoted(prompt)} | ${words.join(" ")}`;
  return `${words.join(" ")} ${prompt.startsWith("-") ? "-- " : ""}${quoted(prompt) || "''"}`;
}

function flag({ name, flag, kind, default: usual }, value) {
  if (value === undefined || JSON.stringify(value) === JSON.stringify(usual)) return [];
  if (kind === "bool") return value ? [flag] : [];
  if (kind === "text list") return value.map((text) => `${flag}=${quoted(text)}`);
  return [name === "max_tokens" ? "-n" : flag, value === null ? "-1" : String(value)];
}

// The text was stopped by hand: as many tokens as there were.
function tokens(words, count) {
  const place = words.indexOf("-n");
  if (place >= 0) words.splice(place, 2);
  return ["-n", String(count)];
}
