import assert from "node:assert/strict";
import test from "node:test";

import { EventReader } from "../../../conductor_admin/console/sse.js";

const STREAM = ': loading maths 41% (convert)\n\ndata: {"delta": "a\\n"}\n\ndata: {"attempt": 2}\n\ndata: [DONE]\n\n';
const EVENTS = [{ comment: "loading maths 41% (convert)" }, { record: { delta: "a\n" } }, { record: { attempt: 2 } }, { done: true }];

test("records, comments and the end come in order", () => {
  assert.deepEqual(new EventReader().feed(STREAM), EVENTS);
});

test("pieces may be cut anywhere", () => {
  for (let size = 1; size < STREAM.length; size += 1) {
    const reader = new EventReader();
    const found = [];
    for (let at = 0; at < STREAM.length; at += size) found.push(...reader.feed(STREAM.slice(at, at + size)));
    assert.deepEqual(found, EVENTS);
  }
});

test("an event is data of several lines, and line ends may be those of Windows", () => {
  assert.deepEqual(new EventReader().feed('data: {"a":\r\ndata: 1}\r\n\r\n'), [{ record: { a: 1 } }]);
});

test("what has no end yet is no event", () => {
  assert.deepEqual(new EventReader().feed('data: {"delta": "x"}\n'), []);
});
