// Asking the server: one request, its answer token by token.

export class ServerError extends Error {
  constructor(message, { status = 0, retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }

  get away() {
    return this.status === 0;
  }
}

async function post(path, body, signal) {
  const request = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal };
  let response;
  try {
    response = await fetch(path, request);
  } catch (reason) {
    if (signal?.aborted) throw reason;
    throw new ServerError("The server does not answer.");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const { status } = response;
  if (status === 401) return new ServerError("The server wants its key. Reload the page to give it.", { status });
  let message = `The server answers ${status}.`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // the answer is not the server's own; its number is all there is to say
  }
  const retryAfter = status === 429 || status === 503 ? Number(response.headers.get("Retry-After")) || 2 : null;
  return new ServerError(message, { status, retryAfter });
}

// Yields the events of a stream until [DONE].
export async function* stream(body, signal) {
  const response = await post("/v1/completions", { ...body, stream: true, stream_options: { include_usage: true } }, signal);
  const reader = response.body.getReader();
  try {
    for await (const data of events(reader, signal)) {
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new ServerError(event.error.message, { status: 500 });
      yield event;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
  throw new ServerError("The server broke off.");
}

async function* events(reader, signal) {
  const decoder = new TextDecoder();
  let left = "";
  for (;;) {
    let piece;
    try {
      piece = await reader.read();
    } catch (reason) {
      if (signal?.aborted) throw reason;
      throw new ServerError("The server broke off.");
    }
    if (piece.done) return;
    const lines = (left + decoder.decode(piece.value, { stream: true })).split("\n");
    left = lines.pop();
    for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trim();
  }
}

// The tokens of a text that is there: one entry each; of a long text, those of its last window.
export async function inspect(text, alternatives, signal) {
  const asked = { prompt: text, max_tokens: 0, echo: true, logprobs: alternatives, return_token_ids: true, slide: true };
  const response = await post("/v1/completions", asked, signal);
  return (await response.json()).choices[0].logprobs.entries;
}

// What the model made of a text, as `gpt2 explain --json` prints it; of a text of more than `most` tokens, of the last. No
// start token precedes it, as none precedes what the model goes on from.
export async function explain(text, most, signal) {
  const { tokens } = await (await post("/tokenize", { content: text, parse_special: false }, signal)).json();
  if (tokens.length === 1) throw new ServerError("The first token: nothing precedes it.", { status: 400 });
  const response = await post("/explain", { prompt: tokens.slice(-most), start: false }, signal);
  const note = tokens.length > most ? `What the model makes of the last ${most} tokens alone, not of all before them.` : "";
  return { ...(await response.json()), note };
}

// The tokens of a choice that are text: `end`, which ended it, is none.
export const idsOfText = ({ token_ids: ids = [], end }) => (end === undefined ? ids : ids.slice(0, -1));
