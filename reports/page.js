"use strict";
const read = (id) => { const held = document.getElementById(id); return held ? JSON.parse(held.textContent) : null; };
document.documentElement.classList.add("scripted");

// Charts are drawn as SVG, so that they take the page's colours and print sharply. `ast` makes Vega interpret its
// expressions instead of compiling them: the page forbids eval.
for (const [id, specification] of Object.entries(read("charts") ?? {})) {
  const place = document.getElementById(id), said = place.getAttribute("aria-label");
  vegaEmbed(place, specification, {
    mode: "vega-lite", renderer: "svg", ast: true, actions: false, defaultStyle: false,
    config: read("chart-config"),
    tooltip: { disableDefaultStyle: true },
  }).then(() => {  // Vega calls each chart a «visualization»; the page has said what it shows
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", said);
  }).catch((error) => {
    place.textContent = "This chart could not be drawn; its data stands in the table. " + error;
  });
}

// «Save as CSV» and «Copy» beside the data and the SQL of a chart.
const tables = read("tables") ?? {};
function save(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
for (const button of document.querySelectorAll("button[data-csv]")) {
  button.addEventListener("click", () => save(button.dataset.csv + ".csv", tables[button.dataset.csv]));
}
for (const button of document.querySelectorAll("button[data-copy]")) {
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    getSelection().selectAllChildren(code);
    const copied = await navigator.clipboard?.writeText(code.textContent).then(() => true, () => false);
    button.textContent = copied || document.execCommand("copy") ? "Copied" : "Selected: press Ctrl+C";
  });
}
