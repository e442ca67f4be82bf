// Copying, times in the reader's zone, live status, and tests that leave the form as it is.
// Every page works without this script.
"use strict";

// All tabs of a browser share one stream of events, which this script keeps as their shared worker: over
// HTTP/1.1 a browser has six connections to a server, and a stream for each tab would take them all.
const own = typeof document === "undefined" ? location.href : document.currentScript.src;

function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (isNaN(at)) continue;
    time.title = time.textContent;
    time.textContent = at.toLocaleString(undefined, {
      year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short",
    });
  }
}

function copyButtons(root) {
  // The clipboard needs https or this very machine; elsewhere the text is selected instead.
  for (const button of root.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", () => copy(button));
  }
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(source);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}

function prepare(root) {
  localTimes(root);
  copyButtons(root);
  for (const form of root.querySelectorAll("form[data-inline]")) form.addEventListener("submit", submitInline);
}

// The server's own words for each live part, before anything here changed them.
const shown = new Map();

function remember(root) {
  for (const part of root.querySelectorAll("[data-live]")) shown.set(part.dataset.live, part.innerHTML);
}

function replaceLive(page) {
  for (const fresh of page.querySelectorAll("[data-live]")) {
    const name = fresh.dataset.live;
    const html = fresh.innerHTML;
    const part = document.querySelector(`[data-live="${name}"]`);
    if (!part || shown.get(name) === html) continue;
    shown.set(name, html);
    const typed = new Map([...part.querySelectorAll("input:not([type=hidden]), select")].map((i) => [i.id, i.value]));
    const opened = new Map([...part.querySelectorAll("details[id]")].map((d) => [d.id, d.open]));
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    part.innerHTML = html;
    for (const [id, value] of typed) {
      const input = document.getElementById(id);
      if (input) input.value = value;
    }
    for (const [id, open] of opened) {
      const details = document.getElementById(id);
      if (details) details.open = open;
    }
    prepare(part);
    if (focused) document.getElementById(focused)?.focus();
  }
}

// News come by the thousand when many tunnels come back at once. A page is fetched again at once after the first
// one, and then at most once a second, and for no more than a tenth of the time.
const PAUSE = 1000;
// What happens to a data source that is not on this page of the list changes the count at most, or who is on it.
const ELSEWHERE = 5000;

let fetching = false;
let notBefore = 0;
let due = Infinity;
let timer;

function refreshWithin(milliseconds) {
  const at = Math.max(performance.now() + milliseconds, notBefore);
  if (at >= due) return;
  due = at;
  if (!fetching) wait();
}

function wait() {
  clearTimeout(timer);
  if (due !== Infinity) timer = setTimeout(refresh, Math.max(due, notBefore) - performance.now());
}

// One request at a time; news that come meanwhile lead to one more.
async function refresh() {
  const began = performance.now();
  fetching = true;
  due = Infinity;
  try {
    const answer = await fetch(document.body.dataset.page, { credentials: "same-origin" });
    if (answer.redirected) { location.reload(); return; }
    if (answer.ok) replaceLive(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch {
    // The stream connects again by itself, and that refreshes.
  }
  fetching = false;
  const now = performance.now();
  notBefore = now + Math.max(PAUSE, 10 * (now - began));
  wait();
}

function listen() {
  const place = document.querySelector("[data-events]");
  if (!place) return;
  // After a form the address is the form's; what is live is the page it belongs to.
  document.body.dataset.page = place.dataset.page || place.dataset.events.replace("/api/v1", "").replace(/\/events$/, "");
  if (!window.SharedWorker) {
    setInterval(() => { if (!document.hidden) refreshWithin(0); }, 10000);
    return;
  }
  const shown = place.dataset.events.match(/(\d+)\/events$/)?.[1];
  const channel = new BroadcastChannel(own);
  channel.onmessage = ({ data: id }) => {
    const isHere = !id || (shown ? shown === String(id) : document.getElementById(`source-${id}`));
    if (isHere) refreshWithin(0);
    else if (!shown) refreshWithin(ELSEWHERE);
  };
  // The worker has been listening for others, perhaps: what came before this page heard of it is in now.
  new SharedWorker(own).port.onmessage = () => refreshWithin(0);
}

// The worker: it tells which data source has news, or 0 if that may be any.
function listenForAllTabs() {
  const channel = new BroadcastChannel(own);
  const idIn = { event: (data) => data.data_source_id, state: (data) => data.id, changed: () => 0 };
  let stream;
  const connect = () => {
    // It connects again by itself, but not after an answer that is none: after signing out, say.
    if (stream && stream.readyState !== EventSource.CLOSED) return;
    stream = new EventSource(new URL("../api/v1/data-sources/events", own));
    stream.addEventListener("open", () => channel.postMessage(0));
    for (const [name, id] of Object.entries(idIn)) {
      stream.addEventListener(name, (event) => channel.postMessage(id(JSON.parse(event.data))));
    }
  };
  onconnect = ({ ports: [tab] }) => {
    connect();
    tab.postMessage(0);
  };
  setInterval(connect, 30000);
}

async function submitInline(event) {
  const button = event.submitter;
  if (!button || "whole" in button.dataset) return;
  event.preventDefault();
  const form = event.currentTarget;
  const words = button.textContent;
  button.disabled = true;
  button.textContent = button.dataset.busy;
  const result = document.getElementById("test-result");
  try {
    const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), credentials: "same-origin" });
    if (answer.redirected) { location.reload(); return; }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const found = page.getElementById("test-result");
    const error = page.getElementById("error") || page.querySelector("main p");
    result.replaceChildren(...(found && found.firstElementChild ? found.childNodes : error ? [error] : []));
  } catch {
    result.textContent = "The server did not answer. Try again.";
  }
  button.disabled = false;
  button.textContent = words;
  result.focus();
}

// The usual port of the chosen database, shown where none is typed.
function usualPorts() {
  const select = document.querySelector("select[data-ports]");
  const port = document.getElementById("port");
  if (!select || !port) return;
  const show = () => { port.placeholder = select.selectedOptions[0]?.dataset.port || ""; };
  select.addEventListener("change", show);
  show();
}

if (typeof document === "undefined") {
  listenForAllTabs();
} else {
  remember(document);
  prepare(document);
  usualPorts();
  listen();
}
