// One thread of questions in a category: what is asked next, and the answer as it streams in.

import { AnswerView } from "./answer_view.js";
import { el } from "./dom.js";
import { when } from "./format.js";
import { OptionError } from "./options.js";

/** `onState(thread)` is told when it begins or ends to run, and when it has become a kept session. */
export class Thread {
  #abort = null;

  constructor({ api, row, form, onState, onGrow }) {
    Object.assign(this, { api, row, form, onState, onGrow });
    this.node = el("div.thread");
    this.session = null;
    this.persona = "";
  }

  get isRunning() {
    return this.#abort !== null;
  }

  get isEmpty() {
    return !this.node.childElementCount;
  }

  /** Ask `prompt`; false where the form has to be mended first. */
  send(prompt, { onRefused }) {
    if (this.isRunning) return false;
    let values;
    try {
      values = this.form.values();
    } catch (error) {
      if (!(error instanceof OptionError)) throw error;
      onRefused(error.param, error.message);
      return false;
    }
    this.#run(prompt, this.#body(prompt, values), onRefused);
    return true;
  }

  stop() {
    this.#abort?.abort();
  }

  /** Fill the thread with a kept session's turns. */
  open(session) {
    this.session = { id: session.id, title: session.title };
    this.persona = session.persona ?? "";
    this.node.replaceChildren(
      ...session.turns.map((turn) => {
        const view = new AnswerView({ prompt: turn.user, engine: this.row.engine, label: this.row.name });
        const stopped = turn.state === "cancelled" ? ", stopped" : "";
        view.told(turn.assistant, `${when(turn.created)}, ${turn.usage.completion_tokens} tokens${stopped}`);
        return view.node;
      }),
    );
  }

  #body(prompt, values) {
    const kept = this.row.converses ? this.#kept() : {};
    return { ...(prompt.trim() ? { prompt } : {}), category: this.row.category, ...kept, ...values };
  }

  #kept() {
    // A session keeps the persona that it began with; changing it there is a change of the session.
    return this.session ? { session_id: this.session.id } : { session: "new", ...(this.persona ? { persona: this.persona } : {}) };
  }

  async #run(prompt, body, onRefused) {
    const view = new AnswerView({
      prompt,
      engine: this.row.engine,
      label: this.row.name,
      onChange: this.onGrow,
      onAgain: () => this.send(prompt, { onRefused }),
      // What is kept in a session was said once.
      isRepeatable: !this.row.converses,
    });
    this.node.append(view.node);
    this.#abort = new AbortController();
    view.begin();
    this.onState(this);
    this.onGrow(true);
    try {
      await this.#relay(body, view);
    } catch (error) {
      this.#ended(error, view, onRefused);
    } finally {
      this.#abort = null;
      this.onState(this);
    }
  }

  async #relay(body, view) {
    for await (const { opened, comment, record } of this.api.stream(body, this.#abort.signal)) {
      if (opened) this.#opened(opened);
      else if (comment !== undefined) view.waitFor(comment);
      else if (record?.delta !== undefined) view.add(record.delta);
      else if (record?.attempt) view.attempt(record.attempt);
      else if (record) view.done(record);
    }
  }

  #opened({ sessionId }) {
    if (sessionId && !this.session) this.session = { id: sessionId, title: "" };
  }

  #ended(error, view, onRefused) {
    if (error.name === "AbortError") {
      view.stopped();
      return;
    }
    if (!("status" in error)) throw error;
    if (error.code === "session_not_found") this.session = null;
    view.failed(error);
    if (error.param) onRefused(error.param, error.message);
  }
}
