// Small dialogs: a text, a secret, a yes. Each resolves to what was given, or null.

import { el } from "./dom.js";

/** Ask for a line of text; `secret` hides it. */
export function askText({ title, text, value = "", label, action = "Save", secret = false }) {
  const input = el("input", { type: secret ? "password" : "text", value, required: true, autocomplete: "off", spellcheck: false });
  return open(title, text, action, el("label", {}, label, input), () => input.value.trim() || null);
}

/** Ask for the key that the gateway wants after `error`. */
export function askKey(error) {
  return askText({
    title: "This gateway asks for a key",
    text: `${error.code === "invalid_api_key" ? "That key is not valid. " : ""}It is kept for this tab alone, until the tab is closed. To make one: conductor keys create.`,
    label: "API key",
    action: "Use it",
    secret: true,
  });
}

/** Ask whether to go on. */
export function askYes({ title, text, action }) {
  return open(title, text, action, null, () => true, "danger");
}

function open(title, text, action, field, result, tone = "primary") {
  const dialog = el("dialog", { "aria-label": title });
  const cancel = el("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
  const form = el(
    "form",
    { noValidate: false },
    el("h2", {}, title),
    text && el("p", {}, text),
    field,
    el("div.buttons", {}, cancel, el(`button.${tone}`, { type: "submit" }, action)),
  );
  let given = null;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    given = result();
    dialog.close();
  });
  dialog.append(form);
  document.body.append(dialog);
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(given);
    });
    dialog.showModal();
  });
}
