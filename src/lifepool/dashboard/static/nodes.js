// The nodes of a cluster, if the pool has one: who is there, what they do, and what the way there costs.

import { byId, keyed, make, setData, setText } from "./dom.js";
import { age, count, seconds } from "./format.js";

const workersText = (workers) => Object.entries(workers).filter(([, n]) => n > 0).map(([state, n]) => `${n} ${state}`).join(", ");

/** Offsets below a hundredth of a second are what messages take, and no clock's. */
const offsetText = (value) => (value === null ? "–" : Math.abs(value) < 0.01 ? "< 10 ms" : `${value < 0 ? "−" : "+"}${seconds(Math.abs(value))}`);

export class Nodes {
  constructor() {
    this.panel = byId("nodes-panel");
    this.body = byId("nodes").tBodies[0];
  }

  update({ cluster, lifepool: version }) {
    this.panel.hidden = !cluster;
    if (!cluster) return;
    const { nodes, node_count: all, slots, address } = cluster;
    const shown = nodes.length < all ? `, the ${count(nodes.length)} busiest are shown` : "";
    setText(byId("nodes-note"), `${count(all)} ${all === 1 ? "node" : "nodes"}, ${count(slots)} slots, ${address}${shown}`);
    byId("nodes-problem").hidden = cluster.unavailable === null;
    setText(byId("nodes-problem"), cluster.unavailable === null ? "" : `No calls are taken: ${cluster.unavailable}.`);
    this.numbers(cluster);
    byId("nodes").hidden = nodes.length === 0;
    byId("nodes-empty").hidden = nodes.length > 0;
    keyed(this.body, nodes, ({ node }) => node, makeRow, (row, node) => refresh(row, node, version));
  }

  numbers(cluster) {
    const [p50, , p99] = cluster.overhead;
    const lines = [
      ["Not sent yet", count(cluster.unsent)], ["Queued at the cluster", count(cluster.queued)], ["With nodes", count(cluster.taken)],
      ["Overhead of a call, p50", seconds(p50)], ["p99", seconds(p99)], ["Workers", workersText(cluster.workers) || "0"],
      ["Answers that came twice", count(cluster.redelivered), true], ["Messages refused here", count(cluster.refused), true],
      ["Refused by nodes", count(cluster.refused_by_nodes), true], ["Log records dropped", count(cluster.log_records_dropped), true],
    ];
    keyed(byId("nodes-numbers"), lines, ([label]) => label, ([label]) => make("div", {}, make("dt", {}, label), make("dd")), (line, [, value, isTrouble]) => {
      setText(line.lastChild, value);
      setData(line, "trouble", String(Boolean(isTrouble) && value !== "0"));
    });
  }
}

function makeRow() {
  const cells = Array.from({ length: 7 }, (_, i) => make("td", { class: i > 1 && i !== 3 ? "num" : "" })), name = make("th", { scope: "row", class: "name" });
  const load = make("meter", { min: 0, "aria-hidden": "true" }), runs = make("span");
  cells[1].append(runs, load);
  const row = make("tr", {}, name, ...cells);
  row.parts = { name, state: cells[0], runs, load, workers: cells[2], version: cells[3], offset: cells[4], refused: cells[5], heard: cells[6] };
  return row;
}

function refresh(row, node, version) {
  const { name, state, runs, load, workers, version: versionCell, offset, refused, heard } = row.parts;
  setText(name, node.name);
  setText(state, node.state);
  setData(row, "state", node.state);
  setText(runs, `${count(node.running)} of ${count(node.slots)}`);
  load.max = Math.max(1, node.slots);
  load.value = Math.min(node.running, node.slots);
  setText(workers, workersText(node.workers));
  setText(versionCell, [node.lifepool, node.python && `Python ${node.python}`].filter(Boolean).join(", "));
  setData(versionCell, "bad", String(node.lifepool !== "" && node.lifepool !== version));
  setText(offset, offsetText(node.clock_offset_s));
  setText(refused, node.refused ? count(node.refused) : "");
  setText(heard, `${age(node.heard_s)} ago`);
}
