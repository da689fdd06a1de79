// Names, oldest tasks, totals and ended workers.

import { byId, keyed, link, make, setData, setText } from "./dom.js";
import { age, ago, bytes, count, seconds } from "./format.js";

export class Names {
  constructor(open) {
    this.open = open;
    this.table = byId("names");
    this.by = "run_sum";
    for (const button of this.table.querySelectorAll("[data-sort]")) {
      button.addEventListener("click", () => { this.by = button.dataset.sort; this.draw(); });
    }
  }

  update({ names }) {
    this.names = names;
    this.draw();
  }

  draw() {
    for (const button of this.table.querySelectorAll("[data-sort]")) {
      if (button.dataset.sort === this.by) button.parentElement.setAttribute("aria-sort", "descending");
      else button.parentElement.removeAttribute("aria-sort");
    }
    const names = this.names ?? [], sum = names.reduce((all, { run_sum: part }) => all + part, 0);
    const sorted = [...names].sort((a, b) => (b[this.by] ?? -1) - (a[this.by] ?? -1));
    byId("names-empty").hidden = names.length > 0;
    keyed(this.table.tBodies[0], sorted, ({ name }) => name, (item) => this.row(item), (row, item) => refreshName(row, item, sum));
  }

  row() {
    const cells = Array.from({ length: 5 }, () => make("td", { class: "num" })), name = make("th", { scope: "row", class: "name" });
    const longest = link("", "", () => this.open(row.slowest)), share = make("meter", { min: 0, max: 1, "aria-hidden": "true" }), time = make("span");
    cells[3].append(longest);
    cells[4].append(time, share);
    const row = make("tr", {}, name, ...cells);
    row.parts = { name, tasks: cells[0], failed: cells[1], mean: cells[2], longest, time, share };
    return row;
  }
}

function refreshName(row, item, sum) {
  const { name, tasks, failed, mean, longest, time, share } = row.parts;
  setText(name, item.name);
  setText(tasks, count(item.count));
  setText(failed, item.failures ? count(item.failures) : "");
  setData(failed, "bad", String(item.failures > 0));
  setText(mean, seconds(item.run_mean));
  setText(longest, seconds(item.run_max));
  longest.hidden = item.run_max === null;
  longest.setAttribute("aria-label", `${seconds(item.run_max)}: details of task ${item.slowest}`);
  setText(time, age(item.run_sum));
  share.value = sum ? item.run_sum / sum : 0;
  row.slowest = item.slowest;
}

export class Oldest {
  constructor(open) {
    this.open = open;
    this.body = byId("oldest").tBodies[0];
  }

  update({ oldest, now }) {
    byId("oldest-empty").hidden = oldest.length > 0;
    byId("oldest").hidden = oldest.length === 0;
    keyed(this.body, oldest, ({ id }) => id, (task) => this.row(task), (row, task) => refreshOldest(row, task, now));
  }

  row(task) {
    const [where, since, left] = [make("td"), make("td", { class: "num" }), make("td", { class: "num" })];
    const number = make("th", { scope: "row" }, link(`#${task.id}`, `Details of task ${task.id}`, () => this.open(task.id)));
    const row = make("tr", {}, number, make("td", { class: "name" }, task.name), where, since, left);
    row.parts = { where, since, left };
    return row;
  }
}

function refreshOldest(row, task, now) {
  const { where, since, left } = row.parts, waited = now - task.submitted;
  setText(where, task.worker === null ? "queue" : `worker #${task.worker}`);
  setText(since, age(waited));
  setText(left, task.timeout === null ? "no limit" : age(task.timeout - waited));
}

export function totals({ counts, server }) {
  setText(byId("server"), `process ${server.pid} on ${server.host}`);
  setText(byId("processes"), server.processes > 1 ? `one of ${server.processes} server processes (PID ${server.pid}); the others have pages of their own` : "one server process");
  const lines = [
    ["Submitted", count(counts.submitted)], ["Completed", count(counts.completed)], ["Failed", count(counts.failed), "failed"],
    ["Timed out", count(counts.timed_out), "timed_out"], ["Lost", count(counts.lost), "lost"], ["Cancelled", count(counts.cancelled), "cancelled"],
    ["Refused", count(counts.refused), "refused"], ["Run again", count(counts.retried)], ["In workers", count(counts.running)],
    ["Arguments sent", bytes(counts.bytes_sent)], ["Answers received", bytes(counts.bytes_received)],
    ["Workers replaced", count(Object.values(counts.restarts).reduce((sum, n) => sum + n, 0))],
  ];
  keyed(byId("totals"), lines, ([label]) => label, ([label, , kind]) => make("div", { "data-kind": kind }, make("dt", {}, label), make("dd")), (line, [, value]) => {
    setText(line.lastChild, value);
    setData(line, "zero", String(value === "0"));
  });
}

/** Tables that are wider than their container say so: a cut looks like an end. */
export function hintAtWideTables() {
  for (const scroll of document.querySelectorAll(".scroll")) {
    const hint = make("p", { class: "note swipe", hidden: "" }, "More columns to the right: swipe, or use the arrow keys.");
    scroll.before(hint);
    const look = () => { hint.hidden = scroll.scrollWidth <= scroll.clientWidth + 1; };
    new ResizeObserver(look).observe(scroll);
    new ResizeObserver(look).observe(scroll.firstElementChild);
  }
}

/** Who made the event loop stand still; shown if a LoopWatch looks for them. */
export function blocks({ blocks: found, now }) {
  byId("blocked").hidden = found === null;
  byId("blocks-empty").hidden = found?.length > 0;
  const makeBlock = ({ place }) => make("li", {}, make("b"), " ", make("span", { class: "name" }, place), " ", make("span", { class: "ago note" }));
  keyed(byId("blocks"), found ?? [], ({ t }) => t, makeBlock, (item, { t, seconds: long }) => {
    setText(item.firstChild, seconds(long));
    setText(item.lastChild, ago(now - t));
  });
}

export function exits({ exits: gone, now }) {
  byId("exits-empty").hidden = gone.length > 0;
  keyed(byId("exits"), gone, ({ worker }) => worker, makeExit, (item, { t }) => setText(item.querySelector(".ago"), ago(now - t)));
}

function makeExit({ worker, reason, exitcode, signal, completed, start_error: error }) {
  const why = error?.trim().split("\n").at(-1);
  const how = signal !== null ? `signal ${signal}` : exitcode !== null ? `exit code ${exitcode}` : "";
  const line = [make("b", {}, `#${worker}`), ` ${reason}`, make("span", { class: "note" }, [how, `${count(completed)} done`].filter(Boolean).map((part) => ` · ${part}`).join("")), " ", make("span", { class: "ago note" })];
  if (!error) return make("li", {}, make("p", {}, ...line));
  return make("li", {}, make("details", {}, make("summary", {}, ...line, make("span", { class: "message" }, why)), make("pre", { tabindex: 0 }, error)));
}
