// What is known of one task: a timeline drawn to scale, and the facts below it.

import { byId, make, makeSvg, setText } from "./dom.js";
import { bytes, count, OUTCOMES, seconds, timeOfDay } from "./format.js";

const dialog = byId("details"), body = byId("details-body");

export class TaskDialog {
  /** @param {{cancel: (task: number) => Promise<void>, can: (action: string) => boolean}} actions */
  constructor(actions) {
    this.actions = actions;
    byId("details-close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    byId("search").addEventListener("submit", (event) => {
      event.preventDefault();
      const number = byId("task").value.trim().replace(/^#/, "");
      if (/^\d+$/.test(number)) this.open(Number(number));
    });
  }

  async open(task) {
    setText(byId("details-title"), `Task #${task}`);
    this.task = task;
    if (!dialog.open) {
      body.replaceChildren(make("p", { class: "note" }, "…"));
      dialog.showModal();
    }
    await this.load(task);
  }

  async load(task) {
    try {
      const answer = await fetch(`tasks/${task}.json`, { cache: "no-store" });
      const found = await answer.json();
      if (task === this.task) body.replaceChildren(...(answer.ok ? this.describe(found) : [make("p", { class: "no-details" }, found.detail)]));
    } catch {
      body.replaceChildren(make("p", { class: "no-details" }, "The server does not answer."));
    }
  }

  /** A task that is under way goes on while its dialog is open. */
  refresh() {
    if (dialog.open && body.dataset.running === "true" && !body.contains(document.activeElement)) this.load(this.task);
  }

  describe(details) {
    const end = details.finished ?? details.now;
    const began = details.wait_s !== null ? details.submitted + details.wait_s : details.sent;
    body.dataset.running = String(details.outcome === null);
    const outcome = details.outcome === null ? (details.sent === null ? "waiting" : "running") : OUTCOMES[details.outcome] ?? details.outcome;
    const at = (t) => timeOfDay(details.time - details.now + t);
    const facts = [
      ["Submitted", at(details.submitted)],
      ["Waited", seconds((began ?? end) - details.submitted)],
      ["Ran", details.run_s !== null ? seconds(details.run_s) : began === null ? null : `${seconds(end - began)} (seen from the server)`],
      ["Settled", details.finished === null ? null : `${at(details.finished)}, after ${seconds(end - details.submitted)}`],
      ["Worker", details.worker === null ? null : `#${details.worker}`],
      ["Attempts", count(details.attempts)],
      ["Error", details.error],
      ["Timeout", details.timeout === null ? "none" : seconds(details.timeout)],
      ["Priority", count(details.priority)],
      ["Fair key", details.fair_key],
      ["Arguments", details.arguments],
      ["Sent, received", `${bytes(details.bytes_sent)}, ${bytes(details.bytes_received)}`],
    ].filter(([, value]) => value !== null);
    return [
      make("p", { class: "task-name" }, make("span", { class: "name" }, details.name), " ", make("span", { class: "state", "data-outcome": details.outcome ?? "running" }, outcome)),
      timeline(details, began, end),
      make("dl", { class: "facts" }, ...facts.flatMap(([label, value]) => [make("dt", {}, label), make("dd", {}, value)])),
      ...this.cancelButton(details),
    ];
  }

  cancelButton(details) {
    if (details.outcome !== null || !this.actions.can("cancel")) return [];
    const onclick = async () => { await this.actions.cancel(details.id); await this.load(details.id); };
    return [make("div", { class: "buttons" }, make("button", { type: "button", class: "danger", onclick }, `Cancel task #${details.id}`))];
  }
}

/** Waiting, running, and what is left: drawn to scale; the facts below say it in words. */
function timeline(details, began, end) {
  const width = 600, total = Math.max(1e-9, end - details.submitted);
  const x = (t) => ((t - details.submitted) / total) * width;
  const start = Math.min(end, began ?? end);
  const stop = details.run_s === null ? end : Math.min(end, start + details.run_s);
  const block = (from, to, className) => makeSvg("rect", { x: x(from).toFixed(1), y: 4, width: Math.max(1.5, x(to) - x(from)).toFixed(1), height: 20, class: className });
  const kind = details.outcome ?? "running";
  return makeSvg("svg", { class: "timeline", viewBox: `0 0 ${width} 42`, role: "img", "aria-label": "Waiting and running, to scale" },
    makeSvg("line", { x1: 0, x2: width, y1: 14, y2: 14, class: "rail" }),
    block(details.submitted, start, "waited"), ...(began === null ? [] : [block(start, stop, `ran ${kind}`)]),
    makeSvg("text", { x: 0, y: 39 }, "0"), makeSvg("text", { x: width, y: 39, "text-anchor": "end" }, seconds(total)));
}
