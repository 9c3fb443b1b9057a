// Markdown within a line: code, maths, bold, emphasis, strikes, links. Text in, a tree of plain objects out. Pure.

const WORD = /[\p{L}\p{N}]/u;

const RULES = [
  { kind: "code", pattern: /(`+)([\s\S]*?[^`])\1(?!`)/y, text: (m) => m[2].replace(/^ (.+) $/, "$1") },
  { kind: "maths", pattern: /\\\(([\s\S]+?)\\\)/y, text: (m) => m[1].trim() },
  { kind: "maths", pattern: /\\\[([\s\S]+?)\\\]/y, text: (m) => m[1].trim() },
  { kind: "maths", pattern: /\$\$([^$]+?)\$\$/y, text: (m) => m[1].trim() },
  { kind: "maths", pattern: /\$(?![\s\d])([^$\n]*?[^\s$])\$(?!\d)/y, text: (m) => m[1] },
  { kind: "maths", pattern: /\\boxed\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}/y, text: (m) => m[0] },
  { kind: "bold", pattern: /\*\*(?=\S)([\s\S]*?\S)\*\*(?!\*)/y, inner: 1 },
  { kind: "bold", pattern: /__(?=\S)([\s\S]*?\S)__(?![\p{L}\p{N}])/uy, inner: 1, apart: true },
  { kind: "strike", pattern: /~~(?=\S)([\s\S]*?\S)~~/y, inner: 1 },
  { kind: "emphasis", pattern: /\*(?![\s*])((?:[^*]|\*\*[^*]+\*\*)*?[^\s*])\*(?!\*)/y, inner: 1 },
  { kind: "emphasis", pattern: /_(?![\s_])([^_]*?[^\s_])_(?![\p{L}\p{N}_])/uy, inner: 1, apart: true },
  { kind: "link", pattern: /!?\[([^\]\n]*)\]\(\s*<?([^\s)>]+)>?(?:\s+"[^"\n]*")?\s*\)/y, inner: 1, href: 2 },
];
const SPECIAL = /[`\\$*_~[!]/g;
const DEPTH = 6;
const LONGEST = 20000; // patterns that find no end read on to the end: a longer line stays plain

/** Only addresses of the web and of mail become links; anything else stays text. */
export function safeAddress(text) {
  return /^(?:https?|mailto):/i.test(text) ? text : null;
}

/** `text` as nodes: strings, and {kind, text} or {kind, children, href}. */
export function inline(text, depth = 0) {
  if (text.length > LONGEST) return [text];
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
    const found = matched(text, at, depth);
    if (found) {
      flush();
      nodes.push(found.node);
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

function matched(text, at, depth) {
  for (const rule of RULES) {
    if (rule.apart && at > 0 && WORD.test(text[at - 1])) continue;
    rule.pattern.lastIndex = at;
    const match = rule.pattern.exec(text);
    const node = match && nodeOf(rule, match, depth);
    if (node) return { node, end: at + match[0].length };
  }
  return null;
}

function nodeOf(rule, match, depth) {
  if (rule.text) return { kind: rule.kind, text: rule.text(match) };
  const children = depth < DEPTH ? inline(match[rule.inner], depth + 1) : [match[rule.inner]];
  if (!rule.href) return { kind: rule.kind, children };
  const href = safeAddress(match[rule.href]);
  return href ? { kind: "link", href, children: children.length ? children : [href] } : null;
}
