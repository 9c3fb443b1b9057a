// How figures are said: bytes, seconds, rates, and the gateway's words about what a request waits for. Pure.

const UNITS = ["B", "KB", "MB", "GB", "TB"];

/** 1234567890 as "1.2 GB"; null as "–". */
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit < 2 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** 0.0634 as "63 ms", 12.34 as "12.3 s", 95 as "1 min 35 s". */
export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${value.toFixed(1)} s`;
  return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
}

/** "loading maths 41% (convert), about 5 s" as its words and the share of 1, null where none is said. */
export function waiting(comment) {
  if (!comment || comment === "keep-alive") return null;
  const percent = /\b(\d{1,3})\s?%/.exec(comment);
  const words = comment.replaceAll("_", " ");
  return {
    text: words[0].toUpperCase() + words.slice(1),
    share: percent ? Math.min(100, Number(percent[1])) / 100 : null,
  };
}

const ENDINGS = {
  stop: "complete",
  length: "cut at max_tokens",
  cancelled: "stopped",
};

/** What an answer's last record says, as short pairs [name, value, explanation]. */
export function figures(record) {
  const { usage = {}, timings = {} } = record;
  const tokens = usage.completion_tokens ?? 0;
  const first = timings.first_token_s;
  const writing = first === null || first === undefined ? 0 : timings.total_s - first;
  const found = [["ended", ENDINGS[record.finish_reason] ?? record.finish_reason, "finish_reason"]];
  if (tokens > 1 && writing > 0) {
    found.push(["speed", `${((tokens - 1) / writing).toFixed(0)} tokens/s`, "after the first token"]);
  }
  if (first !== null && first !== undefined) found.push(["first token", seconds(first), "in the worker"]);
  found.push(["total", seconds(timings.total_s), "in the worker"]);
  found.push(["tokens", `${usage.prompt_tokens ?? 0} in, ${tokens} out`, "by the model's own tokenizer"]);
  return found;
}

/** A Unix time as "today 14:05" or a date. */
export function when(unix, now = new Date()) {
  const then = new Date(unix * 1000);
  const time = `${String(then.getHours()).padStart(2, "0")}:${String(then.getMinutes()).padStart(2, "0")}`;
  return then.toDateString() === now.toDateString() ? `today ${time}` : then.toISOString().slice(0, 10);
}
