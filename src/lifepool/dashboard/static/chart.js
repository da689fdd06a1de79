// A chart of the last minutes that moves: lines or stacked areas, on a linear or a logarithmic scale.

import { makeSvg, setText } from "./dom.js";

const LEFT = 46, RIGHT = 4, TOP = 6, BOTTOM = 16;

/** The smallest of 1, 2, 5, 10, 20... that is not below the value. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.9999);
}

function linearScale(most, { top = null, least = 1 }) {
  const max = top ?? nice(Math.max(most, least));
  return { ticks: [0, max / 2, max], position: (value) => Math.min(1, value / max) };
}

/** Whole decades, so that the scale changes rarely. */
function logScale(least, most, { floor }) {
  const low = Math.floor(Math.log10(Math.max(least, floor)) + 1e-9);
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(most, floor)) - 1e-9));
  const step = Math.ceil((high - low) / 3);
  const ticks = [];
  for (let decade = low; decade <= high; decade += step) ticks.push(10 ** decade);
  return { ticks, position: (value) => Math.min(1, Math.max(0, (Math.log10(Math.max(value, 1e-9)) - low) / (high - low))) };
}

export class Chart {
  /**
   * @param {object} plan series: [{key, kind: "area" | "line", className}], scale: "linear" | "log", stacked, top,
   *   least, floor, format: of the axis.
   * @param {(index: number | null) => void} onpoint called while a point is looked at.
   */
  constructor(plan, onpoint) {
    this.plan = plan;
    this.series = [];
    this.grid = makeSvg("g", { class: "grid" });
    this.marks = makeSvg("g");
    this.cursor = makeSvg("line", { class: "cursor", y1: TOP, visibility: "hidden" });
    this.svg = makeSvg("svg", { role: "img", tabindex: 0, class: "chart" }, this.grid, this.marks, this.cursor);
    this.paths = plan.series.map(({ kind, className }) => makeSvg("path", { class: `${kind} ${className}` }));
    this.marks.append(...this.paths);
    this.labels = [];
    this.onpoint = onpoint;
    this.size = { width: 320, height: 120 };
    this.listen();
  }

  listen() {
    new ResizeObserver(([entry]) => {
      const { width, height } = entry.contentRect;
      if (width && height) {
        this.size = { width, height };
        this.draw();
      }
    }).observe(this.svg);
    const at = (event) => this.look(event.clientX - this.svg.getBoundingClientRect().left);
    this.svg.addEventListener("pointermove", at);
    this.svg.addEventListener("pointerdown", at);
    this.svg.addEventListener("pointerleave", () => this.onpoint(null));
    this.svg.addEventListener("blur", () => this.onpoint(null));
    this.svg.addEventListener("keydown", (event) => this.step(event));
  }

  step(event) {
    const moves = { ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30, Home: -1e6, End: 1e6 };
    if (event.key === "Escape") this.onpoint(null);
    if (!(event.key in moves) || !this.points?.length) return;
    event.preventDefault();
    const last = this.points.length - 1;
    this.onpoint(Math.max(0, Math.min(last, (this.index ?? last) + moves[event.key])));
  }

  look(x) {
    if (!this.points?.length) return;
    const t = this.now - this.span * (1 - (x - LEFT) / this.inner);
    let best = 0;
    this.points.forEach((point, i) => {
      if (Math.abs(point.t - t) < Math.abs(this.points[best].t - t)) best = i;
    });
    this.onpoint(best);
  }

  get inner() { return this.size.width - LEFT - RIGHT; }

  update(points, now, span) {
    Object.assign(this, { points, now, span });
    this.draw();
  }

  /** Mark the point that is looked at in any of the charts; null for none. */
  point(index) {
    this.index = index;
    const point = index === null ? null : this.points?.[index];
    this.cursor.setAttribute("visibility", point ? "visible" : "hidden");
    if (!point) return;
    const x = this.x(point.t).toFixed(1);
    this.cursor.setAttribute("x1", x);
    this.cursor.setAttribute("x2", x);
    this.cursor.setAttribute("y2", this.size.height - BOTTOM);
  }

  x(t) { return LEFT + this.inner * (1 - (this.now - t) / this.span); }

  draw() {
    const { width, height } = this.size;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    if (!this.points) return;
    const shown = this.points.filter((point) => point.t > this.now - this.span);
    const rows = this.plan.series.map(({ key }) => shown.map((point) => point[key]));
    const tops = this.plan.stacked ? stack(rows) : rows;
    const scale = this.scale(tops);
    const y = (value) => TOP + (height - TOP - BOTTOM) * (1 - scale.position(value));
    this.drawGrid(scale, y);
    this.plan.series.forEach(({ kind }, i) => {
      const below = this.plan.stacked && i > 0 ? tops[i - 1] : null;
      this.paths[i].setAttribute("d", kind === "area" ? area(shown, tops[i], below, this, y) : line(shown, tops[i], this, y));
    });
    this.point(this.index ?? null);
  }

  scale(rows) {
    const values = rows.flat().filter((value) => value != null);
    const most = Math.max(0, ...values);
    if (this.plan.scale !== "log") return linearScale(most, this.plan);
    const positive = values.filter((value) => value > 0);
    return logScale(positive.length ? Math.min(...positive) : this.plan.floor, most, this.plan);
  }

  drawGrid(scale, y) {
    const { width, height } = this.size;
    const wanted = [
      ...scale.ticks.map((tick) => ({ x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick), x: LEFT - 6, y: y(tick) + 3.5, anchor: "end", text: this.plan.format(tick) })),
      ...minutes(this.span).map((minute) => {
        const x = this.x(this.now - minute * 60);
        return { x1: x, x2: x, y1: height - BOTTOM, y2: height - BOTTOM + 3, x: minute ? x : width - RIGHT, y: height - 3, anchor: minute ? "middle" : "end", text: minute ? `−${minute} min` : "now" };
      }),
    ];
    while (this.labels.length > wanted.length) this.labels.pop().forEach((node) => node.remove());
    wanted.forEach((mark, i) => {
      const [rule, label] = this.labels[i] ??= this.newLabel();
      for (const name of ["x1", "x2", "y1", "y2"]) rule.setAttribute(name, mark[name].toFixed(1));
      label.setAttribute("x", mark.x.toFixed(1));
      label.setAttribute("y", mark.y.toFixed(1));
      label.setAttribute("text-anchor", mark.anchor);
      setText(label, mark.text);
    });
  }

  newLabel() {
    const pair = [makeSvg("line"), makeSvg("text")];
    this.grid.append(...pair);
    return pair;
  }
}

const minutes = (span) => Array.from({ length: Math.floor(span / 60) }, (_, i) => i);

function stack(rows) {
  return rows.map((_, i) => rows[0].map((_, column) => rows.slice(0, i + 1).reduce((sum, row) => sum + (row[column] ?? 0), 0)));
}

/** A line that is broken where nothing was measured; what stands alone becomes a dot. */
function line(points, values, chart, y) {
  let path = "";
  points.forEach((point, i) => {
    if (values[i] == null) return;
    const joined = i > 0 && values[i - 1] != null && point.t - points[i - 1].t < 5;
    const x = chart.x(point.t).toFixed(1), at = y(values[i]).toFixed(1);
    path += joined ? `L${x} ${at}` : `M${x} ${at}h0.1`;
  });
  return path;
}

/** Everything between a row and the one below it, or the bottom. */
function area(points, values, below, chart, y) {
  if (!points.length) return "";
  const edge = (row) => points.map((point, i) => `${chart.x(point.t).toFixed(1)} ${y(row?.[i] ?? 0).toFixed(1)}`);
  return `M${edge(values).join("L")}L${edge(below).reverse().join("L")}Z`;
}
