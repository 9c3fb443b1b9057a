import assert from "node:assert/strict";
import test from "node:test";

import { sections } from "../../../conductor_admin/console/findings.js";

const kinds = (findings) => sections(findings).map((section) => section.kind);

test("nothing found is nothing shown", () => {
  assert.deepEqual(sections({}), []);
  assert.deepEqual(sections(null), []);
  assert.deepEqual(sections({ warnings: [], items: [], note2: null }), []);
});

test("a verdict has its tone, answer and reason", () => {
  const found = { answer: "408", latex: "408", verified: "true", reason: "the value is 408", attempts: 2 };
  assert.deepEqual(sections(found), [
    { kind: "verdict", tone: "good", label: "Checked: correct", answer: "408", latex: "408", reason: "the value is 408", note: "at attempt 2" },
  ]);
  const tones = ["true", "false", "unknown", "odd"].map((verified) => sections({ verified })[0].tone);
  assert.deepEqual(tones, ["good", "bad", "unknown", "unknown"]);
});

test("code blocks say whether they parse", () => {
  const blocks = [
    { language: "python", code: "a\nb", syntax_ok: true, error: null },
    { language: null, code: "c", syntax_ok: null, error: null },
    { language: "c", code: "d", syntax_ok: false, error: "line 1: unexpected 'd'" },
  ];
  const [checks] = sections({ language: "python", blocks });
  assert.deepEqual(checks.items.map((item) => item.tone), ["good", "unknown", "bad"]);
  assert.equal(checks.items[0].text, "python, block 1, 2 lines");
  assert.equal(checks.items[2].note, "line 1: unexpected 'd'");
});

test("quotations say where they stand", () => {
  const quotes = [{ text: "a", found: true, passage: 0 }, { text: "b", found: true, start: 14 }, { text: "c", found: false, start: null }];
  assert.deepEqual(sections({ quotes, warnings: ["w"] }), [
    {
      kind: "checks",
      title: "Quotations",
      items: [
        { tone: "good", text: "“a”", note: "stands in passage 1" },
        { tone: "good", text: "“b”", note: "stands in the document at character 14" },
        { tone: "bad", text: "“c”", note: "is not in the given text" },
      ],
    },
    { kind: "warnings", items: ["w"] },
  ]);
});

test("citations, references and DOIs are three lists", () => {
  const found = { references: [{ key: "k", text: "K. (1968)." }], citations: [{ key: "k", supported: true }], invalid_dois: ["10.1/x"], warnings: [] };
  assert.deepEqual(sections(found).map((section) => section.title), ["Citations", "References", "DOIs"]);
});

test("a chart is a picture only where it is base64", () => {
  assert.equal(sections({ chart: "iVBORw0KGgo=" })[0].src, "data:image/png;base64,iVBORw0KGgo=");
  assert.deepEqual(sections({ chart: null }), []);
  assert.deepEqual(sections({ chart: '"><script>' }), []);
});

test("figures of columns become a table, numbers without ground are named", () => {
  const statistics = { rows: 2, columns: [{ name: "a", mean: 1.23456789 }, { name: "b", mean: null }] };
  const found = sections({ statistics, chart: null, unsupported_numbers: ["7 %"], warnings: [] });
  assert.deepEqual(found.map((section) => section.kind), ["checks", "pairs", "table"]);
  assert.deepEqual(found[2].rows, [["a", "1.23457"], ["b", "–"]]);
  assert.equal(sections({ unsupported_numbers: [] })[0].items[0].tone, "good");
});

test("labels are ranked and the chosen ones marked", () => {
  const [bars] = sections({ label: "b", scores: { a: 0.2, b: 0.8 } });
  assert.deepEqual(bars.items, [{ label: "b", share: 0.8, chosen: true }, { label: "a", share: 0.2, chosen: false }]);
});

test("vectors are shown by their first numbers", () => {
  const [checks] = sections({ embeddings: [Array(384).fill(0.5)], dimensions: 384, truncated: [], warnings: [] });
  assert.ok(checks.items[0].note.includes("384 numbers"));
});

test("findings that nobody knows are shown by name", () => {
  assert.deepEqual(kinds({ words: 12, odd_thing: [{ a: 1 }], deep: { x: "y".repeat(200) }, rounds: 1 }), ["pairs", "table", "json"]);
  assert.deepEqual(sections({ chunks: 0, cached: false })[0].items, [["Chunks", "0"], ["Cached", "no"]]);
});

test("turns are worth a word only where some were left out", () => {
  assert.deepEqual(sections({ turns: 3, dropped_turns: 0 }), []);
  assert.match(sections({ turns: 3, dropped_turns: 1 })[0].text, /^1 earlier turn no longer fitted/);
});

test("a single translation is the answer, several are a list", () => {
  assert.deepEqual(kinds({ translations: ["Bonjour"], warnings: [] }), []);
  assert.deepEqual(sections({ translations: ["a", "b"] })[0].items.map((item) => item.note), ["text 1", "text 2"]);
});
