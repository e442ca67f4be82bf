// Copying, times in the reader's zone, live status, and tests that leave the form as it is.
// Every page works without this script.
"use strict";

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
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    part.innerHTML = html;
    for (const [id, value] of typed) {
      const input = document.getElementById(id);
      if (input) input.value = value;
    }
    prepare(part);
    if (focused) document.getElementById(focused)?.focus();
  }
}

let waiting = false;
let again = false;

// One request at a time; news that come meanwhile lead to one more.
async function refresh() {
  if (waiting) { again = true; return; }
  waiting = true;
  try {
    const answer = await fetch(document.body.dataset.page, { credentials: "same-origin" });
    if (answer.redirected) { location.reload(); return; }
    if (answer.ok) replaceLive(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch {
    // The stream connects again by itself, and that refreshes.
  } finally {
    waiting = false;
  }
  if (again) { again = false; refresh(); }
}

function listen() {
  const place = document.querySelector("[data-events]");
  if (!place || !window.EventSource) return;
  // After a form the address is the form's; what is live is the page it belongs to.
  document.body.dataset.page = place.dataset.events.replace("/api/v1", "").replace(/\/events$/, "");
  const stream = new EventSource(place.dataset.events);
  for (const name of ["open", "event", "state", "changed"]) stream.addEventListener(name, refresh);
  addEventListener("pagehide", () => stream.close());
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

remember(document);
prepare(document);
usualPorts();
listen();
