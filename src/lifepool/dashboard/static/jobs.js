// Jobs, as their store has them: what runs with how far it is, what waits, what has failed and why.

import { byId, keyed, make, setData, setText } from "./dom.js";
import { age, ago, count, seconds } from "./format.js";

const TIMEOUT_MS = 5000;
const STATES = ["queued", "running", "succeeded", "failed", "lost", "cancelled"];

export class Jobs {
  constructor(actions) {
    this.actions = actions;
    this.asking = false;
  }

  /** Ask for what is going on, unless that is under way. */
  async update() {
    if (this.asking) return;
    this.asking = true;
    try {
      const answer = await fetch("jobs.json", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
      const found = await answer.json();
      this.complain(answer.ok ? "" : `The jobs can't be read now: ${found.detail ?? answer.status}`);
      if (answer.ok) this.draw(found);
    } catch {
      this.complain("The jobs can't be read now: the server does not answer.");
    }
    this.asking = false;
  }

  complain(text) {
    setText(byId("jobs-problem"), text);
    byId("jobs-problem").hidden = !text;
    setData(byId("jobs"), "old", String(Boolean(text)));
  }

  draw(found) {
    this.state = found;
    this.counts(found);
    this.list("running", found.running, (parts, job) => refreshRunning(parts, job, found), "cancel-job", "Cancel");
    this.list("queued", found.queued, (parts, job) => refreshQueued(parts, job, found), "cancel-job", "Cancel");
    this.dead(found);
  }

  counts({ counts, oldest_queued_s: oldest }) {
    const known = STATES.map((state) => ({ state, n: counts[state] ?? 0 }));
    keyed(byId("jobs-counts"), known, ({ state }) => state, ({ state }) => make("div", { "data-state": state }, make("dt", {}, state), make("dd")), (line, { n }) => {
      setText(line.lastChild, count(n));
      setData(line, "zero", String(n === 0));
    });
    note("running", counts.running ?? 0, this.state.running.length, "");
    note("queued", counts.queued ?? 0, this.state.queued.length, oldest === null ? "" : `the oldest has waited ${age(oldest)}`);
  }

  list(kind, jobs, refresh, action, label) {
    byId(`jobs-${kind}-empty`).hidden = jobs.length > 0;
    keyed(byId(`jobs-${kind}`), jobs, ({ key }) => key, () => jobItem(), (item, job) => {
      const { name, id, tags } = item.parts;
      setText(name, job.name);
      setText(id, job.id ?? job.short);
      setText(tags, job.tags.join(" · "));
      refresh(item.parts, job);
      this.offer(item.parts, job, action, label);
    });
  }

  /** A button for an action, if whoever looks may act. */
  offer({ buttons }, job, action, label) {
    const allowed = job.id !== null && this.state.actions.includes(action) && !job.cancel_requested;
    if (!allowed) buttons.replaceChildren();
    else if (!buttons.firstChild) {
      const perform = async () => { await this.actions.post(action, `/${job.id}`); await this.update(); };
      buttons.append(make("button", { type: "button", class: action === "cancel-job" ? "danger" : "", "aria-label": `${label} job ${job.short} ${job.name}`, onclick: perform }, label));
    }
  }

  dead({ dead, counts, dead_looked_at: looked }) {
    const all = (counts.failed ?? 0) + (counts.lost ?? 0);
    byId("jobs-dead-empty").hidden = dead.length > 0;
    setText(byId("jobs-dead-note"), all > looked ? `alike ones together: the last ${count(looked)} of ${count(all)}` : all ? "alike ones together, the last first" : "");
    keyed(byId("jobs-dead"), this.ordered(dead), ({ key }) => key, (group) => this.group(group), (item, group) => this.refreshGroup(item, group));
  }

  /** The last first; but nothing moves under somebody who reads or points. */
  ordered(groups) {
    const list = byId("jobs-dead");
    if (!list.matches(":hover, :focus-within") && !list.querySelector("details[open]")) return groups;
    const order = new Map([...list.children].map((item, i) => [item.group.key, i]));
    return [...groups].sort((a, b) => (order.get(a.key) ?? -1) - (order.get(b.key) ?? -1));
  }

  group({ state }) {
    const parts = {
      times: make("span", { class: "times num" }), error: make("b"), name: make("span", { class: "name" }), when: make("span", { class: "ago note" }),
      message: make("span", { class: "message" }), trace: make("pre", { tabindex: 0, "aria-label": "Traceback" }), named: make("ul", { class: "jobs" }), more: make("p", { class: "note" }), all: make("p", { class: "buttons" }),
    };
    const kind = make("span", { class: "state", "data-outcome": state }, state);
    const summary = make("summary", {}, kind, parts.times, make("span", { class: "what" }, parts.error, " in ", parts.name), parts.when, parts.message);
    const details = make("details", { ontoggle: () => { if (details.open) this.load(item); } }, summary, parts.named, parts.more, parts.all, parts.trace);
    const item = make("li", {}, details);
    item.parts = parts;
    return item;
  }

  refreshGroup(item, group) {
    const { times, error, name, when, message, named, more, all } = item.parts, { now } = this.state;
    item.group = group;
    setText(times, `${count(group.count)} ×`);
    setText(error, group.error);
    setText(name, group.name);
    setText(when, ago(now - group.last));
    setText(message, group.message);
    keyed(named, group.jobs, ({ key }) => key, () => jobItem(), (line, job) => {
      setText(line.parts.name, "");
      setText(line.parts.id, job.id ?? job.short);
      setText(line.parts.tags, job.tags.join(" · "));
      setText(line.parts.what, `${ago(now - job.finished)}, after ${job.attempts === 1 ? "one attempt" : `${count(job.attempts)} attempts`}`);
      this.offer(line.parts, job, "retry-job", "Retry");
    });
    setText(more, group.count > group.jobs.length ? `and ${count(group.count - group.jobs.length)} more` : "");
    this.offerAll(all, group);
  }

  offerAll(place, group) {
    const ids = group.jobs.map(({ id }) => id);
    if (ids.length < 2 || ids.includes(null)) return place.replaceChildren();
    if (!place.firstChild) place.append(make("button", { type: "button", onclick: () => this.retryAll(place.ids) }));
    place.ids = ids;
    setText(place.firstChild, `Retry these ${ids.length}`);
  }

  async retryAll(ids) {
    for (const id of ids) await this.actions.post("retry-job", `/${id}`);
    await this.update();
  }

  async load({ group, parts: { trace } }) {
    trace.hidden = !group.has_traceback;
    if (!group.has_traceback || trace.textContent) return;
    try {
      const answer = await fetch(`jobs/failures/${group.key}.json`, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
      const found = await answer.json();
      setText(trace, answer.ok ? found.traceback : found.detail);
    } catch {
      setText(trace, "The server does not answer.");
    }
  }
}

function jobItem() {
  const parts = { name: make("b", { class: "name" }), id: make("span", { class: "id note" }), tags: make("span", { class: "note" }), what: make("span", { class: "what note" }), buttons: make("span", { class: "do" }) };
  const item = make("li", {}, parts.name, parts.id, parts.tags, parts.what, parts.buttons);
  item.parts = parts;
  return item;
}

const attempts = ({ attempts: n, max_attempts: most }) => `attempt ${count(n)} of ${count(most)}`;

function refreshRunning(parts, job, { now }) {
  const { progress } = job;
  if (!parts.bar) {
    parts.bar = make("progress", { "aria-label": `Progress of job ${job.short}` });
    parts.far = make("span", { class: "far note" });
    parts.what.before(parts.bar, parts.far);
  }
  if (progress?.total > 0) {
    parts.bar.max = progress.total;
    parts.bar.value = Math.min(progress.done, progress.total);
  } else parts.bar.removeAttribute("value");
  setText(parts.far, far(progress));
  const limit = job.timeout === null ? "" : ` of at most ${seconds(job.timeout)}`;
  setText(parts.what, `${job.cancel_requested ? "cancelling · " : ""}for ${age(now - job.started)}${limit} · ${attempts(job)}`);
}

/** How far a job says it is: "37 %, 370 of 1,000 rows: adding". */
function far(progress) {
  if (!progress) return "";
  const { done, total, message, unit } = progress;
  const part = total > 0 ? `${Math.floor((100 * Math.min(done, total)) / total)} %, ` : "";
  const amount = total === 1 && !unit ? "" : `${figure(done)}${total === null ? "" : ` of ${figure(total)}`}${unit ? ` ${unit}` : ""}`;
  return [`${part}${amount}`.replace(/, $/, ""), message].filter(Boolean).join(": ");
}

const figure = (value) => (Number.isInteger(value) ? count(value) : value.toPrecision(3));

function refreshQueued(parts, job, { now }) {
  const due = job.run_at !== null && job.run_at > now ? `starts in ${age(job.run_at - now)}` : `waits for ${age(now - (job.run_at ?? job.created))}`;
  const again = job.attempts ? `after ${attempts(job)}${job.failure ? `: ${job.failure}` : ""}` : "";
  setText(parts.what, [due, job.priority ? `priority ${job.priority}` : "", again].filter(Boolean).join(" · "));
}

function note(kind, all, shown, more) {
  setText(byId(`jobs-${kind}-note`), [all > shown ? `${count(shown)} of ${count(all)}` : "", more].filter(Boolean).join(", "));
}
