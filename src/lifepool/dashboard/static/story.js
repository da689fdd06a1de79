// The story of one task: a line of time, and what is known besides.

import { byId, make, makeSvg, setText } from "./dom.js";
import { bytes, count, OUTCOMES, seconds, timeOfDay } from "./format.js";

const dialog = byId("story"), body = byId("story-body");

export class Stories {
  /** @param {{cancel: (task: number) => Promise<void>, can: (action: string) => boolean}} actions */
  constructor(actions) {
    this.actions = actions;
    byId("story-close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    byId("search").addEventListener("submit", (event) => {
      event.preventDefault();
      const number = byId("task").value.trim().replace(/^#/, "");
      if (/^\d+$/.test(number)) this.open(Number(number));
    });
  }

  async open(task) {
    setText(byId("story-title"), `Task #${task}`);
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
      if (task === this.task) body.replaceChildren(...(answer.ok ? this.tell(found) : [make("p", { class: "untold" }, found.detail)]));
    } catch {
      body.replaceChildren(make("p", { class: "untold" }, "The server does not answer."));
    }
  }

  /** A task that is under way goes on while its story is open. */
  refresh() {
    if (dialog.open && body.dataset.running === "true" && !body.contains(document.activeElement)) this.load(this.task);
  }

  tell(story) {
    const end = story.finished ?? story.now;
    const began = story.wait_s !== null ? story.submitted + story.wait_s : story.sent;
    body.dataset.running = String(story.outcome === null);
    const outcome = story.outcome === null ? (story.sent === null ? "waiting" : "running") : OUTCOMES[story.outcome] ?? story.outcome;
    const at = (t) => timeOfDay(story.time - story.now + t);
    const facts = [
      ["Submitted", at(story.submitted)],
      ["Waited", seconds((began ?? end) - story.submitted)],
      ["Ran", story.run_s !== null ? seconds(story.run_s) : began === null ? null : `${seconds(end - began)} (seen from the server)`],
      ["Settled", story.finished === null ? null : `${at(story.finished)}, after ${seconds(end - story.submitted)}`],
      ["Worker", story.worker === null ? null : `#${story.worker}`],
      ["Attempts", count(story.attempts)],
      ["Error", story.error],
      ["Timeout", story.timeout === null ? "none" : seconds(story.timeout)],
      ["Priority", count(story.priority)],
      ["Fair key", story.fair_key],
      ["Arguments", story.arguments],
      ["Sent, received", `${bytes(story.bytes_sent)}, ${bytes(story.bytes_received)}`],
    ].filter(([, value]) => value !== null);
    return [
      make("p", { class: "story-name" }, make("span", { class: "name" }, story.name), " ", make("span", { class: "state", "data-outcome": story.outcome ?? "running" }, outcome)),
      timeline(story, began, end),
      make("dl", { class: "facts" }, ...facts.flatMap(([label, value]) => [make("dt", {}, label), make("dd", {}, value)])),
      ...this.cancelButton(story),
    ];
  }

  cancelButton(story) {
    if (story.outcome !== null || !this.actions.can("cancel")) return [];
    const onclick = async () => { await this.actions.cancel(story.id); await this.load(story.id); };
    return [make("div", { class: "buttons" }, make("button", { type: "button", class: "danger", onclick }, `Cancel task #${story.id}`))];
  }
}

/** Waiting, running, and what is left: drawn to scale, told in the facts below. */
function timeline(story, began, end) {
  const width = 600, total = Math.max(1e-9, end - story.submitted);
  const x = (t) => ((t - story.submitted) / total) * width;
  const start = Math.min(end, began ?? end);
  const stop = story.run_s === null ? end : Math.min(end, start + story.run_s);
  const block = (from, to, className) => makeSvg("rect", { x: x(from).toFixed(1), y: 4, width: Math.max(1.5, x(to) - x(from)).toFixed(1), height: 20, class: className });
  const kind = story.outcome ?? "running";
  return makeSvg("svg", { class: "timeline", viewBox: `0 0 ${width} 42`, role: "img", "aria-label": "Waiting and running, to scale" },
    makeSvg("line", { x1: 0, x2: width, y1: 14, y2: 14, class: "rail" }),
    block(story.submitted, start, "waited"), ...(began === null ? [] : [block(start, stop, `ran ${kind}`)]),
    makeSvg("text", { x: 0, y: 39 }, "0"), makeSvg("text", { x: width, y: 39, "text-anchor": "end" }, seconds(total)));
}
