// The chat: which category and thread is open, and how sidebar, thread and composer go together.

import { Composer } from "./composer.js";
import { el, fill, say } from "./dom.js";
import { errorView } from "./error_view.js";
import { examplesOf } from "./examples.js";
import { KeptSessions } from "./kept.js";
import { describe, stateOf } from "./models.js";
import { OptionsForm } from "./options_view.js";
import { CategoryList } from "./sidebar.js";
import { Thread } from "./thread.js";

const NEAR_PX = 80;

export class Chat {
  #rows = [];
  #personas = [];
  #threads = new Map();
  #forms = new Map();
  #current = null;
  #picked = null;
  #follows = true;

  constructor({ api, onPicked, onStarted }) {
    Object.assign(this, { api, onPicked, onStarted });
    this.categories = new CategoryList({ onPick: (category) => this.pick(category) });
    this.kept = new KeptSessions({
      api,
      onOpened: (session) => this.#openSession(session),
      onDeleted: (id) => this.#deleted(id),
      onNew: () => this.#begin(this.#conversational()),
      onError: (error) => this.#complain(error),
    });
    this.composer = new Composer({ onSend: (text) => this.#send(text), onStop: () => this.#current?.stop() });
    this.#build();
  }

  #build() {
    this.menu = el("button.quiet.menu", { type: "button", "aria-expanded": "false", "aria-controls": "sidebar" }, "☰ ");
    this.menu.append(el("span.wide", {}, "Categories"));
    this.name = el("h1");
    this.about = el("p.about");
    this.dot = el("span.dot");
    this.scroller = el("div.scroller", { tabIndex: -1 });
    this.sidebar = el("aside.sidebar", { id: "sidebar" }, this.categories.node, this.kept.node);
    const veil = el("div.veil", { onclick: () => this.#drawer(false) });
    const head = el("header.subject", {}, this.menu, el("div", {}, el("div.title", {}, this.dot, this.name), this.about));
    this.node = el("div.chat", {}, this.sidebar, veil, el("section.stage", {}, head, this.scroller, this.composer.node));
    // Who has scrolled up to read is left there while the answer grows.
    this.scroller.addEventListener("scroll", () => {
      const { scrollTop, scrollHeight, clientHeight } = this.scroller;
      this.#follows = scrollHeight - scrollTop - clientHeight < NEAR_PX;
    });
    this.menu.addEventListener("click", () => this.#drawer(!this.node.classList.contains("drawn")));
    this.node.addEventListener("keydown", (event) => event.key === "Escape" && this.#drawer(false));
  }

  /** New rows of `/models`. */
  update(rows, personas) {
    if (!this.#rows.length && rows.some((row) => row.converses)) this.kept.refresh();
    this.#rows = rows;
    this.#personas = personas;
    this.kept.node.hidden = !rows.some((row) => row.converses);
    this.#head();
  }

  /** Open a category's thread, the newest of it. */
  async pick(category) {
    const row = this.#row(category) ?? this.#rows[0];
    if (!row) return;
    this.#picked = row.category;
    await this.#formOf(row);
    if (this.#picked !== row.category) return; // another one was picked meanwhile
    this.#show(this.#threads.get(row.category) ?? this.#thread(row));
    this.#drawer(false);
    this.onPicked(row.category);
  }

  async #formOf({ category }) {
    if (this.#forms.has(category)) return;
    const schema = await this.#schemaOf(category);
    if (!this.#forms.has(category)) this.#forms.set(category, new OptionsForm(schema));
  }

  async #schemaOf(category) {
    try {
      return (await this.api.get(`/models/${encodeURIComponent(category)}`)).options ?? null;
    } catch (error) {
      if (!("status" in error)) throw error;
      this.#complain(error);
      return null; // options are then written as JSON
    }
  }

  /** Whether an answer is being waited for. */
  get isBusy() {
    return [...this.#threads.values()].some((thread) => thread.isRunning);
  }

  get category() {
    return this.#current?.row.category ?? null;
  }

  #row(category) {
    return this.#rows.find((row) => row.category === category);
  }

  #conversational() {
    const current = this.#current?.row;
    return current?.converses ? current : this.#rows.find((row) => row.converses);
  }

  #thread(row) {
    const thread = new Thread({
      api: this.api,
      row,
      form: this.#forms.get(row.category),
      onState: (one) => this.#changed(one),
      onGrow: (mustFollow) => this.#follow(thread, mustFollow === true),
    });
    this.#threads.set(row.category, thread);
    return thread;
  }

  #begin(row) {
    if (!row) return;
    this.#threads.delete(row.category);
    this.pick(row.category);
  }

  async #openSession(session) {
    const row = this.#row(session.category) ?? this.#conversational();
    if (!row) return;
    await this.#formOf(row);
    const thread = this.#thread(row);
    thread.open(session);
    await this.pick(row.category);
    this.#follow(thread, true);
  }

  #deleted(id) {
    for (const [category, thread] of this.#threads) {
      if (thread.session?.id !== id) continue;
      this.#threads.delete(category);
      if (thread === this.#current) this.pick(category);
    }
  }

  #send(text) {
    const thread = this.#current;
    if (thread.isEmpty) fill(this.scroller, thread.node);
    return thread.send(text, {
      onRefused: (param, message) => {
        if (thread === this.#current && thread.form.has(param)) this.composer.open(true);
        thread.form.complain(param, message);
      },
    });
  }

  #show(thread) {
    this.#current = thread;
    fill(this.scroller, thread.isEmpty ? this.#welcome(thread.row) : thread.node);
    this.composer.show({ form: thread.form, extra: this.#personaChoice(thread), isRunning: thread.isRunning });
    this.kept.show(thread.session?.id ?? null);
    this.#head();
    if (matchMedia("(min-width: 800px)").matches) this.composer.input.focus();
  }

  #head() {
    const row = this.#current && (this.#row(this.#current.row.category) ?? this.#current.row);
    this.categories.show(this.#rows, row?.category);
    if (!row) return;
    const { tone, text } = stateOf(row);
    this.dot.className = `dot ${tone}`;
    say(this.name, row.name);
    const error = row.state === "FAILED" && row.last_error ? `: ${row.last_error}` : "";
    say(this.about, `${text}${error} · ${describe(row)}`);
    this.about.title = this.about.textContent;
  }

  #welcome(row) {
    const { about, questions } = examplesOf(row.engine);
    const shared = row.shared_with.length;
    return el(
      "div.welcome",
      {},
      el("h2", {}, row.name),
      about && el("p", {}, about),
      el("div.examples", {}, questions.map((text) => el("button", { type: "button", onclick: () => this.composer.write(text) }, text))),
      el("p.note", {}, `Answered by ${row.model}${shared ? `, one copy for ${shared + 1} categories` : ""}, on this machine alone.`),
    );
  }

  #personaChoice(thread) {
    if (!thread.row.converses || !this.#personas.length) return null;
    const option = (name) => el("option", { value: name, selected: name === thread.persona }, name || "default persona");
    const choice = el("select", { "aria-label": "Persona" }, ["", ...this.#personas].map(option));
    choice.addEventListener("change", () => this.#personaChosen(thread, choice.value));
    return choice;
  }

  async #personaChosen(thread, name) {
    thread.persona = name;
    if (!thread.session) return;
    try {
      await this.api.patch(`/sessions/${thread.session.id}`, { persona: name || null });
    } catch (error) {
      this.#complain(error);
    }
  }

  #changed(thread) {
    this.onStarted();
    if (thread === this.#current) this.composer.running(thread.isRunning);
    if (thread.row.converses && !thread.isRunning) this.kept.refresh(this.#current?.session?.id ?? null);
  }

  #follow(thread, mustFollow) {
    if (thread !== this.#current) return;
    if (mustFollow || this.#follows) this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  #complain(error) {
    const box = errorView(error, el("button", { type: "button", onclick: () => box.remove() }, "Close"));
    this.scroller.prepend(box);
  }

  #drawer(isOpen) {
    this.node.classList.toggle("drawn", isOpen);
    this.menu.setAttribute("aria-expanded", String(isOpen));
    if (isOpen) this.sidebar.querySelector("[aria-current]")?.focus();
  }
}
