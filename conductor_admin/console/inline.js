// Markdown within a line: code, maths, bold, emphasis, strikes, links. Text in, a tree of plain objects out. Pure.

const WORD = /[\p{L}\p{N}]/u;

const SPECIAL = /[`\\$*_~[!]/g;
const TARGET = /\(\s{0,20}<?([^\s)>]{1,2000})>?(?:\s{1,20}"[^"\n]{0,500}")?\s{0,20}\)/y;
const DEPTH = 6;
const LONGEST = 20000; // a longer line stays plain
const MOST_BOLD = 50; // bold words within one emphasis

/** Places in one text, each looked for once: what has no end would else be sought again from every beginning. */
class Places {
  #known = new Map();
  #runs = null;

  constructor(text) {
    this.text = text;
  }

  /** The first `sign` from `at` on, or -1; with `isEnd` the first of which that is true. */
  next(sign, at, isEnd = null) {
    const key = isEnd ? `end ${sign}` : sign;
    const known = this.#known.get(key);
    if (known && known.from <= at && (known.place < 0 || known.place >= at)) return known.place;
    let place = this.text.indexOf(sign, at);
    while (isEnd && place >= 0 && !isEnd(this.text, place)) place = this.text.indexOf(sign, place + 1);
    this.#known.set(key, { from: at, place });
    return place;
  }

  /** The first run of exactly `length` backticks behind `at`, or -1. */
  run(length, at) {
    this.#runs ??= this.#allRuns();
    const left = this.#runs.get(length) ?? [];
    while (left.length && left.at(-1) < at) left.pop();
    return left.at(-1) ?? -1;
  }

  #allRuns() {
    const runs = new Map();
    for (const run of [...this.text.matchAll(/`+/g)].reverse()) {
      runs.set(run[0].length, runs.get(run[0].length) ?? []).get(run[0].length).push(run.index);
    }
    return runs;
  }

  /** The address in round brackets at `at`, as TARGET reads it. */
  target(at) {
    const known = this.#known.get("target");
    if (known?.at === at) return known.found;
    TARGET.lastIndex = at;
    const found = TARGET.exec(this.text);
    this.#known.set("target", { at, found });
    return found;
  }
}

const isSpace = (sign) => sign === undefined || /\s/.test(sign);
const isWord = (text, at) => at < text.length && WORD.test(String.fromCodePoint(text.codePointAt(at)));

function code(text, at, places) {
  let begin = at;
  while (text[begin] === "`") begin += 1;
  const end = places.run(begin - at, begin);
  if (end < 0) return { plain: begin - at };
  const inner = text.slice(begin, end);
  const isPadded = inner.length > 2 && inner.startsWith(" ") && inner.endsWith(" ");
  return { end: end + begin - at, node: { kind: "code", text: isPadded ? inner.slice(1, -1) : inner } };
}

function maths(text, at, end, open, close = open) {
  return end < 0 ? null : { end: end + close, node: { kind: "maths", text: text.slice(at + open, end).trim() } };
}

function bracketed(text, at, places) {
  const close = { "(": "\\)", "[": "\\]" }[text[at + 1]];
  return close ? maths(text, at, places.next(close, at + 3), 2) : boxed(text, at);
}

function boxed(text, at) {
  if (!text.startsWith("\\boxed{", at)) return null;
  let depth = 0;
  for (let end = at + 6; end < text.length && depth < 3; end += 1) {
    depth += { "{": 1, "}": -1 }[text[end]] ?? 0;
    if (depth === 0) return { end: end + 1, node: { kind: "maths", text: text.slice(at, end + 1) } };
  }
  return null;
}

function dollars(text, at, places) {
  const isDouble = text[at + 1] === "$";
  const begin = at + (isDouble ? 2 : 1);
  const end = places.next("$", begin);
  if (end <= begin) return null;
  if (isDouble) return text[end + 1] === "$" ? maths(text, at, end, 2) : null;
  const lineEnd = places.next("\n", begin);
  if ((lineEnd >= 0 && lineEnd < end) || /[\s\d]/.test(text[begin])) return null;
  return isSpace(text[end - 1]) || /\d/.test(text[end + 1] ?? "") ? null : maths(text, at, end, 1);
}

/** What stands between two equal signs of two characters. */
function paired(kind, sign, isFollowed) {
  const isEnd = (text, place) => !isSpace(text[place - 1]) && !isFollowed(text, place + 2);
  return (text, at, places) => {
    if (!text.startsWith(sign, at) || isSpace(text[at + 2])) return null;
    const end = places.next(sign, at + 3, isEnd);
    return end < 0 ? null : { end: end + 2, kind, inner: text.slice(at + 2, end) };
  };
}

function starred(text, at, places) {
  if (isSpace(text[at + 1]) || text[at + 1] === "*") return null;
  let end = places.next("*", at + 1);
  for (let bold = 0; bold < MOST_BOLD && text[end + 1] === "*"; bold += 1) {
    const close = places.next("*", end + 2);
    if (close <= end + 2 || text[close + 1] !== "*") return null;
    end = places.next("*", close + 2);
  }
  if (end < 0 || text[end + 1] === "*" || isSpace(text[end - 1]) || text[end - 1] === "*") return null;
  return { end: end + 1, kind: "emphasis", inner: text.slice(at + 1, end) };
}

function underlined(text, at, places) {
  const end = places.next("_", at + 1);
  if (end <= at + 1 || isSpace(text[at + 1]) || isSpace(text[end - 1])) return null;
  return isWord(text, end + 1) || text[end + 1] === "_" ? null : { end: end + 1, kind: "emphasis", inner: text.slice(at + 1, end) };
}

function link(text, at, places) {
  const open = text[at] === "!" ? at + 1 : at;
  const close = text[open] === "[" ? places.next("]", open) : -1;
  if (close < 0 || text[close + 1] !== "(") return null;
  const lineEnd = places.next("\n", open);
  const target = lineEnd >= 0 && lineEnd < close ? null : places.target(close + 1);
  const href = target && safeAddress(target[1]);
  return href ? { end: close + 1 + target[0].length, kind: "link", inner: text.slice(open + 1, close), href } : null;
}

const apart = (rule) => (text, at, places) => (at > 0 && WORD.test(text[at - 1]) ? null : rule(text, at, places));
const RULES = {
  "`": [code],
  "\\": [bracketed],
  $: [dollars],
  "*": [paired("bold", "**", (text, at) => text[at] === "*"), starred],
  _: [apart(paired("bold", "__", isWord)), apart(underlined)],
  "~": [paired("strike", "~~", () => false)],
  "!": [link],
  "[": [link],
};

/** Only addresses of the web and of mail become links; anything else stays text. */
export function safeAddress(text) {
  return /^(?:https?|mailto):/i.test(text) ? text : null;
}

/** `text` as nodes: strings, and {kind, text} or {kind, children, href}. */
export function inline(text, depth = 0) {
  if (text.length > LONGEST) return [text];
  const places = new Places(text);
  const nodes = [];
  let plain = "";
  let at = 0;
  const flush = () => {
    if (plain) nodes.push(plain);
    plain = "";
  };
  while (at < text.length) {
    SPECIAL.lastIndex = at;
    const next = SPECIAL.exec(text)?.index ?? text.length;
    plain += text.slice(at, next);
    at = next;
    if (at === text.length) break;
    const found = matched(text, at, places);
    if (found?.plain) {
      plain += text.slice(at, at + found.plain);
      at += found.plain;
    } else if (found) {
      flush();
      nodes.push(found.node ?? nodeOf(found, depth));
      at = found.end;
    } else if (text[at] === "\\" && /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "")) {
      plain += text[at + 1];
      at += 2;
    } else {
      plain += text[at];
      at += 1;
    }
  }
  flush();
  return nodes;
}

function matched(text, at, places) {
  for (const rule of RULES[text[at]]) {
    const found = rule(text, at, places);
    if (found) return found;
  }
  return null;
}

function nodeOf({ kind, inner, href }, depth) {
  const children = depth < DEPTH ? inline(inner, depth + 1) : [inner];
  if (!href) return { kind, children };
  return { kind, href, children: children.length ? children : [href] };
}
