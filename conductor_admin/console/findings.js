// What an engine found out about an answer, as sections that can be shown. Goes by the names of the findings, not
// by category, so that a new engine is shown too. Pure.
//
// Sections: {kind: "verdict"|"checks"|"image"|"table"|"bars"|"pairs"|"json"|"warnings"|"note", ...};
// `tone` is "good", "bad" or "unknown".

const VERDICTS = {
  true: ["good", "Checked: correct"],
  false: ["bad", "Checked: not correct"],
  unknown: ["unknown", "Could not be checked"],
};
const LONG = 120;
const SHOWN_NUMBERS = 8;

/** The sections of `findings`, the most telling first; empty where nothing was found out. */
export function sections(findings) {
  const left = new Map(Object.entries(findings ?? {}));
  const take = (name) => {
    const value = left.get(name);
    left.delete(name);
    return value;
  };
  const shown = SPECIAL.flatMap((special) => special(take, left) ?? []);
  return [...shown, ...others(left), ...warnings(take)];
}

const SPECIAL = [verdict, chart, blocks, quotes, citations, references, invalidDois, numbers, scores, translations, vectors, items, turns, note];

function verdict(take, left) {
  if (!left.has("verified")) return null;
  const [tone, label] = VERDICTS[take("verified")] ?? VERDICTS.unknown;
  const attempts = take("attempts");
  return {
    kind: "verdict",
    tone,
    label,
    answer: take("answer") ?? null,
    latex: take("latex") ?? null,
    reason: take("reason") ?? null,
    note: attempts > 1 ? `at attempt ${attempts}` : null,
  };
}

function chart(take, left) {
  if (!left.has("chart")) return null;
  const data = take("chart");
  const isBase64 = typeof data === "string" && /^[A-Za-z0-9+/]+={0,2}$/.test(data);
  return isBase64 ? { kind: "image", src: `data:image/png;base64,${data}`, alt: "Chart of the table" } : null;
}

function blocks(take, left) {
  if (!Array.isArray(left.get("blocks"))) return null;
  const found = take("blocks");
  if (!found.length) return { kind: "note", text: "There is no code in the answer." };
  return checks("Syntax", found, (block, n) => ({
    tone: toneOf(block.syntax_ok),
    text: `${block.language ?? "unknown language"}, block ${n + 1}, ${counted(block.code.split("\n").length, "line")}`,
    note: block.error ?? (block.syntax_ok ? "parses" : "not parsed"),
  }));
}

function quotes(take, left) {
  if (!Array.isArray(left.get("quotes"))) return null;
  return checks("Quotations", take("quotes"), ({ text, found, passage, start }) => ({
    tone: toneOf(found),
    text: `“${text}”`,
    note: found ? place(passage, start) : "is not in the given text",
  }));
}

function place(passage, start) {
  if (Number.isInteger(passage)) return `stands in passage ${passage + 1}`;
  return Number.isInteger(start) ? `stands in the document at character ${start}` : "stands in the given text";
}

function citations(take, left) {
  if (!Array.isArray(left.get("citations"))) return null;
  return checks("Citations", take("citations"), ({ key, supported }) => ({
    tone: toneOf(supported),
    text: key,
    note: supported ? "is one of the given sources" : "is no given source",
  }));
}

function references(take, left) {
  if (!Array.isArray(left.get("references"))) return null;
  return checks("References", take("references"), ({ key, text }) => ({ tone: null, text, note: key }));
}

function invalidDois(take, left) {
  if (!Array.isArray(left.get("invalid_dois"))) return null;
  return checks("DOIs", take("invalid_dois"), (doi) => ({ tone: "bad", text: doi, note: "is not a valid DOI" }));
}

function numbers(take, left) {
  if (!Array.isArray(left.get("unsupported_numbers"))) return null;
  const found = take("unsupported_numbers");
  if (!found.length) return checks("Numbers", [null], () => ({ tone: "good", text: "Every number of the answer", note: "follows from the table" }));
  return checks("Numbers", found, (text) => ({ tone: "bad", text: String(text), note: "does not follow from the table" }));
}

function scores(take, left) {
  const found = left.get("scores");
  if (!isPlain(found)) return null;
  const label = take("label");
  const chosen = new Set(Array.isArray(label) ? label : [label]);
  const ranked = Object.entries(take("scores")).sort((one, other) => other[1] - one[1]);
  return { kind: "bars", title: "Labels", items: ranked.map(([name, share]) => ({ label: name, share, chosen: chosen.has(name) })) };
}

function translations(take, left) {
  if (!Array.isArray(left.get("translations"))) return null;
  const found = take("translations");
  // A single one is the answer itself.
  return found.length > 1 ? checks("Translations", found, (text, n) => ({ tone: null, text, note: `text ${n + 1}` })) : null;
}

function vectors(take, left) {
  const found = left.get("embeddings");
  if (!Array.isArray(found)) return null;
  take("embeddings");
  const head = (vector) => vector.slice(0, SHOWN_NUMBERS).map((value) => value.toFixed(4)).join(", ");
  return checks("Vectors", found, (vector, n) => ({ tone: null, text: `[${head(vector)}, …]`, note: `text ${n + 1}, ${vector.length} numbers` }));
}

function items(take, left) {
  const found = left.get("items");
  return isTable(found) ? tableOf("Items", take("items")) : null;
}

function turns(take, left) {
  if (!left.has("dropped_turns")) return null;
  const dropped = take("dropped_turns");
  take("turns");
  return dropped ? { kind: "note", text: `${counted(dropped, "earlier turn")} did not fit in the context and were not sent to the model.` } : null;
}

function note(take, left) {
  return left.has("note") ? { kind: "note", text: String(take("note")) } : null;
}

function warnings(take) {
  const found = take("warnings");
  return Array.isArray(found) && found.length ? [{ kind: "warnings", items: found.map(String) }] : [];
}

function others(left) {
  const pairs = [];
  const large = [];
  for (const [name, value] of left) {
    if (name === "warnings" || value === null || (Array.isArray(value) && !value.length)) continue;
    if (isTable(value)) large.push(tableOf(words(name), value));
    else if (isPlain(value) && Object.values(value).some(isTable)) large.push(...nested(name, value));
    else if (typeof value === "object" && JSON.stringify(value).length > LONG) large.push(json(name, value));
    else pairs.push([words(name), short(value)]);
  }
  return [...(pairs.length ? [{ kind: "pairs", items: pairs }] : []), ...large];
}

function nested(name, value) {
  return Object.entries(value).flatMap(([key, inner]) => {
    if (inner === null || (Array.isArray(inner) && !inner.length)) return [];
    if (isTable(inner)) return [tableOf(`${words(name)}: ${words(key).toLowerCase()}`, inner)];
    return typeof inner === "object" ? [json(`${name} ${key}`, inner)] : [{ kind: "pairs", items: [[words(key), short(inner)]] }];
  });
}

function checks(title, found, item) {
  return found.length ? { kind: "checks", title, items: found.map(item) } : null;
}

function toneOf(value) {
  return value === true ? "good" : value === false ? "bad" : "unknown";
}

function isPlain(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isTable(value) {
  return Array.isArray(value) && value.length > 0 && value.every(isPlain);
}

function tableOf(title, rows) {
  const head = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const told = head.filter((name) => rows.some((row) => !isEmpty(row[name])));
  return { kind: "table", title, head: told.map(words), rows: rows.map((row) => told.map((name) => short(row[name]))) };
}

function isEmpty(value) {
  return value === null || value === undefined || (typeof value === "object" && !Object.keys(value).length);
}

function json(name, value) {
  return { kind: "json", title: words(name), text: JSON.stringify(value, null, 2) };
}

function short(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return String(Number.isInteger(value) ? value : Number(value.toPrecision(6)));
  if (Array.isArray(value)) return value.map(short).join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function words(name) {
  const text = name.replaceAll("_", " ");
  return text[0].toUpperCase() + text.slice(1);
}

function counted(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
