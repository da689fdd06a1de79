// Recent failures: one line a kind, which opens to the worker's traceback.

import { byId, keyed, link, make, setData, setText } from "./dom.js";
import { ago, OUTCOMES, short } from "./format.js";

export class Failures {
  constructor(open) {
    this.open = open;
    this.list = byId("failures");
  }

  update({ failures, now }) {
    byId("failures-empty").hidden = failures.length > 0;
    keyed(this.list, this.ordered(failures), ({ number }) => number, (failure) => this.item(failure), (item, failure) => this.refresh(item, failure, now));
  }

  /** The last first; but nothing moves under somebody who reads or points: then only new kinds come on top. */
  ordered(failures) {
    if (this.list.matches(":hover, :focus-within") || this.list.querySelector("details[open]")) {
      const order = new Map([...this.list.children].map((item, i) => [item.failure.number, i]));
      failures = [...failures].sort((a, b) => (order.get(a.number) ?? -1) - (order.get(b.number) ?? -1));
    }
    return failures;
  }

  item(failure) {
    const parts = {
      times: make("span", { class: "times num" }), when: make("span", { class: "ago note" }), message: make("span", { class: "message" }),
      trace: make("pre", { tabindex: 0, "aria-label": "Traceback" }), tasks: make("p", { class: "note tasks" }),
    };
    const kind = make("span", { class: "state", "data-outcome": failure.outcome }, OUTCOMES[failure.outcome] ?? failure.outcome);
    const summary = make("summary", {}, kind, parts.times, make("span", { class: "what" }, make("b", {}, failure.error), " in ", make("span", { class: "name" }, failure.name)), parts.when, parts.message);
    const details = make("details", { ontoggle: () => { if (details.open) this.load(item); } }, summary, parts.tasks, parts.trace);
    const item = make("li", {}, details);
    item.parts = parts;
    return item;
  }

  refresh(item, failure, now) {
    const { times, when, message, tasks } = item.parts;
    item.failure = failure;
    setText(times, `${short(failure.count)} ×`);
    setText(when, ago(now - failure.last));
    setText(message, failure.message);
    setData(item, "fresh", String(now - failure.last < 10));
    keyed(tasks, failure.tasks, (task) => task, (task) => link(`#${task}`, `Details of task ${task}`, () => this.open(task)), () => {});
  }

  async load(item) {
    const { trace } = item.parts, { failure } = item;
    if (!failure.has_traceback) {
      setText(trace, "No traceback: no function raised this, or they are not shown here.");
      return;
    }
    if (!trace.textContent) setText(trace, "…");
    try {
      const answer = await fetch(`failures/${failure.number}.json`, { cache: "no-store" });
      const found = await answer.json();
      setText(trace, answer.ok ? found.traceback : found.detail);
    } catch {
      setText(trace, "The server does not answer.");
    }
  }
}
