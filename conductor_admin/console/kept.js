// Kept conversations: read, opened, renamed and deleted through `/sessions`.

import { askText, askYes } from "./ask.js";
import { SessionList } from "./sidebar.js";

/** `onOpened(session)`, `onDeleted(id)`, `onNew()` and `onError(error)` are told. */
export class KeptSessions {
  #sessions = [];
  #next = null;
  #current = null;

  constructor({ api, onOpened, onDeleted, onNew, onError }) {
    Object.assign(this, { api, onOpened, onDeleted, onError });
    this.list = new SessionList({
      onOpen: (session) => this.#try(() => this.#open(session)),
      onRename: (session) => this.#try(() => this.#rename(session)),
      onDelete: (session) => this.#try(() => this.#delete(session)),
      onMore: () => this.#try(() => this.#more()),
      onNew,
    });
    this.node = this.list.node;
  }

  /** Read the newest ones again; `current` is the id of the one that is open. */
  async refresh(current = this.#current) {
    this.#current = current;
    await this.#try(async () => {
      const { sessions, next } = await this.api.get("/sessions");
      this.#sessions = sessions;
      this.#next = next;
    });
  }

  show(current) {
    this.#current = current;
    this.#show();
  }

  async #more() {
    const { sessions, next } = await this.api.get(`/sessions?cursor=${encodeURIComponent(this.#next)}`);
    this.#sessions = [...this.#sessions, ...sessions];
    this.#next = next;
  }

  async #open({ id }) {
    this.onOpened(await this.api.get(`/sessions/${id}`));
  }

  async #rename({ id, title }) {
    const given = await askText({ title: "Rename the conversation", label: "Title", value: title });
    if (!given || given === title) return;
    await this.api.patch(`/sessions/${id}`, { title: given.slice(0, 200) });
    await this.refresh();
  }

  async #delete({ id, title }) {
    const sure = await askYes({ title: "Delete the conversation?", text: `“${title}” and all its turns are gone for good.`, action: "Delete" });
    if (!sure) return;
    await this.api.delete(`/sessions/${id}`);
    this.onDeleted(id);
    await this.refresh();
  }

  async #try(work) {
    try {
      await work();
    } catch (error) {
      if (!("status" in error)) throw error;
      this.onError(error);
    }
    this.#show();
  }

  #show() {
    this.list.show(this.#sessions, this.#current, this.#next !== null);
  }
}
