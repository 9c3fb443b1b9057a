// Markdown trees as nodes of the page. What has not changed since the last piece of a stream stays in place.

import { copyButton, el } from "./dom.js";
import { inline } from "./inline.js";
import { markdown } from "./markdown.js";

/** Shows a growing text in `root`; each `show(text)` replaces only the blocks that differ. */
export class MarkdownView {
  #known = [];

  constructor(root) {
    this.root = root;
  }

  show(text) {
    const blocks = markdown(text);
    const keys = blocks.map((block) => JSON.stringify(block));
    let same = 0;
    while (same < keys.length && keys[same] === this.#known[same]) same += 1;
    while (this.root.children.length > same) this.root.lastChild.remove();
    this.root.append(...blocks.slice(same).map(block));
    this.#known = keys;
  }
}

const BLOCKS = {
  paragraph: ({ text }) => el("p", {}, lines(text)),
  heading: ({ level, text }) => el(`h${Math.min(6, level + 2)}`, {}, nodes(text)),
  rule: () => el("hr"),
  maths: ({ text }) => el("pre.maths", { tabIndex: 0 }, el("code", {}, text)),
  quote: ({ blocks }) => el("blockquote", {}, blocks.map(block)),
  code: codeBlock,
  list: listBlock,
  table: tableBlock,
};

function block(one) {
  return BLOCKS[one.kind](one);
}

function codeBlock({ language, text }) {
  return el(
    "figure.code",
    {},
    el("figcaption", {}, el("span", {}, language || "code"), copyButton(() => text)),
    el("pre", { tabIndex: 0 }, el("code", {}, text)),
  );
}

function listBlock({ ordered, start, items }) {
  const node = el(ordered ? "ol" : "ul", ordered ? { start } : {});
  node.append(...items.map((blocks) => el("li", {}, tight(blocks))));
  return node;
}

function tight(blocks) {
  // The first paragraph of an item stands beside its mark.
  const [first, ...rest] = blocks;
  return first?.kind === "paragraph" ? [...lines(first.text), ...rest.map(block)] : blocks.map(block);
}

function tableBlock({ head, align, rows }) {
  const cell = (name) => (text, column) => el(`${name}.${align[column] ?? "start"}`, {}, nodes(text));
  return el(
    "div.scroll",
    { tabIndex: 0 },
    el(
      "table",
      {},
      el("thead", {}, el("tr", {}, head.map(cell("th")))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map(cell("td"))))),
    ),
  );
}

function lines(text) {
  return nodes(text).flatMap((node) =>
    typeof node === "string" ? node.split("\n").flatMap((part, n) => (n ? [el("br"), part] : [part])) : [node],
  );
}

const MARKS = { bold: "strong", emphasis: "em", strike: "s" };

function nodes(text) {
  return inline(text).map(node);
}

function node(one) {
  if (typeof one === "string") return one;
  if (one.kind === "code") return el("code", {}, one.text);
  if (one.kind === "maths") return el("code.maths", { title: "LaTeX" }, one.text);
  const children = one.children.map(node);
  if (one.kind !== "link") return el(MARKS[one.kind], {}, children);
  return el("a", { href: one.href, target: "_blank", rel: "noopener noreferrer nofollow" }, children);
}
