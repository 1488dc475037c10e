"use strict";

// Listens to the stream of a tenant's events, and shows the newest of them. An event that is told again has changed.
const MOST_ROWS = 200;
const live = document.getElementById("live");
const form = live.querySelector("form");
const rows = document.getElementById("rows");
const pause = document.getElementById("pause");
let source = null;

// Read out when it changes. The rows are not: nobody could listen to them.
function say(text) {
  const state = document.getElementById("state");
  if (state.textContent !== text) state.textContent = text;
}

function cell(text, className) {
  const made = document.createElement("td");
  const inner = className ? made.appendChild(document.createElement("span")) : made;
  if (className) inner.className = className;
  inner.textContent = text;
  return made;
}

function show(event) {
  const row = document.createElement("tr");
  row.id = `event-${event.id}`;
  row.className = event.outcome;
  const what = document.createElement("td");
  const link = what.appendChild(document.createElement("a"));
  link.href = event.url;
  link.textContent = `${event.operation || "?"} ${event.schema}${event.key ? ` / ${event.key}` : ""}`;
  row.append(cell(event.time), cell(event.outcome, "outcome"), cell(event.direction), what, cell(event.note));
  const old = document.getElementById(row.id);
  // In its place, unless somebody is just about to open it.
  if (old) {
    const hadFocus = old.contains(document.activeElement);
    old.replaceWith(row);
    if (hadFocus) link.focus();
  } else {
    rows.prepend(row);
  }
  while (rows.children.length > MOST_ROWS) rows.lastElementChild.remove();
  document.getElementById("nothing").hidden = true;
}

function close() {
  source?.close();
  source = null;
}

function open() {
  close();
  const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
  const begun = new EventSource(`${live.dataset.stream}?${query}`);
  source = begun;
  begun.onmessage = (message) => show(JSON.parse(message.data));
  begun.addEventListener("looked", () => say("Watching."));
  begun.addEventListener("full", () => say("Too many people are watching. This page tries again every 10 seconds."));
  begun.addEventListener("ended", () => {
    close();
    say("You may not watch any more. Sign in again.");
  });
  begun.onerror = () => {
    if (begun.readyState === EventSource.CLOSED) say("The stream was refused. Reload the page to try again.");
  };
}

pause.addEventListener("click", () => {
  const isPaused = pause.getAttribute("aria-pressed") !== "true";
  pause.setAttribute("aria-pressed", String(isPaused));
  pause.textContent = isPaused ? "Go on" : "Pause";
  if (isPaused) {
    close();
    say("Paused.");
  } else {
    open();
  }
});

form.addEventListener("change", () => {
  const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
  history.replaceState(null, "", `?${query}`);
  rows.replaceChildren();
  document.getElementById("nothing").hidden = false;
  if (pause.getAttribute("aria-pressed") !== "true") open();
});

// Nobody sees a page in the background: it holds no stream.
document.addEventListener("visibilitychange", () => {
  if (pause.getAttribute("aria-pressed") === "true") return;
  if (document.hidden) close();
  else open();
});
window.addEventListener("pagehide", close);
open();
