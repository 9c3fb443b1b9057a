// An engine's options as fields of a form: JSON Schema in, fields out; what was typed in, options out. Pure.

function resolved(schema, schemas) {
  const name = schema?.$ref?.split("/").pop();
  return name ? (schemas[name] ?? {}) : schema;
}

/** Fields {name, kind, choices, description, initial, least, most} of a schema's properties. */
export function fields(schema) {
  const needed = new Set(schema?.required ?? []);
  return Object.entries(schema?.properties ?? {}).map(([name, property]) => ({
    name,
    ...shape(resolved(property, schema.$defs ?? {}), schema.$defs ?? {}),
    description: property.description ?? "",
    initial: property.default ?? null,
    needed: needed.has(name),
  }));
}

function shape(property, definitions) {
  const kinds = (property.anyOf ?? [property]).map((one) => resolved(one, definitions)).filter((one) => one.type !== "null");
  const choices = kinds.flatMap((one) => one.enum ?? (one.const === undefined ? [] : [one.const]));
  if (choices.length && choices.length === kinds.flatMap((one) => one.enum ?? [one.const]).length) return { kind: "choice", choices };
  if (choices.length) return { kind: "suggested", choices };
  return single(kinds);
}

function single(kinds) {
  const [one] = kinds;
  if (kinds.length !== 1) return { kind: "json", choices: [] };
  if (one.type === "boolean") return { kind: "flag", choices: [] };
  if (one.type === "integer" || one.type === "number") {
    return { kind: one.type, choices: [], least: one.minimum ?? null, most: one.maximum ?? null };
  }
  if (one.type === "string") return { kind: (one.maxLength ?? 0) > 5000 ? "text" : "line", choices: [] };
  return { kind: one.type === "array" && one.items?.type === "string" ? "lines" : "json", choices: [] };
}

/** The options that `typed` (name to string or boolean) stands for; what is empty or the default is left out. */
export function read(all, typed) {
  const options = {};
  for (const field of all) {
    const value = valueOf(field, typed[field.name]);
    if (value !== null && JSON.stringify(value) !== JSON.stringify(field.initial)) options[field.name] = value;
  }
  return options;
}

function valueOf(field, text) {
  if (field.kind === "flag") return text === true;
  if (text === undefined || text === null || text.trim() === "") return null;
  if (field.kind === "integer" || field.kind === "number") return Number(text);
  if (field.kind === "suggested") return /^-?\d+$/.test(text.trim()) ? Number(text) : text.trim();
  if (field.kind === "lines") return text.split("\n").map((line) => line.trim()).filter(Boolean);
  if (field.kind === "json") return parsed(field.name, text);
  return field.kind === "line" ? text.trim() : text;
}

/** A field that cannot be sent; `param` names it as the gateway would. */
export class OptionError extends Error {
  constructor(param, message) {
    super(message);
    this.param = param.replace(/^sampling\./, "");
  }
}

function parsed(name, text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new OptionError(name ? `options.${name}` : "options", `this is not JSON: ${error.message}`);
  }
}

/** Options typed as one JSON object, for engines of which no schema is known. */
export function readJson(text) {
  if (!text.trim()) return {};
  const value = parsed("", text);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new OptionError("options", "options are one JSON object");
  }
  return value;
}
