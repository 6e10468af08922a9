// How tokens and numbers are written.

export const CLASSES = ["top10", "top100", "top1000", "beyond"];

// The number of a token's class, by its rank; null where it has none.
export function classOf({ rank }) {
  if (!rank) return null;
  return rank <= 10 ? 0 : rank <= 100 ? 1 : rank <= 1000 ? 2 : 3;
}

export const percent = (logprob) => {
  const value = Math.exp(logprob) * 100;
  if (value >= 99.95) return "100 %";
  const places = value >= 10 ? 1 : value >= 0.1 ? 2 : 3;
  return value < 0.0005 ? "< 0.001 %" : `${value.toFixed(places)} %`;
};

export function ordinal(rank) {
  const tens = rank % 100;
  const ending = tens > 10 && tens < 14 ? "th" : (["th", "st", "nd", "rd"][rank % 10] ?? "th");
  return `${rank.toLocaleString("en")}${ending}`;
}

// White space and control characters are made to be seen.
const SIGNS = { " ": "\u2423", "\n": "\u21b5", "\t": "\u21e5" };

export function shown({ token }) {
  const hex = (sign) => `\\x${sign.charCodeAt(0).toString(16).padStart(2, "0")}`;
  return token.replace(/[ \p{Cc}]/gu, (sign) => SIGNS[sign] ?? hex(sign)) || "(nothing)";
}

// The tokens, each with its `text`: the characters that are complete with it. One that only begins a character has none.
export function readable(tokens) {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const last = tokens.length - 1;
  return tokens.map((token, at) => ({
    ...token,
    text: decoder.decode(new Uint8Array(token.bytes), { stream: at < last }),
  }));
}
