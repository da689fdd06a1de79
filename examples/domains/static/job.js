// A big file as a job: it is sent, then the server searches it and says how far it is. The job's address is in the
// page's own, so a reload, or another day, leads back to it.

const AGAIN_MS = 1000;

const $ = (id) => document.getElementById(id);
const bytes = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const megabytes = (n) => `${bytes.format(n / 1e6)} MB`;

export class Job {
  /**
   * @param {(now: boolean) => void} busy called when something begins and ends.
   * @param {(answer: object, seconds: number) => void} done called with the result, and how long the job ran.
   * @param {(problem: object) => void} failed called with why there is none.
   */
  constructor({ busy, done, failed }) {
    Object.assign(this, { busy, done, failed, request: null, events: null, url: null, timer: 0 });
    $("stop").addEventListener("click", () => this.stop());
  }

  /** Send files, then follow the job. */
  send(what, form) {
    this.show(`Sending ${what}`);
    const request = (this.request = new XMLHttpRequest()); // fetch can't tell how much was sent
    request.open("POST", "/jobs");
    request.upload.onprogress = ({ loaded, total }) => this.far(loaded, total, `${megabytes(loaded)} of ${megabytes(total)} sent`);
    request.onerror = () => this.end(() => this.failed({}));
    request.onload = () => {
      const answer = parsed(request.responseText), location = request.getResponseHeader("Location");
      this.request = null;
      if (request.status !== 202 || !location) this.end(() => this.failed({ detail: answer?.detail ?? `The server answered ${request.status}.`, hint: answer?.hint ?? "" }));
      else this.follow(location);
    };
    request.send(form);
  }

  /** Go on with the job in the page's address, if there is one. */
  resume(found) {
    const id = /^#job=([0-9a-f-]{36})$/.exec(location.hash)?.[1];
    if (!id) return;
    found();
    this.follow(`/jobs/${id}`);
  }

  follow(url) {
    this.url = url;
    history.replaceState(null, "", `#job=${url.split("/").at(-1)}`);
    this.show("Waiting to be searched");
    this.listen();
  }

  listen() {
    const { url } = this;
    const events = (this.events = new EventSource(`${url}/events`));
    const take = ({ data }) => this.take(JSON.parse(data));
    events.addEventListener("state", take);
    events.addEventListener("progress", take);
    events.onerror = () => { // the browser comes again by itself, unless the server said no
      if (events.readyState !== EventSource.CLOSED) return;
      this.timer = setTimeout(() => this.look(url), AGAIN_MS);
    };
  }

  /** Ask once, where listening was refused: the job may have ended, or be gone. */
  async look(url) {
    try {
      const answer = await fetch(url, { cache: "no-store" });
      if (this.url !== url) return;
      if (answer.status === 404) return this.end(() => this.failed({ detail: "This job is not there any more.", hint: "Send the file again." }));
      const job = answer.ok ? await answer.json() : null;
      if (job) this.take(job);
      if (this.url === url) this.timer = setTimeout(() => this.listen(), AGAIN_MS);
    } catch {
      this.timer = setTimeout(() => this.look(url), AGAIN_MS);
    }
  }

  take(job) {
    const { state, progress } = job;
    if (state === "queued") this.show("Waiting to be searched");
    else if (state === "running") {
      this.show(job.cancel_requested ? "Stopping" : "Searching");
      if (progress) this.far(progress.done, progress.total, `${megabytes(progress.done)} of ${megabytes(progress.total)} searched`);
    } else if (state === "succeeded") this.fetchResult(job);
    else if (state === "cancelled") this.end(() => this.failed({ detail: "The job was stopped.", hint: "" }));
    else this.end(() => this.failed({ detail: job.error?.detail, hint: "Send the file again." }));
  }

  async fetchResult({ started_at: began, finished_at: ended }) {
    const { url } = this;
    this.close();
    try {
      const answer = await fetch(`${url}/result`);
      const result = await answer.json();
      if (this.url !== url) return;
      this.end(() => (answer.ok ? this.done(result, (Date.parse(ended) - Date.parse(began)) / 1000) : this.failed(result)));
    } catch {
      if (this.url === url) this.timer = setTimeout(() => this.look(url), AGAIN_MS);
    }
  }

  /** Stop sending, or the job. */
  async stop() {
    if (!this.url) {
      this.leave();
      return this.failed({ detail: "Nothing was searched: sending was stopped.", hint: "" });
    }
    try {
      await fetch(this.url, { method: "DELETE" });
    } catch { /* the bar goes on, which says it */ }
  }

  /** Look away. What was sent goes on at the server. */
  leave() {
    this.request?.abort();
    this.request = null;
    this.close();
    if (this.url || location.hash.startsWith("#job=")) history.replaceState(null, "", location.pathname);
    this.url = null;
    $("job").hidden = true;
  }

  // ---- inside ----

  /** The end of the job: its address stays, so that a reload shows the same again. */
  end(say) {
    this.close();
    this.url = null;
    this.request = null;
    $("job").hidden = true;
    this.busy(false);
    say();
  }

  close() {
    this.events?.close();
    this.events = null;
    clearTimeout(this.timer);
  }

  show(what) {
    if ($("job").hidden) this.busy(true);
    $("job").hidden = false;
    $("job-help").hidden = !this.url;
    if ($("job-what").textContent === what) return;
    $("job-what").textContent = what;
    $("job-far").textContent = "";
    $("bar").removeAttribute("value");
  }

  far(done, total, text) {
    if (total > 0) $("bar").value = done / total;
    $("job-far").textContent = text;
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
