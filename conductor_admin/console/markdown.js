// Markdown of answers by lines: a safe subset, as a tree of plain objects. Pure; an unfinished text is fine.
//
// Blocks are {kind: "paragraph"|"heading"|"code"|"maths"|"quote"|"list"|"table"|"rule", ...}. There is no HTML:
// markup in an answer is text.

const FENCE = /^( {0,3})(`{3,}|~{3,})/;
const HEADING = /^ {0,3}(#{1,6})\s/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const ITEM = /^(\s*)([-*+•]|\d{1,9}[.)])\s+(.*)$/s;
const QUOTE = /^ {0,3}>\s?(.*)$/s;
const DIVIDER = /^\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?$/;
const MATHS = /^\s*(\\\[|\$\$)\s*$/;
const DEPTH = 8;

/** The blocks of `text`; `depth` counts quotes and lists around it. */
export function markdown(text, depth = 0) {
  const lines = text.replaceAll("\r\n", "\n").split("\n");
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const [block, next] = blockAt(lines, at, depth);
    blocks.push(block);
    at = next;
  }
  return blocks;
}

function blockAt(lines, at, depth) {
  const fence = fenceOf(lines[at]);
  if (fence) return code(lines, at, fence);
  if (MATHS.test(lines[at])) return maths(lines, at);
  const heading = HEADING.exec(lines[at]);
  if (heading) return [{ kind: "heading", level: heading[1].length, text: title(lines[at], heading[0]) }, at + 1];
  if (RULE.test(lines[at])) return [{ kind: "rule" }, at + 1];
  if (isTable(lines, at)) return table(lines, at);
  if (depth < DEPTH && QUOTE.test(lines[at])) return quote(lines, at, depth);
  if (depth < DEPTH && ITEM.test(lines[at])) return list(lines, at, depth);
  return paragraph(lines, at);
}

function fenceOf(line) {
  const found = FENCE.exec(line);
  const info = found && line.slice(found[0].length);
  return !found || info.includes("`") ? null : { indent: found[1], fence: found[2], language: info.trim().split(/\s/, 1)[0] };
}

function title(line, mark) {
  const text = line.slice(mark.length).trim();
  let end = text.length;
  while (text[end - 1] === "#") end -= 1;
  return text.slice(0, end).trim();
}

function code(lines, at, { indent, fence, language }) {
  let end = at + 1;
  while (end < lines.length && !closes(lines[end], fence)) end += 1;
  const inside = lines.slice(at + 1, end).map((line) => (line.startsWith(indent) ? line.slice(indent.length) : line));
  return [{ kind: "code", language, text: inside.join("\n"), closed: end < lines.length }, end + 1];
}

function closes(line, fence) {
  const found = FENCE.exec(line)?.[2] ?? "";
  return found.length >= fence.length && found[0] === fence[0] && line.trim() === found;
}

function maths(lines, at) {
  const closing = MATHS.exec(lines[at])[1] === "$$" ? "$$" : "\\]";
  let end = at + 1;
  while (end < lines.length && lines[end].trim() !== closing) end += 1;
  return [{ kind: "maths", text: lines.slice(at + 1, end).join("\n") }, end + 1];
}

function isTable(lines, at) {
  const below = lines[at + 1] ?? "";
  return lines[at].includes("|") && DIVIDER.test(below.trim()) && cells(lines[at]).length === cells(below).length;
}

function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function table(lines, at) {
  const head = cells(lines[at]);
  const align = cells(lines[at + 1]).map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "end") : "start"));
  let end = at + 2;
  while (end < lines.length && lines[end].trim() && lines[end].includes("|")) end += 1;
  const rows = lines.slice(at + 2, end).map((line) => {
    const found = cells(line);
    return head.map((_, column) => found[column] ?? "");
  });
  return [{ kind: "table", head, align, rows }, end];
}

function quote(lines, at, depth) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  const inside = lines.slice(at, end).map((line) => QUOTE.exec(line)[1]);
  return [{ kind: "quote", blocks: markdown(inside.join("\n"), depth + 1) }, end];
}

function list(lines, at, depth) {
  const [, indent, mark] = ITEM.exec(lines[at]);
  const ordered = /\d/.test(mark);
  const items = [];
  let end = at;
  while (end < lines.length) {
    const item = ITEM.exec(lines[end]);
    if (!item || item[1].length > indent.length + 1 || /\d/.test(item[2]) !== ordered || RULE.test(lines[end])) break;
    const [inside, next] = itemLines(lines, end, item);
    items.push(markdown(inside.join("\n"), depth + 1));
    end = next;
  }
  return [{ kind: "list", ordered, start: ordered ? Number.parseInt(mark, 10) : 1, items }, end];
}

function itemLines(lines, at, [, indent, mark, first]) {
  const inside = [first];
  const width = indent.length + mark.length + 1;
  let end = at + 1;
  while (end < lines.length) {
    const line = lines[end];
    const depth = line.length - line.trimStart().length;
    if (!line.trim()) {
      const follows = lines[end + 1] ?? "";
      if (follows.trim() && follows.length - follows.trimStart().length < Math.min(width, indent.length + 2)) {
        if (!ITEM.test(follows)) break;
        end += 1;
        break;
      }
    } else if (depth <= indent.length + 1 && (ITEM.test(line) || opensBlock(line))) {
      break;
    }
    inside.push(line.slice(Math.min(depth, width)));
    end += 1;
  }
  return [inside, end];
}

function opensBlock(line) {
  return fenceOf(line) || HEADING.test(line) || QUOTE.test(line) || RULE.test(line) || MATHS.test(line);
}

function paragraph(lines, at) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !opensBlock(lines[end])) {
    if (ITEM.test(lines[end]) || isTable(lines, end)) break;
    end += 1;
  }
  return [{ kind: "paragraph", text: lines.slice(at, end).map((line) => line.trim()).join("\n") }, end];
}
