// Server-sent events as the gateway sends them: text in, records, comments and the end out. Pure.

/**
 * Feed it pieces of the body, whole lines or not; `events` are, in order,
 * {comment: text}, {record: object} and {done: true}.
 */
export class EventReader {
  #rest = [];
  #data = [];

  /** The events that `text` completes. */
  feed(text) {
    this.#rest.push(text);
    if (!text.includes("\n")) return []; // a long line comes in many pieces
    const lines = this.#rest.join("").split("\n");
    this.#rest = [lines.pop()];
    return lines.flatMap((line) => this.#line(line.endsWith("\r") ? line.slice(0, -1) : line));
  }

  #line(line) {
    if (line.startsWith(":")) return [{ comment: line.slice(1).trim() }];
    if (line.startsWith("data:")) this.#data.push(line.slice(line[5] === " " ? 6 : 5));
    return line === "" ? this.#event() : [];
  }

  #event() {
    if (!this.#data.length) return [];
    const data = this.#data.join("\n");
    this.#data = [];
    return [data === "[DONE]" ? { done: true } : { record: JSON.parse(data) }];
  }
}
