"use strict";

// Beside the form of a rule: what it would send, asked of the server as one types; and what is wrong, at its field.

document.addEventListener("DOMContentLoaded", () => {
  const aside = document.querySelector(".rule-preview");
  const form = aside.closest("form");
  const part = (selector) => aside.querySelector(selector);
  const typed = part("#sample_payload");
  let isTyped = false;
  let asked = 0;
  let timer;

  function list(element, texts) {
    element.replaceChildren(...texts.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
    element.hidden = texts.length === 0;
  }

  function choices(select, values, chosen, first) {
    const options = values.map((value) => new Option(value, value, false, value === chosen));
    select.replaceChildren(...(first ? [new Option(first, "", false, !chosen)] : []), ...options);
    select.value = chosen;
  }

  function showErrors(errors) {
    for (const field of form.querySelectorAll("[data-field]")) {
      const found = errors[field.dataset.field] ?? [];
      list(field.querySelector(".field-errors"), found);
      const input = field.querySelector("input, textarea, select");
      if (!input) continue;
      input.setAttribute("aria-describedby", field.querySelector(".field-errors").id);
      input.setAttribute("aria-invalid", String(found.length > 0));
    }
    part("#error_sample_payload").textContent = (errors.sample_payload ?? []).join(" ");
    const names = Object.keys(errors);
    if (names.length) {
      part(".preview-verdict").textContent = (errors.__all__ ?? ["Put right what is marked, and the event is shown."]).join(" ");
      part(".preview-verdict").className = "preview-verdict is-wrong";
    }
    part(".preview-entry").classList.toggle("is-old", names.length > 0);
    return names.length > 0;
  }

  function show(answer) {
    if (showErrors(answer.errors)) return;
    part(".preview-title").textContent = answer.title;
    list(part(".rule-warnings"), answer.warnings);
    list(part(".rule-notes"), answer.notes);
    choices(part("#sample_operation"), answer.operations, answer.operation);
    choices(part("#sample_schema"), answer.schemas, answer.schema);
    choices(part("#sample_key"), answer.keys, answer.key, "From the schema");
    if (!isTyped) typed.value = answer.payload;
    part(".preview-paths").textContent = answer.paths.length ? `Paths of ${answer.schema}: ${answer.paths.join(", ")}` : "";
    const verdict = part(".preview-verdict");
    verdict.className = `preview-verdict ${answer.mismatch ? "is-not-sent" : "is-sent"}`;
    if (!answer.entry) verdict.textContent = `It never sends anything: ${answer.mismatch}.`;
    else if (answer.mismatch) verdict.textContent = `Not sent for this sample: ${answer.mismatch}. It would be:`;
    else verdict.textContent = "Sent for this sample:";
    part(".preview-entry").textContent = answer.entry ?? "";
  }

  async function ask() {
    const body = new FormData(form);
    if (!isTyped) body.delete("sample_payload");
    const number = ++asked;
    let answer;
    try {
      const response = await fetch(aside.dataset.url, { method: "POST", body, headers: { Accept: "application/json" } });
      answer = response.ok ? await response.json() : { errors: { __all__: ["There is no preview: reload the page."] } };
    } catch {
      answer = { errors: { __all__: ["There is no preview: the server cannot be reached."] } };
    }
    // Answers may come in another order than they were asked for.
    if (number === asked) show(answer);
  }

  form.addEventListener("input", (event) => {
    if (event.target === typed) isTyped = typed.value.trim() !== "";
    else if (event.target.id.startsWith("sample_")) isTyped = false;
    clearTimeout(timer);
    timer = setTimeout(ask, 250);
  });
  form.addEventListener("click", (event) => {
    const button = event.target.closest("[data-bus]");
    if (!button) return;
    const input = button.closest("[data-field]").querySelector("input");
    input.value = button.dataset.bus;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  });
  ask();
});
