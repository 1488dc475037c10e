"use strict";

// The lists of a tenant's rules: a rule is moved by dragging (unfold's x-sort tells where it was dropped), by its
// arrows, or by Alt and an arrow key; its switch lets it rest. The server saves, and draws the lists anew.

async function send(panel, url, values) {
  const body = new FormData();
  body.set("csrfmiddlewaretoken", panel.querySelector("[name=csrfmiddlewaretoken]").value);
  for (const [name, value] of Object.entries(values)) body.set(name, value);
  const response = await fetch(url, { method: "POST", body, headers: { Accept: "application/json" } });
  if (!response.headers.get("Content-Type")?.includes("json")) {
    return { problem: "That was not saved: you may not change these rules any more, or the server fails. Reload the page." };
  }
  return response.json();
}

function show(panel, answer, said) {
  panel.querySelector(".rules-problem").textContent = answer.problem ?? "";
  panel.querySelector(".rules-said").textContent = answer.problem ? "" : said ?? answer.message;
  if (answer.html) panel.querySelector(".rules-lists").innerHTML = answer.html;
}

const idsOf = (list) => [...list.querySelectorAll("[data-rule]")].map((row) => row.dataset.rule);

// `seen` is the order that the server knows; a drop has changed the page already.
async function reorder(panel, list, seen, wanted, rule) {
  const row = list.querySelector(`[data-rule="${rule}"]`);
  const place = wanted.indexOf(rule) + 1;
  const said = `${row.dataset.title} is now rule ${place} of ${wanted.length}.`;
  let answer;
  try {
    answer = await send(panel, panel.dataset.orderUrl, {
      tenant: panel.dataset.tenant, schema: list.dataset.schema, seen: seen.join(), wanted: wanted.join(),
    });
  } catch {
    answer = { problem: "The server cannot be reached. Nothing was saved: reload the page." };
  }
  show(panel, answer, said);
  return !answer.problem;
}

async function move(row, step, focused) {
  const panel = row.closest(".rules");
  const list = row.closest(".rules-list");
  const rule = row.dataset.rule;
  const seen = idsOf(list);
  const from = seen.indexOf(rule);
  if (from + step < 0 || from + step >= seen.length) return;
  const wanted = seen.toSpliced(from, 1).toSpliced(from + step, 0, rule);
  if (!await reorder(panel, list, seen, wanted, rule)) return;
  // Who moved it by the keyboard goes on with it.
  const moved = panel.querySelector(`[data-rule="${rule}"]`);
  const same = moved.querySelector(focused);
  (same && !same.disabled ? same : moved.querySelector("[data-move]:not([disabled]), a")).focus();
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest(".rules button");
  if (!button) return;
  const row = button.closest("[data-rule]");
  if (button.dataset.move) {
    await move(row, Number(button.dataset.move), `[data-move="${button.dataset.move}"]`);
  } else if (button.role === "switch") {
    const panel = button.closest(".rules");
    const on = button.getAttribute("aria-checked") !== "true";
    show(panel, await send(panel, button.dataset.url, { on }));
    panel.querySelector(`[data-rule="${row.dataset.rule}"] [role=switch]`).focus();
  }
});

document.addEventListener("keydown", async (event) => {
  const row = event.target.closest?.(".rules [data-rule]");
  const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (!row || !step || !event.altKey || !row.querySelector("[data-move]")) return;
  event.preventDefault();
  const { move: by } = event.target.dataset;
  await move(row, step, by ? `[data-move="${by}"]` : event.target.role === "switch" ? "[role=switch]" : "a");
});

document.addEventListener("rule-dropped", async (event) => {
  const list = event.target.closest(".rules-list");
  const rule = String(event.detail.rule);
  const seen = list.dataset.order.split(",");
  const wanted = seen.filter((one) => one !== rule).toSpliced(event.detail.place, 0, rule);
  if (wanted.join() !== seen.join()) await reorder(list.closest(".rules"), list, seen, wanted, rule);
});
