// The page talks to three addresses: /addContent for a pasted text, /upload for files and texts too large for it, and
// /jobs for big files (job.js). Names come from untrusted text: they reach the document as textContent only.

import { Job } from "./job.js";
import { asDnsHasIt, isOdd, lookalike } from "./lookalikes.js";

const JOB_BYTES = 2_000_000; // files of more than that are sent as a job
const PAGE_ROWS = 500; // rows drawn at a time: a browser draws these in a few milliseconds
const EXAMPLE = `From: bob@mail.example.co.uk
The report is at https://www.example.com/report?page=2 and mirrored on downloads.example.org.
It names hxxp://login.evil-site[.]com, which resolved to 192.0.2.7 (not a name), and www.example.com twice.
International names work as well: münchen.de, xn--bcher-kva.ch, 例え.jp.
`;

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const found = { names: [], shown: PAGE_ROWS };
let running = null; // the AbortController of the request under way

// ---- asking ----

async function ask(what, url, options, ifTooLarge) {
  leave();
  const mine = (running = new AbortController());
  busy(true);
  say(`Searching ${what} …`);
  const started = performance.now();
  try {
    const response = await fetch(url, { method: "POST", signal: mine.signal, ...options });
    const answer = await response.json().catch(() => null);
    if (response.status === 413 && ifTooLarge) return ifTooLarge();
    if (!response.ok || !answer) throw problem(response, answer);
    show(answer, serverTime(response), performance.now() - started);
  } catch (error) {
    if (!mine.signal.aborted) complain(error);
  } finally {
    if (running === mine) busy(false);
  }
}

function searchText() {
  const text = $("text").value;
  if (!text.trim()) return complain({ detail: "There is no text yet.", hint: "Paste one, or choose a file." });
  const options = { headers: { "Content-Type": "application/json" }, body: JSON.stringify({ data: text }) };
  return ask("the text", "/addContent?counts=true", options, () => ask("the text", "/upload", { body: text }));
}

function searchFiles(files) {
  const form = new FormData();
  for (const file of files) form.append("file", file);
  if (files.reduce((sum, { size }) => sum + size, 0) > JOB_BYTES) return sendAsJob(files, form);
  return ask(files.length === 1 ? files[0].name : `${files.length} files`, "/upload", { body: form });
}

/** Stop what is under way here; a job goes on at the server. */
function leave() {
  running?.abort();
  job.leave();
}

function sendAsJob(files, form) {
  leave();
  say("");
  $("error").hidden = $("results").hidden = $("empty").hidden = true;
  return job.send(files.length === 1 ? files[0].name : `${files.length} files`, form);
}

const job = new Job({
  busy,
  done: (answer, seconds) => (answer.status === "refused" ? complain(answer) : show(answer, seconds * 1000)),
  failed: complain,
});

function problem(response, answer) {
  const wait = response.headers.get("Retry-After");
  return {
    detail: answer?.detail ?? `The server answered ${response.status}.`,
    hint: [answer?.hint, wait && `Try again in ${wait} s.`].filter(Boolean).join(" "),
  };
}

function serverTime(response) {
  const duration = /dur=([\d.]+)/.exec(response.headers.get("Server-Timing") ?? "");
  return duration && Number(duration[1]);
}

// ---- showing ----

function show(answer, serverMs, totalMs) {
  const order = [...new Set(answer.domains_found ?? [])]; // a pasted text's names, as they appear
  const place = new Map(order.map((name, index) => [name, index]));
  found.names = Object.entries(answer.counts).map(([name, count]) => ({ name, count, place: place.get(name) }));
  found.shown = PAGE_ROWS;
  $("error").hidden = true;
  $("empty").hidden = true;
  $("results").hidden = found.names.length === 0;
  const byOrder = $("sort").querySelector('[value="order"]');
  byOrder.disabled = !answer.domains_found; // of uploads the server tells counts alone
  if (byOrder.disabled && byOrder.selected) $("sort").value = "count";
  summarize(answer, serverMs, totalMs);
  draw();
}

function summarize(answer, serverMs, totalMs) {
  const different = found.names.length;
  const parts = [
    figure(number.format(answer.count), answer.count === 1 ? "name" : "names"),
    figure(`${number.format(different)}${answer.truncated ? "+" : ""}`, "different"),
    figure(milliseconds(serverMs ?? totalMs), "on the server"),
  ];
  const note = document.createElement("span");
  note.className = "note";
  if (totalMs !== undefined) note.textContent = `${milliseconds(totalMs)} with the way there and back.`;
  if (answer.truncated) {
    note.textContent += ` More different names than the server lists: the first ${number.format(different)} are here.`;
  }
  const traps = found.names.filter(({ name }) => lookalike(name)).length;
  if (traps) note.textContent += ` ${number.format(traps)} may be taken for another name: marked \u26a0.`;
  $("status").replaceChildren(...parts, note);
}

function figure(value, words) {
  const part = document.createElement("span");
  const strong = document.createElement("b");
  strong.textContent = value;
  part.append(strong, ` ${words} `);
  return part;
}

function milliseconds(ms) {
  return ms < 1000 ? `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

function selected() {
  const filter = $("filter").value.trim().toLowerCase();
  const names = found.names.filter(({ name }) => name.includes(filter));
  const by = $("sort").value;
  if (by === "name") names.sort((a, b) => (a.name < b.name ? -1 : 1));
  if (by === "order") names.sort((a, b) => a.place - b.place);
  return names; // as they came: by count
}

function draw() {
  const names = selected();
  const most = Math.max(1, ...names.slice(0, found.shown).map(({ count }) => count));
  $("rows").replaceChildren(...names.slice(0, found.shown).map((entry) => row(entry, most)));
  $("none").hidden = names.length > 0;
  $("more").hidden = names.length <= found.shown;
  $("more").textContent = `Show more (${number.format(names.length - found.shown)} left)`;
}

function row({ name, count }, most) {
  const line = document.createElement("tr");
  const [first, second] = [line.insertCell(), line.insertCell()];
  const why = lookalike(name);
  if (why === null) first.textContent = name;
  else first.append(...marked(name, why));
  first.style.setProperty("--share", most > 1 ? `${(100 * count) / most}%` : "0%");
  second.textContent = number.format(count);
  return line;
}

/** A name that may be taken for another: its odd letters stand out, and it says why, and what DNS has. */
function marked(name, why) {
  const shown = document.createElement("span");
  for (const character of name) {
    const tag = isOdd(character) ? "mark" : "span";
    if (shown.lastChild?.localName !== tag) shown.append(document.createElement(tag));
    shown.lastChild.textContent += character; // in runs: some scripts join their letters
  }
  const note = document.createElement("span");
  note.className = "lookalike";
  note.textContent = [`\u26a0 ${why}`, asDnsHasIt(name)].filter(Boolean).join(": ");
  return [shown, note];
}

function say(text) {
  $("status").textContent = text;
}

function complain({ detail, hint }) {
  const lines = [detail ?? "The connection broke before an answer came.", hint ?? "Is the server still running?"];
  $("error").replaceChildren(
    ...lines.filter(Boolean).map((text) => Object.assign(document.createElement("p"), { textContent: text })),
  );
  $("error").hidden = false;
  $("results").hidden = true;
  say("");
}

function busy(now) {
  document.querySelector("main").setAttribute("aria-busy", String(now));
  // On a phone the answer comes below the fold: go there.
  if (!now && matchMedia("(max-width: 56rem)").matches) $("results-title").scrollIntoView();
}

// ---- taking away ----

async function copy() {
  const text = selected().map(({ name }) => name).join("\n");
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyTheOldWay(text); // no clipboard API on a page that came over plain HTTP from another machine
  }
  $("copy").textContent = "Copied";
  setTimeout(() => ($("copy").textContent = "Copy"), 1500);
}

function copyTheOldWay(text) {
  const area = Object.assign(document.createElement("textarea"), { value: text });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

function download() {
  const lines = selected().map(({ name, count }) => `"${name.replaceAll('"', '""')}",${count}`);
  const file = new Blob([["name,count", ...lines, ""].join("\r\n")], { type: "text/csv;charset=utf-8" });
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(file), download: "domains.csv" });
  link.click();
  URL.revokeObjectURL(link.href);
}

// ---- listening ----

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  searchText();
});
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("search").requestSubmit();
});
$("choose").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", (event) => {
  if (event.target.files.length) searchFiles([...event.target.files]);
  event.target.value = ""; // so that the same file can be chosen again
});
$("clear").addEventListener("click", () => {
  leave();
  $("text").value = "";
  $("results").hidden = $("error").hidden = true;
  $("empty").hidden = false;
  say("");
  $("text").focus();
});
$("example").addEventListener("click", () => {
  $("text").value = EXAMPLE;
  $("text").focus();
  searchText();
});
$("filter").addEventListener("input", draw);
$("sort").addEventListener("change", draw);
$("copy").addEventListener("click", copy);
$("download").addEventListener("click", download);
$("more").addEventListener("click", () => {
  found.shown += PAGE_ROWS;
  draw();
});

addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  const { files } = event.dataTransfer;
  if (files.length) return searchFiles([...files]);
  $("text").value = event.dataTransfer.getData("text/plain") || $("text").value;
  searchText();
});

job.resume(() => { $("empty").hidden = true; });
