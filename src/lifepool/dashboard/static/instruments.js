// The six instruments: each a number that can be read from afar, what explains it, and its last five minutes.

import { Chart } from "./chart.js";
import { byId, keyed, make, setText } from "./dom.js";
import { below, count, OUTCOMES, percent, rate, seconds, short, timeOfDay } from "./format.js";

const SPAN = 300;
const FAILED = ["failed", "timed_out", "lost"];
const percentiles = (name) => ["p99", "p95", "p50"].map((p) => ({ key: `${name}_${p}`, kind: "line", className: p }));

/**
 * What each shows: its title, its chart, and what is read of a state of the server (`now`) or of the second that is
 * pointed at (`then`): the number, and parts of an explanation, each [key, text]. Keys of series get their colour.
 */
const PLANS = [
  {
    id: "throughput",
    title: "Throughput", of: "last minute",
    chart: {
      series: Object.keys(OUTCOMES).map((key) => ({ key, kind: "area", className: key })),
      stacked: true, least: 10, format: short,
    },
    now: ({ window }) => [rate(total(window)), ...outcomes(window)],
    then: (point) => [rate(total(point)), ...outcomes(point)],
  },
  {
    id: "utilisation",
    title: "Utilisation", of: "last minute",
    chart: { series: [{ key: "utilisation", kind: "area", className: "level" }], top: 1, format: percent },
    now: ({ window, counts }) => [percent(window.utilisation), ["", `${count(counts.workers.busy ?? 0)} of ${count(all(counts.workers))} have a task`], ...(isShort(window) ? [["predicted", "short tasks: most of it is sending"]] : [])],
    then: (point) => [percent(point.utilisation), ["", `${count(point.workers)} workers`]],
  },
  {
    id: "queue",
    title: "Queue", of: "now",
    chart: { series: [{ key: "queued", kind: "area", className: "queued" }], least: 10, format: short },
    now: ({ counts, pool }) => [short(counts.queued), ["", `of ${short(pool.max_queue)}`], ["predicted", `predicted wait ${seconds(counts.predicted_wait_s)}`]],
    then: (point) => [short(point.queued), ["predicted", `predicted wait ${seconds(point.predicted_wait)}`]],
  },
  {
    id: "wait",
    title: "Wait, median", of: "last minute",
    chart: { series: percentiles("wait"), scale: "log", floor: 1e-4, format: axisSeconds },
    now: ({ window }) => spread(window.wait, window.shortest),
    then: (point, { window }) => spread(["p50", "p95", "p99"].map((p) => point[`wait_${p}`]), window.shortest),
  },
  {
    id: "run",
    title: "Run, median", of: "last minute",
    chart: { series: percentiles("run"), scale: "log", floor: 1e-4, format: axisSeconds },
    now: ({ window }) => spread(window.run, window.shortest),
    then: (point, { window }) => spread(["p50", "p95", "p99"].map((p) => point[`run_${p}`]), window.shortest),
  },
  {
    id: "lag",
    title: "Event loop lag, worst", of: "last minute",
    chart: { series: [{ key: "loop_lag", kind: "area", className: "lag" }], least: 0.01, format: axisSeconds },
    now: ({ window, last }) => [seconds(window.loop_lag), ["", `now ${seconds(last?.loop_lag)}`]],
    then: (point) => [seconds(point.loop_lag)],
  },
];

function axisSeconds(value) {
  if (value === 0) return "0";
  if (value < 1e-3) return `${+(value * 1e6).toPrecision(2)} µs`;
  return value < 1 ? `${+(value * 1e3).toPrecision(2)} ms` : `${+value.toPrecision(2)} s`;
}

const all = (workers) => Object.values(workers).reduce((sum, n) => sum + n, 0);
const total = (rates) => (rates.completed == null ? null : ["completed", "cancelled", ...FAILED].reduce((sum, key) => sum + (rates[key] ?? 0), 0));
const outcomes = (rates) => [...FAILED, "cancelled", "refused"].filter((key) => rates[key] > 0).map((key) => [key, `${OUTCOMES[key]} ${rate(rates[key])}`]);
const spread = ([p50, p95, p99] = [], shortest) => [below(p50, shortest), ["p50", "p50"], ["p95", `p95 ${below(p95, shortest)}`], ["p99", `p99 ${below(p99, shortest)}`]];
const isShort = ({ occupied, utilisation }) => occupied > 0.25 && utilisation < occupied / 4;

export class Instruments {
  constructor() {
    this.points = [];
    this.index = null;
    this.cells = PLANS.map((plan) => this.build(plan));
    byId("instruments").append(...this.cells.map((cell) => cell.node));
  }

  build(plan) {
    const chart = new Chart(plan.chart, (index) => this.look(index));
    const value = make("p", { class: "value", id: `${plan.id}-value` });
    const detail = make("p", { class: "detail", id: `${plan.id}-detail` });
    const when = make("span", { class: "when" });
    const node = make("section", { class: "instrument", "aria-labelledby": `${plan.id}-title` },
      make("h2", { id: `${plan.id}-title` }, plan.title, when), value, detail, chart.svg);
    return { plan, chart, value, detail, when, node };
  }

  /** @param {object} state the server's answer; its new points are added to those that are there. */
  update(state) {
    const { columns, points, kept } = state.history;
    if (!state.continued) this.points = [];
    for (const values of points) this.points.push(Object.fromEntries(columns.map((name, i) => [name, values[i]])));
    const gone = Math.max(0, this.points.length - kept);
    this.points.splice(0, gone);
    if (this.index !== null) this.index = Math.max(0, this.index - gone);
    this.state = { ...state, last: this.points.at(-1) };
    for (const { chart } of this.cells) chart.update(this.points, state.now, SPAN);
    this.read();
  }

  look(index) {
    this.index = index;
    for (const { chart } of this.cells) chart.point(index);
    this.read();
  }

  read() {
    if (!this.state) return;
    const point = this.index === null ? null : this.points[this.index];
    for (const { plan, chart, value, detail, when } of this.cells) {
      const [number, ...details] = point ? plan.then(point, this.state) : plan.now(this.state);
      setText(value, number);
      keyed(detail, details, ([key]) => key, ([key]) => make("span", { class: key ? `key ${key}` : "" }), (part, [, text]) => setText(part, text));
      setText(when, point ? timeOfDay(this.state.time - this.state.now + point.t) : plan.of);
      const spoken = details.map(([, text]) => text).join(", ");
      chart.svg.setAttribute("aria-label", `${plan.title}, last five minutes. ${number}. ${spoken}. Arrow keys read single seconds.`);
    }
  }
}
