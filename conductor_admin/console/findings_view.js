// The sections of `findings.js` as nodes of the page.

import { el } from "./dom.js";
import { sections } from "./findings.js";

const SIGNS = { good: "✓", bad: "✗", unknown: "?" };

/** The findings of one answer, or null where there are none. */
export function findingsView(findings) {
  const shown = sections(findings);
  if (!shown.length) return null;
  return el("section.findings", { "aria-label": "What was checked" }, shown.map((one) => VIEWS[one.kind](one)));
}

const VIEWS = {
  verdict: ({ tone, label, answer, latex, reason, note }) =>
    el(
      `div.verdict.${tone}`,
      {},
      sign(tone),
      el(
        "div",
        {},
        el("p.label", {}, label, note && el("span.note", {}, note)),
        answer !== null && el("p.answer", {}, el("span", {}, "Final answer "), el("code", {}, answer)),
        latex !== null && latex !== answer && el("p.latex", {}, el("span", {}, "LaTeX "), el("code.maths", {}, latex)),
        reason && el("p.reason", {}, reason),
      ),
    ),
  checks: ({ title, items }) =>
    titled(
      title,
      el(
        "ul.checks",
        {},
        items.map(({ tone, text, note }) =>
          el(`li.${tone ?? "plain"}`, {}, tone && sign(tone), el("span", {}, text, note && el("span.note", {}, note))),
        ),
      ),
    ),
  image: ({ src, alt }) => el("img.chart", { src, alt, loading: "eager" }),
  table: ({ title, head, rows }) =>
    titled(
      title,
      el(
        "div.scroll",
        { tabIndex: 0 },
        el(
          "table",
          {},
          el("thead", {}, el("tr", {}, head.map((text) => el("th", { scope: "col" }, text)))),
          el("tbody", {}, rows.map((row) => el("tr", {}, row.map((text) => el("td", {}, text))))),
        ),
      ),
    ),
  bars: ({ title, items }) =>
    titled(
      title,
      el(
        "ul.bars",
        {},
        items.map(({ label, share, chosen }) =>
          el(
            chosen ? "li.chosen" : "li",
            {},
            el("span", {}, label),
            el("meter", { min: 0, max: 1, value: share, "aria-label": label }),
            el("span.figure", {}, `${(100 * share).toFixed(1)} %`),
          ),
        ),
      ),
    ),
  pairs: ({ items }) => el("dl.pairs", {}, items.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
  json: ({ title, text }) => titled(title, el("pre", { tabIndex: 0 }, el("code", {}, text))),
  note: ({ text }) => el("p.remark", {}, text),
  warnings: ({ items }) => el("ul.warnings", {}, items.map((text) => el("li", {}, text))),
};

function titled(title, ...content) {
  return el("div.finding", {}, el("h4", {}, title), content);
}

function sign(tone) {
  return el(`span.sign.${tone}`, { "aria-hidden": "true" }, SIGNS[tone]);
}
