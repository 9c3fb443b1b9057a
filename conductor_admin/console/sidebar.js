// The list of categories with their states, and the kept conversations.

import { el, fill, say } from "./dom.js";
import { when } from "./format.js";
import { describe, stateOf } from "./models.js";

/** `onPick(category)` is called; rows are updated in place, so that focus and scroll position stay. */
export class CategoryList {
  #items = new Map();

  constructor({ onPick }) {
    this.onPick = onPick;
    this.list = el("ul.categories");
    this.node = el("nav", { "aria-label": "Categories" }, el("h2", {}, "Categories"), this.list);
  }

  show(rows, current) {
    const known = [...this.#items.keys()].join();
    if (known !== rows.map((row) => row.category).join()) this.#build(rows);
    for (const row of rows) this.#update(this.#items.get(row.category), row, row.category === current);
  }

  #build(rows) {
    this.#items = new Map(rows.map((row) => [row.category, this.#item(row)]));
    fill(this.list, [...this.#items.values()].map(({ button }) => el("li", {}, button)));
  }

  #item(row) {
    const dot = el("span.dot", { "aria-hidden": "true" });
    const state = el("span.state");
    const about = el("span.about");
    const button = el("button", { type: "button", onclick: () => this.onPick(row.category) }, dot, el("span.name", {}, row.name), state, about);
    return { button, dot, state, about };
  }

  #update({ button, dot, state, about }, row, isCurrent) {
    const { tone, text } = stateOf(row);
    dot.className = `dot ${tone}`;
    say(state, text);
    say(about, describe(row));
    if (isCurrent) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
    button.title = row.last_error ?? describe(row);
  }
}

/** Kept conversations; `onOpen`, `onRename`, `onDelete` and `onNew` are called. */
export class SessionList {
  constructor({ onOpen, onRename, onDelete, onNew, onMore }) {
    Object.assign(this, { onOpen, onRename, onDelete });
    this.list = el("ul.sessions");
    this.empty = el("p.note", {}, "Conversations in conversational categories are stored here.");
    this.more = el("button.quiet", { type: "button", onclick: onMore, hidden: true }, "Show more");
    this.node = el(
      "nav",
      { "aria-label": "Conversations" },
      el("div.heading", {}, el("h2", {}, "Conversations"), el("button.quiet", { type: "button", onclick: onNew }, "New")),
      this.empty,
      this.list,
      this.more,
    );
  }

  show(sessions, current, hasMore) {
    this.empty.hidden = sessions.length > 0;
    this.more.hidden = !hasMore;
    fill(this.list, sessions.map((session) => this.#item(session, session.id === current)));
  }

  #item(session, isCurrent) {
    return el(
      "li",
      {},
      el(
        "button.open",
        { type: "button", onclick: () => this.onOpen(session), "aria-current": isCurrent ? "true" : null },
        el("span.name", {}, session.title || "(no title)"),
        el("span.about", {}, [when(session.updated), session.persona].filter(Boolean).join(" · ")),
      ),
      el("button.quiet.icon", { type: "button", onclick: () => this.onRename(session), "aria-label": `Rename ${session.title}`, title: "Rename" }, "✎"),
      el("button.quiet.icon", { type: "button", onclick: () => this.onDelete(session), "aria-label": `Delete ${session.title}`, title: "Delete" }, "✕"),
    );
  }
}
