// A failure on the page: what happened, what to do, the request's id.

import { el } from "./dom.js";
import { explain } from "./errors.js";

/** A box for `error`, with `actions` (buttons) below it. */
export function errorView(error, ...actions) {
  const { title, advice, id } = explain(error);
  return el(
    "div.failure",
    { role: "alert" },
    el("p.label", {}, title),
    advice && el("p", {}, marked(advice)),
    id && el("p.note", {}, "request id ", el("code", {}, id)),
    actions.length > 0 && el("div.buttons", {}, actions),
  );
}

function marked(text) {
  return text.split("`").map((part, n) => (n % 2 ? el("code", {}, part) : part));
}
