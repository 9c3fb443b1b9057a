// One question and its answer on the page, from the wait to the findings. Knows records, sends nothing.

import { asMarkdown } from "./answer_text.js";
import { copyButton, el, fill, say } from "./dom.js";
import { errorView } from "./error_view.js";
import { findingsView } from "./findings_view.js";
import { figures, seconds, waiting } from "./format.js";
import { MarkdownView } from "./markdown_view.js";

/** `node` is what stands in the thread; `onChange` is called when it has grown. */
export class AnswerView {
  #text = "";
  #frame = null;
  #timer = null;
  #said = "Waiting for the model";

  constructor({ prompt, engine, label, onChange = () => undefined, onAgain = null, isRepeatable = false }) {
    Object.assign(this, { prompt, engine, onChange, onAgain, isRepeatable });
    this.body = el("div.text");
    this.earlier = el("div");
    this.after = el("div.after");
    this.words = el("span");
    this.clock = el("span.figure");
    this.bar = el("progress", { max: 1, "aria-label": "loading", hidden: true });
    this.status = el("div.status", { role: "status" }, el("span.pulse", { "aria-hidden": "true" }), this.words, this.bar, this.clock);
    this.view = new MarkdownView(this.body);
    this.after.addEventListener("load", () => this.onChange(), true); // a chart has its size only now
    const answer = el("article.answer", { "aria-label": `Answer of ${label}` }, this.earlier, this.body, this.status, this.after);
    this.node = el("div.exchange", {}, el("div.question", {}, el("p", {}, prompt)), answer);
  }

  /** The question was sent: count the seconds until something ends it. */
  begin() {
    this.started = performance.now();
    this.#timer = setInterval(() => this.#tick(), 100);
    this.#tick();
  }

  waitFor(comment) {
    const told = waiting(comment);
    if (!told || this.#text) return;
    this.#said = told.text;
    this.bar.hidden = told.share === null;
    if (told.share !== null) this.bar.value = told.share;
  }

  add(piece) {
    if (!this.#text) {
      this.first = performance.now() - this.started;
      this.#said = "Writing";
      this.bar.hidden = true;
    }
    this.#text += piece;
    this.#frame ??= requestAnimationFrame(() => this.#show());
  }

  /** What was written so far is taken back. */
  attempt(number) {
    this.#show();
    const taken = el("div.text", {}, ...this.body.childNodes);
    this.earlier.append(
      el("details.taken", {}, el("summary", {}, `Attempt ${number - 1} was not correct and is discarded; this is attempt ${number}`), taken),
    );
    this.#text = "";
    this.view = new MarkdownView(this.body);
    this.#said = `Writing attempt ${number}`;
    this.onChange();
  }

  done(record) {
    this.#end("");
    const empty = !this.#text.trim() && !record.findings?.embeddings;
    if (empty) this.body.append(el("p.note", {}, "The model returned no text."));
    const told = figures(record).map(([name, value, title]) => el("div", { title }, el("dt", {}, name), el("dd", {}, value)));
    this.after.append(
      ...[findingsView(record.findings)].filter(Boolean),
      el("div.foot", {}, el("dl.figures", {}, told), this.#buttons()),
    );
    this.onChange();
  }

  stopped() {
    this.#end("");
    this.after.append(el("div.foot", {}, el("p.note", {}, `Stopped after ${seconds((performance.now() - this.started) / 1000)}; generation was cancelled.`), this.#buttons()));
    this.onChange();
  }

  failed(error, ...actions) {
    this.#end("");
    const again = this.onAgain && el("button", { type: "button", onclick: this.onAgain }, "Try again");
    this.after.append(errorView(error, ...actions, ...(again ? [again] : [])));
    this.onChange();
  }

  /** An answer of an earlier day: its text and what is known of it. */
  told(text, note) {
    this.#text = text;
    this.#end("");
    this.after.append(el("div.foot", {}, el("p.note", {}, note), this.#buttons()));
  }

  #buttons() {
    const again = this.isRepeatable && el("button.quiet", { type: "button", onclick: this.onAgain, title: "Send the same prompt again with the current options" }, "Again");
    return el("div.actions", {}, this.#text ? copyButton(() => this.#text, "Copy answer") : null, again);
  }

  #tick() {
    say(this.words, this.#said);
    const elapsed = seconds((performance.now() - this.started) / 1000);
    say(this.clock, this.first === undefined ? elapsed : `${elapsed}, first token after ${seconds(this.first / 1000)}`);
  }

  #show() {
    if (this.#frame !== null) cancelAnimationFrame(this.#frame);
    this.#frame = null;
    this.view.show(asMarkdown(this.engine, this.#text, this.prompt));
    this.onChange();
  }

  #end(words) {
    clearInterval(this.#timer);
    this.#show();
    this.status.hidden = true;
    say(this.words, words);
    fill(this.clock);
  }
}
