// How an engine's text is to be read: most write Markdown, some code or JSON and nothing else. Pure.

const FENCE = "````";

/** `text` of `engine` as Markdown; `prompt` is what a completion goes on from. */
export function asMarkdown(engine, text, prompt = "") {
  if (!text.trim()) return "";
  if (engine === "code_completion") return `${FENCE}completion\n${prompt}${text}\n${FENCE}`;
  return isJson(text) ? `${FENCE}json\n${text.trim()}\n${FENCE}` : text;
}

function isJson(text) {
  // Of an object that is still coming only the beginning is known.
  return /^\s*(?:\{\s*(?:"|\}|$)|\[\s*(?:[{"\]]|$))/.test(text);
}
