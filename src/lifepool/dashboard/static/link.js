// The link to the server: short polls, one at a time. No stream stays open, so an open page never keeps the server
// from ending; and nothing is asked while nobody looks.

const EVERY_MS = 1000, TIMEOUT_MS = 5000, RETRY_MS = [1000, 1000, 2000, 3000, 5000];

export class Link {
  /**
   * @param {(state: object) => void} onstate called with each answer.
   * @param {(status: string, text: string) => void} onlink called when live becomes paused, disconnected or refused.
   */
  constructor(onstate, onlink) {
    Object.assign(this, { onstate, onlink, cursor: "", failures: 0, paused: false, asking: false, timer: 0 });
    document.addEventListener("visibilitychange", () => this.wake());
    addEventListener("online", () => this.wake());
  }

  pause(paused) {
    this.paused = paused;
    this.wake();
  }

  get resting() { return this.paused || document.hidden; }

  wake() {
    clearTimeout(this.timer);
    if (this.resting) this.onlink("paused", this.paused ? "paused" : "paused: not in view");
    else this.ask();
  }

  async ask() {
    if (this.asking) return;
    this.asking = true;
    clearTimeout(this.timer);
    const began = performance.now();
    try {
      const answer = await fetch(`state.json?since=${this.cursor}`, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
      this.take(answer, answer.ok ? await answer.json() : null);
    } catch {
      this.fail("disconnected", "disconnected: the server does not answer");
    }
    this.asking = false;
    if (this.resting) return;
    const wait = this.failures ? RETRY_MS[Math.min(this.failures, RETRY_MS.length) - 1] : Math.max(100, EVERY_MS - (performance.now() - began));
    this.timer = setTimeout(() => this.ask(), wait);
  }

  take(answer, state) {
    if (answer.status === 401 || answer.status === 403) return this.fail("refused", "you may not see this any more");
    if (!state?.cursor) return this.fail("disconnected", `disconnected: the server answers ${answer.status}`);
    this.cursor = state.cursor;
    this.failures = 0;
    this.onstate(state);
    if (!this.resting) this.onlink("live", "live");
  }

  fail(status, text) {
    this.failures += 1;
    this.onlink(status, text);
  }
}
