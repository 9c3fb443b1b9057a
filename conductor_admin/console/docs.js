// The page of /docs: every operation of /openapi.json with its parameters, body and answers, and every schema.

import { Api } from "./api.js";
import { askKey } from "./ask.js";
import { el, fill } from "./dom.js";
import { errorView } from "./error_view.js";

const main = document.querySelector("main");

function json(value) {
  return el("pre.maths", {}, JSON.stringify(value, null, 2));
}

/** The name of a schema of the document as a link to it, or the schema itself. */
function schemaView(schema) {
  const name = schema?.$ref?.split("/").pop();
  return name ? el("p", {}, el("a", { href: `#${name}` }, name)) : json(schema ?? {});
}

function contentView(content) {
  return Object.entries(content ?? {}).map(([kind, { schema }]) => el("div", {}, el("p.note", {}, kind), schemaView(schema)));
}

function parametersView(parameters) {
  const rows = parameters.map((one) =>
    el("tr", {}, el("td", {}, el("code", {}, one.name)), el("td", {}, one.in), el("td", {}, el("code", {}, JSON.stringify(one.schema ?? {}))), el("td", {}, one.description ?? "")),
  );
  return el("div.scroll", {}, el("table", {}, el("tbody", {}, rows)));
}

function answerView([status, { description, content }]) {
  return el("div", {}, el("h4", {}, `${status} ${description}`), contentView(content));
}

function operationView(path, method, operation) {
  const told = operation.description ?? operation.summary ?? "";
  return el(
    "details.fold",
    {},
    el("summary", {}, el("code", {}, `${method.toUpperCase()} ${path}`), el("span.note", {}, told.split(/\n\n|(?<=\.)\s/)[0])),
    el("p", {}, told),
    operation.parameters && [el("h4", {}, "Parameters"), parametersView(operation.parameters)],
    operation.requestBody && [el("h4", {}, "Body"), contentView(operation.requestBody.content)],
    Object.entries(operation.responses).map(answerView),
  );
}

function documentView({ info, paths, components }) {
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => operationView(path, method, operation)),
  );
  const schemas = Object.entries(components.schemas).map(([name, schema]) =>
    el("details.fold", { id: name }, el("summary", {}, el("code", {}, name)), json(schema)),
  );
  const link = el("a", { href: "/openapi.json" }, "/openapi.json");
  return el("div.models", {}, el("h1", {}, `${info.title} ${info.version}`), el("p.note", {}, "The same for programs: ", link), operations, el("h2", {}, "Schemas"), schemas);
}

/** Open the schema that the address names. */
function reveal() {
  const chosen = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!chosen) return;
  chosen.open = true;
  chosen.scrollIntoView();
}

try {
  fill(main, documentView(await new Api(askKey).get("/openapi.json")));
  addEventListener("hashchange", reveal);
  reveal();
} catch (error) {
  if (!("status" in error)) throw error;
  const again = el("button.primary", { type: "button", onclick: () => location.reload() }, "Try again");
  fill(main, el("div.stopped", {}, errorView(error, again)));
}
