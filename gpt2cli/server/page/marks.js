// Stretches of the text that are marked: {start, end, name}, in order.

// What the model wrote.
export function models(spans) {
  const marks = [];
  let at = 0;
  for (const { author, text } of spans) {
    if (author === "model") extend(marks, { start: at, end: at + text.length, name: "model" });
    at += text.length;
  }
  return marks;
}

// Neighbours with one name are one stretch.
export function extend(marks, mark) {
  const last = marks.at(-1);
  if (last?.name === mark.name && last.end === mark.start) last.end = mark.end;
  else marks.push(mark);
}

// White space at the edges would make marks ragged.
export function trimmed({ start, end, name }, text) {
  const blank = (place) => text[place] === " " || text[place] === "\n";
  let first = start;
  let last = end;
  while (first < last && blank(first)) first++;
  while (last > first && blank(last - 1)) last--;
  return { start: first, end: last, name };
}
