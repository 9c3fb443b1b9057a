// The gateway as the page sees it: JSON and streams over fetch, with the key that this tab was given.

import { ApiError, fromAnswer } from "./errors.js";
import { EventReader } from "./sse.js";

const KEY = "conductor.key";

/** Calls to the gateway; `askForKey(error)` resolves to a key, or to null where the person gives none. */
export class Api {
  #askForKey;
  #asking = null;
  #declined = false;

  constructor(askForKey) {
    this.#askForKey = askForKey;
  }

  get hasKey() {
    return Boolean(sessionStorage.getItem(KEY));
  }

  forgetKey() {
    sessionStorage.removeItem(KEY);
    this.askAgain();
  }

  /** The person who gave no key is asked again at the next refusal. */
  askAgain() {
    this.#declined = false;
  }

  async get(path) {
    return (await this.#send(path, { method: "GET" })).json();
  }

  async post(path, body) {
    return (await this.#send(path, withBody("POST", body))).json();
  }

  async patch(path, body) {
    return (await this.#send(path, withBody("PATCH", body))).json();
  }

  async delete(path) {
    return (await this.#send(path, { method: "DELETE" })).json();
  }

  /** Events of `/generate/stream` as they come, the first {opened: {requestId, sessionId}}; throws ApiError. */
  async *stream(body, signal) {
    const answer = await this.#send("/generate/stream", { ...withBody("POST", body), signal });
    const requestId = answer.headers.get("x-request-id");
    yield { opened: { requestId, sessionId: answer.headers.get("x-conductor-session") } };
    let isDone = false;
    for await (const event of eventsOf(answer.body)) {
      if (event.record?.error) throw new ApiError({ status: answer.status, ...event.record.error, requestId });
      isDone ||= Boolean(event.done);
      yield event;
    }
    if (!isDone) throw new ApiError({ message: "the answer ended too early", code: "cut_off", requestId });
  }

  async #send(path, init) {
    const answer = await this.#fetch(path, init);
    if (answer.ok) return answer;
    const error = fromAnswer(answer.status, await answer.text(), (name) => answer.headers.get(name));
    if (error.status !== 401 || this.#declined || !(await this.#newKey(error))) throw error;
    return this.#send(path, init);
  }

  async #fetch(path, init) {
    const key = sessionStorage.getItem(KEY);
    const headers = { ...init.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
    try {
      return await fetch(path, { ...init, headers, cache: "no-store", credentials: "omit" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError({ message: "the gateway does not answer", code: "unreachable" });
    }
  }

  async #newKey(error) {
    // Many calls may be refused at once; the person is asked once.
    this.#asking ??= this.#askForKey(error).finally(() => {
      this.#asking = null;
    });
    const key = await this.#asking;
    if (key) sessionStorage.setItem(KEY, key);
    else this.#declined = true;
    return Boolean(key);
  }
}

function withBody(method, body) {
  return body === undefined
    ? { method }
    : { method, body: JSON.stringify(body), headers: { "content-type": "application/json" } };
}

async function* eventsOf(body) {
  const events = new EventReader();
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { value, done } = await read(reader);
      if (done) return;
      yield* events.feed(value);
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

async function read(reader) {
  try {
    return await reader.read();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError({ message: "the connection was lost", code: "cut_off" });
  }
}
