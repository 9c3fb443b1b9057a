// The form of an engine's options and of decoding, kept for each category while the page is open.

import { el, fill } from "./dom.js";
import { OptionError, fields, read, readJson } from "./options.js";

const INPUTS = ["inputs", "csv", "table"];
const SAMPLING = [
  { name: "temperature", kind: "number", least: 0, most: 2, description: "0 always takes the likeliest token" },
  { name: "max_tokens", kind: "integer", least: 1, most: null, description: "the answer's length at most" },
  { name: "top_p", kind: "number", least: 0, most: 1, description: "the share of likely tokens to choose from" },
  { name: "seed", kind: "integer", least: 0, most: null, description: "the same number, the same answer" },
].map((field) => ({ ...field, choices: [], initial: null, needed: false }));

/** One category's form; `values()` is what a request takes of it. */
export class OptionsForm {
  constructor(schema) {
    this.fields = schema ? fields(schema) : null;
    this.controls = new Map();
    const own = this.fields ? this.fields.map((field) => this.#row(field, "options")) : [this.#json()];
    this.node = el(
      "form.options",
      { onsubmit: (event) => event.preventDefault() },
      own.length > 0 && el("fieldset", {}, el("legend", {}, "Options of the engine"), own),
      el("fieldset", {}, el("legend", {}, "Decoding"), SAMPLING.map((field) => this.#row(field, "sampling"))),
    );
  }

  /** {options, ...sampling}; throws OptionError naming the field. */
  values() {
    this.clear();
    for (const [key, { control }] of this.controls) {
      if (!control.checkValidity()) throw new OptionError(key, control.validationMessage);
    }
    const options = this.fields ? read(this.fields, this.#typed("options")) : readJson(this.#typed("options").options);
    return { ...(Object.keys(options).length ? { options } : {}), ...read(SAMPLING, this.#typed("sampling")) };
  }

  /** Whether an option says what the request is about, so that it needs no prompt. */
  get hasInput() {
    return INPUTS.some((name) => this.controls.get(`options.${name}`)?.control.value.trim());
  }

  /** How many fields say something. */
  get count() {
    return [...this.controls.values()].filter(({ control, initial }) => isSet(control, initial)).length;
  }

  clear() {
    for (const { control, error } of this.controls.values()) {
      fill(error);
      control.removeAttribute("aria-invalid");
    }
  }

  /** Whether the form has the field that `param` of an error names. */
  has(param) {
    return this.#named(param) !== undefined;
  }

  /** Say `message` beside the field that `param` of an error names. */
  complain(param, message) {
    const found = this.#named(param);
    if (!found) return;
    found.error.textContent = message;
    found.control.setAttribute("aria-invalid", "true");
    found.control.focus();
  }

  #named(param) {
    const option = /^options(?:\.[^.[]+)?/.exec(param)?.[0];
    return this.controls.get(option ?? `sampling.${param}`) ?? (option && this.controls.get("options.options"));
  }

  #typed(group) {
    const own = [...this.controls.values()].filter((one) => one.group === group);
    return Object.fromEntries(own.map(({ control }) => [control.name, control.type === "checkbox" ? control.checked : control.value]));
  }

  #row(field, group) {
    const id = `${group}-${field.name}`;
    const control = controlOf(field, id);
    const error = el("span.error", { id: `${id}-error`, role: "alert" });
    control.setAttribute("aria-describedby", `${id}-about ${id}-error`);
    const key = `${group}.${field.name}`;
    this.controls.set(key, { group, control, error, initial: field.initial });
    const file = field.kind === "text" && fileButton(control);
    return el(
      `div.field.${field.kind}`,
      {},
      el("label", { htmlFor: id }, field.name.replaceAll("_", " "), file),
      control,
      el("span.about", { id: `${id}-about` }, about(field)),
      error,
    );
  }

  #json() {
    return this.#row({ name: "options", kind: "json", choices: [], initial: null, needed: false, description: "one JSON object" }, "options");
  }
}

function about(field) {
  const form = { lines: "one on each line", json: "JSON" }[field.kind];
  return [field.description, form].filter(Boolean).join("; ");
}

function controlOf(field, id) {
  const common = { id, name: field.name, required: field.needed };
  if (field.kind === "flag") return el("input", { ...common, type: "checkbox", checked: field.initial === true });
  if (field.kind === "choice") return select(field, common);
  if (field.kind === "integer" || field.kind === "number") {
    const step = field.kind === "integer" ? 1 : "any";
    return el("input", { ...common, type: "number", step, min: field.least, max: field.most, placeholder: "default" });
  }
  if (["text", "lines", "json"].includes(field.kind)) return el("textarea", { ...common, rows: 3, spellcheck: false });
  return el("input", { ...common, type: "text", autocomplete: "off", placeholder: field.choices.join(", ") });
}

function select(field, common) {
  const first = field.initial === null ? [el("option", { value: "" }, "–")] : [];
  const rest = field.choices.map((choice) => el("option", { value: choice, selected: choice === field.initial }, String(choice).replaceAll("_", " ")));
  return el("select", common, first, rest);
}

function isSet(control, initial) {
  if (control.type === "checkbox") return control.checked !== (initial === true);
  return control.value !== "" && control.value !== String(initial ?? "");
}

function fileButton(control) {
  const input = el("input.file", { type: "file", tabIndex: -1, hidden: true });
  input.addEventListener("change", async () => {
    if (input.files[0]) control.value = await input.files[0].text();
  });
  return el("button.quiet", { type: "button", onclick: () => input.click() }, "from a file", input);
}
