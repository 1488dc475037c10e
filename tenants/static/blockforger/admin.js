"use strict";

// It would write a style into the page, which the content security policy forbids.
htmx.config.includeIndicatorStyles = false;

// A button with data-copy copies the text of the element of that id. Without a clipboard (no HTTPS), it selects it.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(source);
    button.textContent = "Selected: copy it now";
  }
});

// Every field needs a name. Select2 names one by what is chosen in it, which is nothing at first; and in the rows of
// tables, unfold leaves it to the heads of their columns.
function nameFields(page) {
  for (const select of page.querySelectorAll("select.admin-autocomplete")) {
    const label = document.querySelector(`label[for="${select.id}"]`);
    for (const part of select.parentElement.querySelectorAll(".select2-selection, .select2-selection__rendered")) {
      if (!label || !part.hasAttribute("aria-labelledby") && part.hasAttribute("aria-label")) continue;
      part.setAttribute("aria-label", label.textContent.replace("*", "").trim());
      part.removeAttribute("aria-labelledby");
    }
  }
  for (const field of page.querySelectorAll("td[data-label] :is(input, select, textarea):not([aria-label])")) {
    if (field.type !== "hidden") field.setAttribute("aria-label", field.closest("td").dataset.label);
  }
}
document.addEventListener("DOMContentLoaded", () => {
  nameFields(document);
  // Rows are added by people, and Select2's parts when it comes to it.
  new MutationObserver(() => nameFields(document)).observe(document.body, { childList: true, subtree: true });
});
