import assert from "node:assert/strict";
import test from "node:test";

import { fields, OptionError, read, readJson } from "../../../conductor_admin/console/options.js";

const SCHEMA = {
  properties: {
    language: { anyOf: [{ enum: ["c", "go"], type: "string" }, { type: "null" }], default: null, description: "to write in" },
    length: { anyOf: [{ enum: ["short", "long"], type: "string" }, { type: "integer" }, { type: "null" }], default: null },
    style: { enum: ["apa", "ieee"], type: "string", default: "apa" },
    document: { anyOf: [{ type: "string", maxLength: 4000000 }, { type: "null" }], default: null },
    tone: { anyOf: [{ type: "string", maxLength: 100 }, { type: "null" }], default: null },
    labels: { anyOf: [{ items: { type: "string" }, type: "array" }, { type: "null" }], default: null },
    multiple: { type: "boolean", default: false },
    history_tokens: { anyOf: [{ type: "integer", minimum: 0 }, { type: "null" }], default: null },
    schema: { type: "object", default: { type: "object" } },
    table: { anyOf: [{ items: {}, type: "array" }, { type: "object" }, { type: "null" }], default: null },
    named: { $ref: "#/$defs/Named" },
  },
  required: ["named"],
  $defs: { Named: { enum: ["x"], type: "string" } },
};

test("each kind of option gets its kind of field", () => {
  const kinds = Object.fromEntries(fields(SCHEMA).map((field) => [field.name, field.kind]));
  assert.deepEqual(kinds, {
    language: "choice",
    length: "suggested",
    style: "choice",
    document: "text",
    tone: "line",
    labels: "lines",
    multiple: "flag",
    history_tokens: "integer",
    schema: "json",
    table: "json",
    named: "choice",
  });
  assert.equal(fields(SCHEMA).find((field) => field.name === "named").needed, true);
});

test("what is empty or as it is anyway is not sent", () => {
  assert.deepEqual(read(fields(SCHEMA), { language: "", style: "apa", multiple: false, labels: " \n", document: "" }), {});
});

test("what was typed is sent as what it is", () => {
  const typed = { language: "go", length: "300", labels: "a\n b \n", multiple: true, history_tokens: "5", schema: '{"type": "array"}', document: " kept \n" };
  assert.deepEqual(read(fields(SCHEMA), typed), {
    language: "go",
    length: 300,
    document: " kept \n",
    labels: ["a", "b"],
    multiple: true,
    history_tokens: 5,
    schema: { type: "array" },
  });
});

test("what is no JSON names its field", () => {
  assert.throws(() => read(fields(SCHEMA), { table: "[1," }), (error) => error instanceof OptionError && error.param === "options.table");
  assert.throws(() => readJson("[]"), OptionError);
  assert.deepEqual(readJson('{"a": 1}'), { a: 1 });
  assert.deepEqual(readJson(" "), {});
});
