// The page put together: the key, the two tabs, and the looking at `/models` while somebody sees it.

import { Api } from "./api.js";
import { askKey } from "./ask.js";
import { Chat } from "./chat.js";
import { el, fill } from "./dom.js";
import { errorView } from "./error_view.js";
import { isMoving } from "./models.js";
import { ModelsPage } from "./models_page.js";

const OFTEN_MS = 2000;
const SELDOM_MS = 10000;

const api = new Api(askKey);
const main = document.querySelector("main");
const [chatTab, modelsTab] = document.querySelectorAll("[data-tab]");
const keyButton = document.querySelector("#forget-key");
const trouble = document.querySelector("#trouble");

const models = new ModelsPage({ api, onChanged: () => look() });
let chat = null;
let timer = null;
let rows = [];

function onModels() {
  return location.hash === "#models";
}

function route() {
  const isModels = onModels();
  chatTab.ariaCurrent = isModels ? null : "page";
  modelsTab.ariaCurrent = isModels ? "page" : null;
  fill(main, isModels ? models.node : chat.node);
  if (!isModels) pick();
  document.title = isModels ? "Models · Conductor" : "Conductor";
  look();
}

function pick() {
  chat.pick(decodeURIComponent(location.hash.slice(1)) || chat.category);
}

function picked(category) {
  const hash = `#${encodeURIComponent(category)}`;
  chatTab.href = hash;
  if (location.hash !== hash) history.replaceState(null, "", hash);
}

/** Read the states now, and again after a while as long as the page is visible. */
async function look() {
  clearTimeout(timer);
  if (document.hidden) return;
  try {
    const [found, stats] = await Promise.all([api.get("/models"), onModels() ? api.get("/stats") : null]);
    rows = found.models;
    chat.update(rows, found.personas ?? []);
    if (!onModels() && chat.category === null) pick(); // the rows could not be read until now
    if (stats) models.update(rows, stats.memory);
    fill(trouble);
  } catch (error) {
    if (!("status" in error)) throw error;
    fill(trouble, error.status === 401 ? errorView(error, keyQuestion()) : errorView(error));
  }
  keyButton.hidden = !api.hasKey;
  clearTimeout(timer);
  timer = setTimeout(look, onModels() || chat.isBusy || isMoving(rows) ? OFTEN_MS : SELDOM_MS);
}

function keyQuestion() {
  const ask = () => {
    api.askAgain();
    look();
  };
  return el("button.primary", { type: "button", onclick: ask }, "Enter a key");
}

async function start() {
  chat = new Chat({ api, onPicked: picked, onStarted: look });
  await look();
  route();
  addEventListener("hashchange", route);
  document.addEventListener("visibilitychange", look);
}

keyButton.addEventListener("click", () => {
  api.forgetKey();
  location.reload(); // what was shown with the key goes with it
});

try {
  await start();
} catch (error) {
  if (!("status" in error)) throw error;
  const again = el("button.primary", { type: "button", onclick: () => location.reload() }, "Try again");
  fill(main, el("div.stopped", {}, errorView(error, again)));
}
