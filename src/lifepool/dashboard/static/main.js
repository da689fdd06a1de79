// Puts the parts together: each answer of the server goes to all of them.

import { Actions } from "./actions.js";
import { byId, setData, setText } from "./dom.js";
import { Failures } from "./failures.js";
import { timeOfDay } from "./format.js";
import { Instruments } from "./instruments.js";
import { Jobs } from "./jobs.js";
import { Link } from "./link.js";
import { Nodes } from "./nodes.js";
import { TaskDialog } from "./task_dialog.js";
import { Views } from "./views.js";
import { blocks, exits, hintAtWideTables, totals, Names, Oldest } from "./tables.js";
import { Workers } from "./workers.js";

const FORMAT = 1;
const REASONS = {
  "broken": "a bug in lifepool has stopped the pool", "terminating": "the server is ending", "crash-looping": "no worker comes up",
  "no-worker": "no worker is up yet", "saturated": "the queue is full", "unreachable": "the cluster can't be reached",
  "created": "not started yet", "starting": "starting", "draining": "draining: nothing new is taken", "closed": "closed",
};

const actions = new Actions((text) => notice("action", text));
const dialog = new TaskDialog(actions);
const open = (task) => dialog.open(task);
const parts = [new Instruments(), new Workers(open), new Failures(open), new Names(open), new Oldest(open), new Nodes(), actions];
const jobs = new Jobs(actions), views = new Views(() => jobs.update());
const notices = new Map();

/** Each cause has its own sentence, and takes it away itself. */
function notice(cause, text) {
  if (text) notices.set(cause, text);
  else notices.delete(cause);
  setText(byId("notice"), [...notices.values()].join(" · "));
  byId("notice").hidden = notices.size === 0;
}

function show(state) {
  notice("version", state.version === FORMAT ? "" : "The server runs another version of lifepool now: reload this page.");
  const { pool } = state, reasons = pool.reasons.map((reason) => REASONS[reason] ?? reason);
  document.title = `${pool.ready && state.verdict?.level !== "bad" ? "" : "! "}${pool.name} · lifepool`;
  setText(byId("name"), pool.name);
  setText(byId("state"), pool.ready ? `${pool.state}, ready` : pool.reasons.includes(pool.state) ? pool.state : `${pool.state}, not ready`);
  const verdict = state.verdict ?? { level: pool.ready ? "good" : "bad", text: "" };
  setData(byId("state"), "state", !pool.ready ? pool.state : verdict.level === "good" ? "ready" : verdict.level);
  setText(byId("verdict"), verdict.text);
  setData(byId("verdict"), "level", verdict.level);
  notice("ready", pool.ready ? "" : `Not ready: ${reasons.join(", ")}.`);
  setText(byId("version"), state.lifepool);
  setText(byId("as-of"), timeOfDay(state.time));
  for (const part of parts) part.update(state);
  views.update(state);
  if (views.shows("jobs")) jobs.update();
  totals(state);
  exits(state);
  blocks(state);
  dialog.refresh();
}

const link = new Link(show, (status, text) => {
  setData(byId("link"), "link", status);
  setData(document.documentElement, "link", status);
  setText(byId("link-text"), text);
});

byId("pause").addEventListener("click", () => {
  const paused = byId("pause").getAttribute("aria-pressed") !== "true";
  byId("pause").setAttribute("aria-pressed", String(paused));
  link.pause(paused);
});

const THEMES = ["auto", "light", "dark"];

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  setText(byId("theme"), `Theme: ${theme}`);
  try { localStorage.setItem("lifepool-theme", theme); } catch { /* it holds for this visit */ }
  parts[1].draw();
}

setTheme(document.documentElement.dataset.theme ?? "auto");
byId("theme").addEventListener("click", () => {
  setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % THEMES.length]);
});

hintAtWideTables();
link.wake();
