// Rows of `GET /models` as a person reads them: states, memory, which rows share one copy. Pure.

import { bytes, seconds } from "./format.js";

const STATES = {
  READY: { tone: "good", text: "ready" },
  LOADING: { tone: "busy", text: "loading" },
  UNLOADING: { tone: "busy", text: "unloading" },
  FAILED: { tone: "bad", text: "failed" },
  UNAVAILABLE: { tone: "idle", text: "on demand" },
};

/** {tone, text, share} of a row: "loading 41 % (convert)", "queued 2nd of 3"... */
export function stateOf(row) {
  const { tone, text } = STATES[row.state] ?? { tone: "idle", text: row.state.toLowerCase() };
  if (row.position !== null && row.position !== undefined) {
    return { tone: "busy", text: `waiting for memory, ${row.position} of ${row.queue}`, share: null };
  }
  if (row.state !== "LOADING") return { tone, text, share: null };
  const share = row.progress ?? null;
  const percent = share === null ? "" : ` ${Math.round(100 * share)} %`;
  const phase = row.phase ? ` (${row.phase})` : "";
  return { tone, text: `${text}${percent}${phase}`, share };
}

/** What is known of a row's memory, the surest first: "512 MB measured". */
export function memoryOf({ memory }) {
  for (const kind of ["measured", "peak", "estimated", "declared"]) {
    if (memory?.[kind]) return `${bytes(memory[kind])} ${kind}`;
  }
  return "memory not known";
}

/** One line under a category's name: model, precision, device, memory. */
export function describe(row) {
  return [row.model, row.precision, row.device?.toUpperCase(), memoryOf(row)].filter(Boolean).join(" · ");
}

/** Worker sets in table order: {name, rows, first}; rows of one set share memory, state and failure. */
export function setsOf(rows) {
  const sets = new Map();
  for (const row of rows) {
    const found = sets.get(row.set);
    if (found) found.rows.push(row);
    else sets.set(row.set, { name: row.set, rows: [row], first: row });
  }
  return [...sets.values()];
}

/** When the set will be unloaded, in words; null where it stays or is not loaded. */
export function idleUntil(row, nowS) {
  if (row.state !== "READY" || !row.expires_at) return null;
  const left = row.expires_at - nowS;
  return left > 0 ? `unloads in ${seconds(left)} without use` : "unloads soon";
}

/** Whether any row is on its way somewhere, so that it is worth looking often. */
export function isMoving(rows) {
  return rows.some(({ state }) => state === "LOADING" || state === "UNLOADING");
}
