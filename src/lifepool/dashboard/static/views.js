// The views of the page: the pool, and its jobs if there are any. The address says which: it can be kept and sent.

import { byId, setText } from "./dom.js";

const PARTS = { pool: ["instruments", "main"], jobs: ["jobs"] };

export class Views {
  /** @param {() => void} onjobs called when the jobs come into view. */
  constructor(onjobs) {
    this.onjobs = onjobs;
    this.has = { pool: true, jobs: false };
    addEventListener("hashchange", () => this.draw());
  }

  get wanted() { return location.hash === "#jobs" && this.has.jobs ? "jobs" : "pool"; }

  shows(view) { return this.wanted === view; }

  update({ jobs }) {
    if (this.has.jobs === Boolean(jobs)) return;
    this.has.jobs = Boolean(jobs);
    this.draw();
  }

  draw() {
    byId("views").hidden = !this.has.jobs;
    for (const [view, parts] of Object.entries(PARTS)) {
      const shown = this.shows(view);
      for (const part of parts) byId(part).hidden = !shown;
      if (shown) byId(`view-${view}`).setAttribute("aria-current", "page");
      else byId(`view-${view}`).removeAttribute("aria-current");
    }
    const jobs = this.shows("jobs");
    byId("skip").setAttribute("href", jobs ? "#jobs" : "#main");
    setText(byId("skip"), jobs ? "Skip to the jobs" : "Skip to the workers");
    if (jobs) this.onjobs();
  }
}
