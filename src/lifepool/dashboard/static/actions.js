// What can be done from here, if the server allows it. Each action carries a header that no other site can send.

import { byId, setText } from "./dom.js";

export class Actions {
  constructor(notify) {
    this.allowed = [];
    this.notify = notify;
    byId("recycle").addEventListener("click", () => this.ask("recycle", "Replace all workers?", `One after the other; tasks that run are finished first. Nothing is lost.${this.others}`, "Replace workers"));
    byId("drain").addEventListener("click", () => this.ask("drain", "Drain the pool?", `It takes no more tasks, finishes what is there and closes. Your app answers 503 from then on, until it is started again.${this.others}`, "Drain the pool"));
    byId("confirm-no").addEventListener("click", () => byId("confirm").close());
    byId("confirm-yes").addEventListener("click", () => { byId("confirm").close(); this.post(this.asked); });
  }

  can(action) { return this.allowed.includes(action); }

  update({ actions, pool, server }) {
    this.others = server.processes > 1 ? ` This reaches one server process of ${server.processes}, the one with the PID ${server.pid}; the others go on as they are.` : "";
    this.allowed = pool.state === "closed" ? [] : actions;
    byId("actions").hidden = !this.can("recycle") && !this.can("drain");
    for (const name of ["recycle", "drain"]) byId(name).hidden = !this.can(name);
  }

  ask(action, title, text, label) {
    this.asked = action;
    setText(byId("confirm-title"), title);
    setText(byId("confirm-text"), text);
    setText(byId("confirm-yes"), label);
    byId("confirm").showModal();
  }

  cancel(task) { return this.post("cancel", `/${task}`); }

  async post(action, subject = "") {
    try {
      const answer = await fetch(`actions/${action}${subject}`, { method: "POST", headers: { "X-Lifepool-Action": action } });
      this.notify(answer.ok ? "" : (await answer.json()).detail);
    } catch {
      this.notify("The server does not answer.");
    }
  }
}
