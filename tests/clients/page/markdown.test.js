import assert from "node:assert/strict";
import test from "node:test";

import { asMarkdown } from "../../../conductor_admin/console/answer_text.js";
import { inline } from "../../../conductor_admin/console/inline.js";
import { markdown } from "../../../conductor_admin/console/markdown.js";

const kinds = (text) => markdown(text).map((block) => block.kind);

test("blocks are told apart", () => {
  const text = "# One\ntext\nmore\n\n- a\n- b\n\n1. x\n2. y\n\n> said\n\n---\n\n```python\nx = 1\n```\n\n| a | b |\n|---|--:|\n| 1 | 2 |";
  assert.deepEqual(kinds(text), ["heading", "paragraph", "list", "list", "quote", "rule", "code", "table"]);
});

test("a fence keeps its text as it is and may still be open", () => {
  const [block] = markdown("```js\nif (a < b) {\n  **x**\n\n# no heading");
  assert.deepEqual(block, { kind: "code", language: "js", text: "if (a < b) {\n  **x**\n\n# no heading", closed: false });
});

test("a longer fence holds a shorter one", () => {
  assert.equal(markdown("````\n```\na\n```\n````")[0].text, "```\na\n```");
});

test("lists hold lists, code and several paragraphs", () => {
  const [list, after] = markdown("1. first\n   - inner\n   - other\n\n   ```sh\n   ls\n   ```\n2. second\n\nafter");
  assert.deepEqual(list.items.map((item) => item.map((block) => block.kind)), [["paragraph", "list", "code"], ["paragraph"]]);
  assert.equal(list.items[0][2].text, "ls");
  assert.equal(after.text, "after");
});

test("a list goes on after an empty line, and keeps its first number", () => {
  const [list, ...rest] = markdown("3. a\n\n4. b\n\n5. c");
  assert.equal(list.items.length, 3);
  assert.equal(list.start, 3);
  assert.deepEqual(rest, []);
});

test("tables fill what a row lacks and know their sides", () => {
  const [table] = markdown("a | b | c\n:--|:-:|--:\n1 | 2\n x \\| y | z | w | more");
  assert.deepEqual(table.align, ["start", "center", "end"]);
  assert.deepEqual(table.rows, [["1", "2", ""], ["x | y", "z", "w"]]);
});

test("a lone bar or dash is no table", () => {
  assert.deepEqual(kinds("|x| is a size\n- or not"), ["paragraph", "list"]);
});

test("every beginning of a text can be shown, and ends", () => {
  const text = "# T\n\n1. **a** `b\n   > q\n\n| a |\n|---|\n\\[\nx^2\n\\]\n$$\ny\n$$\n```\nz\n```\n*e* [l](https://a.b) _u_ ~~s~~ ![i](x)";
  for (let end = 0; end <= text.length; end += 1) markdown(text.slice(0, end)).forEach((block) => inline(block.text ?? ""));
});

test("markup is text", () => {
  assert.deepEqual(markdown("<script>alert(1)</script>"), [{ kind: "paragraph", text: "<script>alert(1)</script>" }]);
  assert.deepEqual(inline("<img src=x onerror=y>"), ["<img src=x onerror=y>"]);
});

test("marks within a line", () => {
  assert.deepEqual(inline("a **b *c*** `d**` ~~e~~"), [
    "a ",
    { kind: "bold", children: ["b ", { kind: "emphasis", children: ["c"] }] },
    " ",
    { kind: "code", text: "d**" },
    " ",
    { kind: "strike", children: ["e"] },
  ]);
});

test("products, names and unfinished marks stay text", () => {
  for (const text of ["17 * 24 * 3", "snake_case_name", "**open", "`open", "5 $ and 6 $", "[a](b", "__init__py"]) assert.deepEqual(inline(text), [text]);
});

test("runs of backticks end at a run of their length", () => {
  assert.deepEqual(inline("``a`b`` ```x"), [{ kind: "code", text: "a`b" }, " ```x"]);
  assert.deepEqual(inline("` `` `"), [{ kind: "code", text: "``" }]);
});

test("emphasis may hold bold words, and ends in its line's own words", () => {
  assert.deepEqual(inline("*a **b** c*"), [{ kind: "emphasis", children: ["a ", { kind: "bold", children: ["b"] }, " c"] }]);
  assert.deepEqual(inline("$x\ny$"), ["$x\ny$"]);
});

test("a backslash takes a mark's meaning", () => {
  assert.deepEqual(inline("\\*a\\* \\`b\\`"), ["*a* `b`"]);
});

test("LaTeX is shown as it was written", () => {
  assert.deepEqual(inline("so \\(x^2\\) or $a_1 + b_1$"), ["so ", { kind: "maths", text: "x^2" }, " or ", { kind: "maths", text: "a_1 + b_1" }]);
  assert.deepEqual(inline("\\boxed{\\frac{1}{2}}"), [{ kind: "maths", text: "\\boxed{\\frac{1}{2}}" }]);
  assert.deepEqual(markdown("\\[\nx\n\\]"), [{ kind: "maths", text: "x" }]);
});

test("only addresses of the web and of mail become links, and no picture is fetched", () => {
  assert.deepEqual(inline("[a](https://x.y/z)"), [{ kind: "link", href: "https://x.y/z", children: ["a"] }]);
  assert.equal(inline("![p](http://x.y/p.png)")[0].kind, "link");
  for (const bad of ["javascript:alert(1)", "JAVASCRIPT:x", "data:text/html,x", "//x.y", "file:///etc"]) {
    assert.ok(inline(`[a](${bad})`).every((node) => node.kind !== "link"), bad);
  }
});

test("a text without ends is shown in time", () => {
  const marks = ["**", "`", "[", "[a](b", "_", "__a ", "$", "$$", "~~", "> ", "- ", "1. ", "|", "|-", "# ", "\\(", "\\boxed{", "**b** *a", "a` "];
  const taken = (unit, length) => {
    const text = unit.repeat(length / unit.length);
    const began = process.cpuUsage().user;
    for (const one of [text, `${text}\0`, `# ${text}\0`, `\`\`\`${text}\``, `${text}](x`]) {
      markdown(one).forEach((block) => inline(block.text ?? ""));
      inline(one);
    }
    return (process.cpuUsage().user - began) / 1000;
  };
  // Square growth takes sixteen times as long for four times the text; what takes no time tells nothing.
  const slow = marks.flatMap((mark) => [mark, `${mark}a `, `${mark} `]).filter((unit) => {
    const least = (length) => Math.min(taken(unit, length), taken(unit, length));
    return least(19_000) > 8 * Math.max(least(4_750), 10);
  });
  assert.deepEqual(slow, []);
});

test("code and JSON are read as such, from their first letters on", () => {
  assert.deepEqual(markdown(asMarkdown("code_completion", "return 1", "def f():\n    ")), [
    { kind: "code", language: "completion", text: "def f():\n    return 1", closed: true },
  ]);
  assert.equal(markdown(asMarkdown("legal_analysis", '{"items": ['))[0].language, "json");
  assert.deepEqual(kinds(asMarkdown("general_reasoning", "[1] says so")), ["paragraph"]);
  assert.equal(asMarkdown("code_completion", "", "x"), "");
});
