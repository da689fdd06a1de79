// The workers: one row each, with a lane that shows what it ran in the last minute.

import { byId, keyed, link, make, setData, setText } from "./dom.js";
import { age, bytes, count, seconds } from "./format.js";

const LANE_SPAN = 60;

export class Workers {
  /** @param {(task: number) => void} open shows the details of a task. */
  constructor(open) {
    this.open = open;
    this.body = byId("workers").tBodies[0];
    this.marks = new Map(); // by worker: [id, worker, name, began, ran, outcome]
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(this.body);
  }

  update(state) {
    this.state = state;
    this.keep(state);
    const { workers, pool, counts } = state;
    setText(byId("workers-note"), `${count(workers.length)} of at most ${count(pool.max_workers)}${restarts(counts.restarts)}`);
    byId("workers-empty").hidden = workers.length > 0;
    byId("routing").hidden = !counts.routing;
    if (counts.routing) setText(byId("routing"), routing(counts.routing));
    this.limit = pool.max_worker_memory;
    keyed(this.body, workers, (worker) => worker.number, (worker) => this.row(worker), (row, worker) => this.refresh(row, worker));
    this.draw();
  }

  keep({ marks, now, continued, workers }) {
    if (!continued) this.marks.clear();
    for (const mark of marks) {
      if (!this.marks.has(mark[1])) this.marks.set(mark[1], []);
      this.marks.get(mark[1]).push(mark);
    }
    const here = new Set(workers.map((worker) => worker.number));
    for (const [worker, of] of this.marks) {
      const recent = of.filter(([, , , began, ran]) => began + ran > now - LANE_SPAN);
      if (recent.length && here.has(worker)) this.marks.set(worker, recent);
      else this.marks.delete(worker);
    }
  }

  row(worker) {
    const cell = (className, label = null) => make("td", { role: "cell", class: className, "data-label": label });
    const parts = {
      state: make("span", { class: "state" }), name: make("span", { class: "name" }), task: link("", "", () => this.open(parts.shown)),
      lane: make("canvas", { "aria-hidden": "true", class: "lane" }), memory: make("span"),
      gauge: make("meter", { min: 0, max: 1, "aria-hidden": "true" }),
      cells: { running: cell("num"), memory: cell("num memory"), done: cell("num", "done "), age: cell("num", "age "), pid: cell("num", "pid ") },
    };
    parts.lane.addEventListener("click", (event) => this.hit(worker.number, event));
    parts.lane.addEventListener("pointermove", (event) => this.hint(worker.number, event));
    parts.cells.memory.append(parts.memory, parts.gauge);
    const [state, runs, lane] = [cell(""), cell("runs"), cell("lane-cell")];
    state.append(parts.state);
    runs.append(parts.name, " ", parts.task);
    lane.append(parts.lane);
    const { running, memory, done, age, pid } = parts.cells;
    const head = make("th", { scope: "row", role: "rowheader" }, worker.number < 0 ? "cluster" : `#${worker.number}`);
    const row = make("tr", { role: "row" }, head, state, runs, running, lane, memory, done, age, pid);
    row.parts = parts;
    return row;
  }

  refresh(row, worker) {
    const { state, name, task, cells, memory, gauge } = row.parts;
    setText(state, worker.state);
    setData(state, "state", worker.state);
    setText(name, worker.task === null ? "" : worker.task_name ?? "(given up)");
    setText(task, worker.task === null ? "" : `#${worker.task}`);
    task.hidden = worker.task === null;
    task.setAttribute("aria-label", `Details of task ${worker.task}`);
    row.parts.shown = worker.task;
    setText(cells.running, worker.running_s === null ? "" : seconds(worker.running_s));
    setText(memory, bytes(worker.memory_bytes));
    gauge.hidden = this.limit === null || worker.memory_bytes === null;
    gauge.value = gauge.hidden ? 0 : worker.memory_bytes / this.limit;
    setText(cells.done, count(worker.completed));
    setText(cells.age, age(worker.age_s));
    setText(cells.pid, worker.pid === null ? "–" : String(worker.pid));
  }

  /** What each worker ran: blocks as long as they took, the running one open at the right end. */
  draw() {
    if (!this.state) return;
    const colors = palette();
    for (const worker of this.state.workers) {
      const row = this.body.childrenByKey.get(worker.number);
      if (row) this.drawLane(row.parts.lane, worker, colors);
    }
  }

  drawLane(canvas, worker, colors) {
    const { clientWidth: width, clientHeight: height } = canvas, ratio = devicePixelRatio;
    if (!width) return;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const x = (t) => width * (1 - (this.state.now - t) / LANE_SPAN);
    for (const [, , , began, ran, outcome] of this.marks.get(worker.number) ?? []) {
      pen.fillStyle = colors[outcome] ?? colors.completed;
      pen.fillRect(Math.max(0, x(began)), 1, Math.max(1, x(began + ran) - Math.max(0, x(began)) - 0.5), height - 2);
    }
    if (worker.running_s !== null) {
      const from = Math.max(0, x(this.state.now - worker.running_s));
      pen.fillStyle = colors.running;
      pen.fillRect(from, 1, Math.max(1, width - from), height - 2);
    }
  }

  at(worker, event) {
    const { left, width } = event.currentTarget.getBoundingClientRect();
    const t = this.state.now - LANE_SPAN * (1 - (event.clientX - left) / width), slack = (2 * LANE_SPAN) / width;
    return (this.marks.get(worker) ?? []).findLast(([, , , began, ran]) => began - slack <= t && t <= began + ran + slack);
  }

  hit(worker, event) {
    const mark = this.at(worker, event);
    if (mark) this.open(mark[0]);
  }

  hint(worker, event) {
    const mark = this.at(worker, event);
    event.currentTarget.title = mark ? `${mark[2]} #${mark[0]}: ${mark[5]}, ran ${seconds(mark[4])}` : "";
    event.currentTarget.classList.toggle("on-mark", Boolean(mark));
  }
}

/** Which of two backends does what. */
function routing({ mode, breaker, breaker_opened: opened, moved, local, remote }) {
  const of = (it) => `${count(it.running)} run, ${count(it.queued)} wait, ${count(it.completed)} done`;
  const times = opened ? `, opened ${count(opened)} times` : "", came = moved ? ` · ${count(moved)} came back from the cluster` : "";
  return `${mode} · this machine: ${of(local)} · cluster: ${of(remote)} · circuit breaker ${breaker}${times}${came}`;
}

function restarts(reasons) {
  const parts = Object.entries(reasons).map(([reason, n]) => `${count(n)} ${reason}`);
  return parts.length ? ` · replaced: ${parts.join(", ")}` : "";
}

/** The page's colours as a canvas understands them. */
function palette() {
  const probe = byId("workers"), style = getComputedStyle(probe), found = {};
  for (const name of ["completed", "failed", "timed_out", "lost", "cancelled", "running"]) {
    probe.style.setProperty("outline-color", `var(--${name.replace("_", "-")})`);
    found[name] = style.outlineColor;
  }
  probe.style.removeProperty("outline-color");
  return found;
}
