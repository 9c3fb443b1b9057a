// The models: every worker set with its state, its memory against the budget, and the buttons to load and unload it.

import { askYes } from "./ask.js";
import { el, fill, say } from "./dom.js";
import { errorView } from "./error_view.js";
import { bytes } from "./format.js";
import { idleUntil, setsOf, stateOf } from "./models.js";

const NEARLY_ALL = 0.9;

export class ModelsPage {
  #items = new Map();

  constructor({ api, onChanged }) {
    Object.assign(this, { api, onChanged });
    this.trouble = el("div");
    this.budget = el("div.budgets");
    this.body = el("div.sets");
    this.node = el(
      "div.models",
      {},
      el("h1", {}, "Models"),
      el("p.note", {}, "Rows of SETTINGS.md that name the same weights share one copy in memory. Viewing this page does not keep a model loaded."),
      this.budget,
      this.trouble,
      this.body,
    );
  }

  /** New rows of `/models` and the memory of `/stats`. */
  update(rows, memory) {
    this.#budgets(memory);
    const sets = setsOf(rows);
    const names = sets.map((set) => [set.name, ...set.rows.map((row) => row.category)].join("+"));
    if (names.join() !== [...this.#items.keys()].join()) {
      this.#items = new Map(sets.map((set, n) => [names[n], this.#item(set)]));
      fill(this.body, [...this.#items.values()].map((item) => item.node));
    }
    sets.forEach((set, n) => this.#update(this.#items.get(names[n]), set.first, memory));
  }

  #budgets(memory) {
    const devices = Object.entries(memory?.devices ?? {});
    fill(
      this.budget,
      devices.map(([device, { budget, used }]) =>
        el(
          "label.budget",
          {},
          el("span", {}, `${device.toUpperCase()} memory`),
          el(used > NEARLY_ALL * budget ? "progress.held.full" : "progress.held", { max: budget || 1, value: used }),
          el("span.figure", {}, `${bytes(used)} of ${bytes(budget)} budget`),
        ),
      ),
    );
  }

  #item(set) {
    const parts = {
      dot: el("span.dot", { "aria-hidden": "true" }),
      state: el("span.state"),
      bar: el("progress", { max: 1, "aria-label": "loading" }),
      held: el("progress.held", { "aria-label": "share of the memory budget" }),
      idle: el("span.note"),
      figures: el("dl.pairs"),
      error: el("p.problem"),
      load: el("button.primary", { type: "button", onclick: () => this.#act(set.first.category, "load") }, "Load"),
      unload: el("button", { type: "button", onclick: () => this.#act(set.first.category, "unload") }, "Unload"),
    };
    const row = set.first;
    const serves = set.rows.map((one) => el("li", {}, el("a", { href: `#${one.category}` }, one.name), one.stay_loaded === "false" ? null : el("span.note", {}, one.stay_loaded === "true" ? " stays loaded" : " yields")));
    const head = el("header", {}, parts.dot, el("h2", {}, row.model), parts.state, el("span.spring"), el("div.buttons", {}, parts.load, parts.unload));
    const name = el("p.note", {}, el("code", {}, row.technical_model_name));
    const node = el("article.set", {}, head, parts.bar, parts.error, name, parts.held, parts.figures, el("ul.serves", { "aria-label": "Categories" }, serves), parts.idle);
    return { ...parts, node };
  }

  #update(item, row, memory) {
    const { tone, text, share } = stateOf(row);
    item.dot.className = `dot ${tone}`;
    say(item.state, text);
    item.bar.hidden = share === null;
    if (share !== null) item.bar.value = share;
    const budget = budgetOf(row, memory);
    item.held.hidden = !row.memory.measured || !budget;
    item.held.max = budget || 1;
    item.held.value = Math.min(budget, row.memory.measured ?? 0);
    say(item.error, row.last_error ? `Last error: ${row.last_error}` : "");
    say(item.idle, idleUntil(row, Date.now() / 1000) ?? "");
    item.load.disabled = ["READY", "LOADING"].includes(row.state);
    item.unload.disabled = !["READY", "LOADING", "FAILED"].includes(row.state);
    item.figures.replaceChildren(...figuresOf(row, memory).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  }

  async #act(category, verb, query = "") {
    fill(this.trouble);
    try {
      // A load is answered when it is done; the states come by the polling meanwhile.
      const work = this.api.post(`/admin/models/${category}/${verb}${query}`);
      this.onChanged();
      await work;
    } catch (error) {
      if (!("status" in error)) throw error;
      await this.#refused(error, category, verb);
    }
    this.onChanged();
  }

  async #refused(error, category, verb) {
    if (verb !== "unload" || error.status !== 409) {
      fill(this.trouble, errorView(error));
      return;
    }
    const sure = await askYes({ title: "Unload it for all of them?", text: error.message, action: "Unload for all" });
    if (sure) await this.#act(category, "unload", "?force=true");
  }
}

function budgetOf(row, memory) {
  return memory?.devices?.[row.device]?.budget ?? memory?.budget ?? 0;
}

function figuresOf(row, memory) {
  const { declared, estimated, measured, peak } = row.memory;
  const budget = budgetOf(row, memory);
  const held = measured && budget ? ` (${((100 * measured) / budget).toFixed(1)} % of the budget)` : "";
  return [
    ["Precision", row.precision],
    ["Runtime", [row.runtime, row.device].filter(Boolean).join(" on ")],
    ["Context", row.context ? `${row.context} tokens` : "–"],
    ["Declared", bytes(declared)],
    ["Estimated", bytes(estimated)],
    ["Measured", `${bytes(measured)}${held}`],
    ["Peak", bytes(peak)],
    ["Workers", row.workers.map((one) => `${one.pid}`).join(", ") || "none"],
    ["Running", String(row.in_flight)],
  ];
}
