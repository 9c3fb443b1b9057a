// Failures as a person reads them: what happened, what to do about it, and the request's id. Pure.

/** A failure of the gateway, or of the way to it (`status` 0). */
export class ApiError extends Error {
  constructor({ message, status = 0, code = null, param = null, requestId = null, retryAfter = null }) {
    super(message);
    Object.assign(this, { status, code, param, requestId, retryAfter });
  }
}

/** The error of an answer whose status is no success; `body` is what was read of it. */
export function fromAnswer(status, body, header) {
  let error = {};
  try {
    error = JSON.parse(body).error ?? {};
  } catch {
    // Something between browser and gateway answered in its own words.
  }
  return new ApiError({
    message: error.message ?? `the server answered with status ${status}`,
    status,
    code: error.code ?? null,
    param: error.param ?? null,
    requestId: header("x-request-id"),
    retryAfter: Number(header("retry-after")) || null,
  });
}

const ADVICE = {
  unreachable: "Is the gateway still running? `make serve` starts it.",
  cut_off: "The connection was lost. Try again; the gateway's log has the cause.",
  missing_api_key: "Enter an API key. `conductor keys create` creates one.",
  invalid_api_key: "Enter another API key. `conductor keys list` shows the valid keys.",
  insufficient_scope: "This key may not do that; use one with the scope it needs.",
  category_not_allowed: "This key may not use the category; choose another one.",
  rate_limit_exceeded: "This key has reached its rate limit.",
  insufficient_memory: "Unload another model on the Models page, or raise CONDUCTOR_MEMORY_BUDGET.",
  model_loading_skipped: "The gateway runs with --skip-model-loading; restart it without that option.",
  model_not_found: "The table has changed; choose another category.",
  context_length_exceeded: "Shorten the prompt, or lower max_tokens under Options.",
  session_busy: "This conversation is being answered in another place; wait until that answer ends.",
  session_full: "Start a new conversation.",
  session_not_found: "The conversation is gone; start a new one.",
  worker_died: "Try again: TorchServe restarts the worker. `conductor ps` shows its state.",
  first_token_timeout: "The model took too long; try again when it is less busy.",
  server_overloaded: "Many requests are waiting; try again in a moment.",
  shutting_down: "The gateway is stopping; start it again.",
  internal_error: "The gateway's log has the cause, under the request id below.",
};

/** {title, advice, id} of any failure. */
export function explain(error) {
  const retry = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
  const about = error.param ? `Change ${error.param} and send it again.` : "";
  const advice = ADVICE[error.code] ?? (error.status >= 500 ? "Try again; the gateway's log has the cause." : about);
  const text = error.message || "something went wrong";
  return {
    title: text[0].toUpperCase() + text.slice(1),
    advice: `${advice}${retry}`.trim(),
    id: error.requestId ?? null,
  };
}
