// What the page asks of the server, and what goes wrong on the way: a Trouble carries a text for people.

export class Trouble extends Error {
  constructor(key, given = {}) {
    super(key);
    this.key = key;
    this.given = given;
  }
}

export const models = async () => (await request("/models")).json();

// Rows → answers, in order, and milliseconds. One row is asked as one row.
export async function predict(model, row, signal) {
  const started = performance.now();
  const response = await request(`/predict/${encodeURIComponent(model)}`, row, signal);
  const answer = await response.json();
  return { answer, ms: performance.now() - started };
}

// The events of a streamed answer, parsed: for await (const event of events("/v1/completions", {...})).
export async function* events(path, asked, signal) {
  const response = await request(path, { ...asked, stream: true }, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      held += value;
      const pieces = held.split(/\r?\n\r?\n/);
      held = pieces.pop();
      for (const piece of pieces) {
        const data = piece.split(/\r?\n/).filter((line) => line.startsWith("data:"))
          .map((line) => line.slice(5).trimStart()).join("\n");
        if (!data) continue;
        if (data === "[DONE]") return;
        const event = JSON.parse(data);
        if (event.error) throw new Trouble("failed", { message: told(event) });
        yield event;
      }
    }
  } catch (error) {
    throw error instanceof TypeError ? new Trouble("unreachable") : error;
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function request(path, body, signal) {
  let response;
  try {
    response = await fetch(path, body === undefined ? { signal } : {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble("unreachable");
  }
  if (response.ok) return response;
  const message = told(await response.json().catch(() => ({})), response);
  if (response.status === 401) throw new Trouble("noKey");
  if (response.status === 413) throw new Trouble("tooLarge", { message });
  if (response.status === 429 || response.status === 503) {
    throw new Trouble("busy", { seconds: response.headers.get("Retry-After") || 1 });
  }
  throw new Trouble("failed", { message });
}

function told(body, response) {
  const error = body.error;
  if (typeof error === "string") return error;
  return error?.message || `${response?.status ?? ""} ${response?.statusText ?? ""}`.trim();
}
