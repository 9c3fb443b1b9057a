import assert from "node:assert/strict";
import test from "node:test";

import { ApiError, explain, fromAnswer } from "../../../conductor_admin/console/errors.js";
import { bytes, figures, seconds, waiting } from "../../../conductor_admin/console/format.js";
import { describe, idleUntil, isMoving, setsOf, stateOf } from "../../../conductor_admin/console/models.js";

const ROW = { category: "a", set: "a", state: "READY", progress: null, phase: null, position: null, queue: 0, memory: {}, model: "M", precision: "FP16", device: "cpu" };

test("sizes and times are short", () => {
  assert.deepEqual([0, 950, 1500, 567e6, 22.7e9, null].map(bytes), ["0 B", "950 B", "2 KB", "567 MB", "22.7 GB", "–"]);
  assert.deepEqual([0.0634, 12.34, 95, null].map(seconds), ["63 ms", "12.3 s", "1 min 35 s", "–"]);
});

test("what a request waits for is said, with its share", () => {
  assert.deepEqual(waiting("loading mathematical_reasoning 41% (convert), about 5 s"), {
    text: "Loading mathematical reasoning 41% (convert), about 5 s",
    share: 0.41,
  });
  assert.equal(waiting("queued 2nd of 3 for maths, waiting for memory").share, null);
  assert.equal(waiting("keep-alive"), null);
});

test("figures are the worker's own", () => {
  const record = { finish_reason: "length", usage: { prompt_tokens: 5, completion_tokens: 101 }, timings: { first_token_s: 0.5, total_s: 2.5 } };
  const told = Object.fromEntries(figures(record));
  assert.deepEqual(told, { ended: "cut at max_tokens", speed: "50 tokens/s", "first token": "500 ms", total: "2.5 s", tokens: "5 in, 101 out" });
  assert.ok(!("speed" in Object.fromEntries(figures({ finish_reason: "stop", usage: { completion_tokens: 1 }, timings: { first_token_s: null, total_s: 1 } }))));
});

test("a failure says what happened, what to do, and its request", () => {
  const body = JSON.stringify({ error: { message: "the model needs 9 GB", code: "insufficient_memory", param: null, type: "x" } });
  const error = fromAnswer(507, body, (name) => ({ "x-request-id": "r1", "retry-after": "3" })[name] ?? null);
  const { title, advice, id } = explain(error);
  assert.equal(title, "The model needs 9 GB");
  assert.match(advice, /Unload another model.*Try again in 3 s\./);
  assert.equal(id, "r1");
});

test("an answer of something else is a failure too", () => {
  assert.match(explain(fromAnswer(502, "<html>", () => null)).title, /status 502/);
  assert.match(explain(new ApiError({ message: "the gateway does not answer", code: "unreachable" })).advice, /make serve/);
});

test("states are said as a person waits for them", () => {
  assert.deepEqual(stateOf({ ...ROW, state: "LOADING", progress: 0.414, phase: "convert" }), { tone: "busy", text: "loading 41 % (convert)", share: 0.414 });
  assert.equal(stateOf({ ...ROW, state: "UNAVAILABLE" }).text, "on demand");
  assert.equal(stateOf({ ...ROW, state: "UNAVAILABLE", position: 2, queue: 3 }).text, "waiting for memory, 2 of 3");
  assert.equal(stateOf({ ...ROW, state: "FAILED" }).tone, "bad");
});

test("memory is the surest that is known", () => {
  assert.equal(describe({ ...ROW, memory: { declared: 1e9, measured: 567e6 } }), "M · FP16 · CPU · 567 MB measured");
  assert.match(describe({ ...ROW, memory: { declared: 1e9, measured: null } }), /1\.0 GB declared/);
});

test("rows of one set stand together, in table order", () => {
  const rows = [ROW, { ...ROW, category: "b", set: "b" }, { ...ROW, category: "c" }];
  assert.deepEqual(setsOf(rows).map((set) => set.rows.map((row) => row.category)), [["a", "c"], ["b"]]);
});

test("an idle set says when it goes", () => {
  assert.match(idleUntil({ ...ROW, expires_at: 190 }, 100), /1 min 30 s/);
  assert.equal(idleUntil({ ...ROW, expires_at: null }, 100), null);
});

test("one looks often only while something moves", () => {
  assert.equal(isMoving([ROW]), false);
  assert.equal(isMoving([ROW, { ...ROW, state: "LOADING" }]), true);
});
