// Where questions are written: Enter sends, Shift+Enter begins a line, Escape stops. Sends nothing itself.

import { el, fill, say } from "./dom.js";

/** `onSend(text)` and `onStop()` are called; `show` puts a thread's state into it. */
export class Composer {
  constructor({ onSend, onStop }) {
    this.onSend = onSend;
    this.onStop = onStop;
    this.input = el("textarea", { rows: 1, placeholder: "Ask something", "aria-label": "Your question", enterKeyHint: "send" });
    this.toggle = el("button.quiet", { type: "button", "aria-expanded": "false", "aria-controls": "options" }, "Options");
    this.extra = el("div.extra");
    this.hint = el("span.hint", {}, "Enter sends, Shift+Enter starts a new line");
    this.button = el("button.primary.send", { type: "button" }, "Send");
    this.panel = el("div.panel", { id: "options", hidden: true });
    this.node = el(
      "div.composer",
      {},
      this.panel,
      el("div.box", {}, this.input, el("div.bar", {}, this.toggle, this.extra, this.hint, this.button)),
    );
    this.#listen();
  }

  /** A thread's form, its other controls, and whether it is being answered. */
  show({ form, extra, isRunning }) {
    fill(this.panel, form.node);
    fill(this.extra, extra);
    this.form = form;
    this.running(isRunning);
    this.counted();
  }

  running(isRunning) {
    this.isRunning = isRunning;
    say(this.button, isRunning ? "Stop" : "Send");
    this.button.classList.toggle("stop", isRunning);
    this.#enable();
  }

  counted() {
    const count = this.form?.count ?? 0;
    this.#enable();
    say(this.toggle, count ? `Options (${count})` : "Options");
  }

  open(isOpen) {
    this.panel.hidden = !isOpen;
    this.toggle.setAttribute("aria-expanded", String(isOpen));
  }

  write(text) {
    this.input.value = text;
    this.#fit();
    this.#enable();
    this.input.focus();
    this.input.setSelectionRange(text.length, text.length);
  }

  #listen() {
    this.input.addEventListener("input", () => {
      this.#fit();
      this.#enable();
    });
    this.input.addEventListener("keydown", (event) => this.#key(event));
    this.button.addEventListener("click", () => (this.isRunning ? this.onStop() : this.#send()));
    this.toggle.addEventListener("click", () => this.open(this.panel.hidden));
    this.panel.addEventListener("input", () => this.counted());
  }

  #key(event) {
    if (event.key === "Escape" && this.isRunning) this.onStop();
    // While a word of Chinese or Japanese is being composed, Enter belongs to it.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!this.isRunning) this.#send();
  }

  #send() {
    const text = this.input.value;
    if (!text.trim() && !this.form?.hasInput) return;
    if (this.onSend(text) === false) return;
    this.input.value = "";
    this.#fit();
    this.#enable();
  }

  #fit() {
    this.input.style.height = "auto";
    this.input.style.height = `${Math.min(this.input.scrollHeight, innerHeight * 0.4)}px`;
  }

  #enable() {
    this.button.disabled = !this.isRunning && !this.input.value.trim() && !this.form?.hasInput;
  }
}
