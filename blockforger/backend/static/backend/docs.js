"use strict";

// The key is kept nowhere but in this page.
function show(description) {
  return SwaggerUIBundle({
    dom_id: "#swagger-ui",
    deepLinking: true,
    validatorUrl: null,
    ...description,
  });
}

show({ url: "/openapi.json" });

document.getElementById("tenant").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { tenant, key } = Object.fromEntries(new FormData(event.target));
  const output = event.target.querySelector("output");
  const response = await fetch(`/api/${encodeURIComponent(tenant)}/openapi.json`, { headers: { "X-API-Key": key } });
  const document = await response.json();
  output.textContent = response.ok ? "" : document.detail;
  if (response.ok) {
    const page = show({ spec: document, onComplete: () => page.preauthorizeApiKey("ApiKey", key) });
  }
});
