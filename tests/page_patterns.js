// Reads patterns with texts as JSON from standard input, and prints those that are slow. Used by a test alone.

import { readFileSync } from "node:fs";

const MOST = 8; // the cost of 4n over that of n: 4 where it is linear, 16 where it is square
const UNSUSPICIOUS = 20; // milliseconds

function cost(pattern, text) {
  const began = process.cpuUsage().user;
  if (pattern.global) for (const _ of text.matchAll(pattern)); // eslint-disable-line no-empty
  else pattern.exec(text);
  pattern.lastIndex = 0;
  return (process.cpuUsage().user - began) / 1000;
}

function isSlow({ source, flags }, [before, unit, after]) {
  const pattern = new RegExp(source, flags);
  const once = (length) => cost(pattern, before + unit.repeat(Math.max(1, length / unit.length)) + after);
  const least = (length) => Math.min(once(length), once(length));
  if (once(1024) >= UNSUSPICIOUS) return least(1024) >= UNSUSPICIOUS; // no linear pattern takes so long
  return once(16_384) >= UNSUSPICIOUS && least(16_384) > MOST * Math.max(1, least(4096));
}

const patterns = JSON.parse(readFileSync(0, "utf8"));
const slow = patterns.flatMap((one) => {
  const text = one.texts.find((parts) => isSlow(one, parts));
  return text ? [{ where: one.where, text }] : [];
});
console.log(JSON.stringify(slow));
