"use strict";
// Charts are drawn as SVG, so that they take the page's colours and print sharply. `ast` makes Vega interpret its
// expressions instead of compiling them: the page forbids eval.
const specifications = JSON.parse(document.getElementById("charts").textContent);
for (const [id, specification] of Object.entries(specifications)) {
  vegaEmbed(document.getElementById(id), specification, {
    mode: "vega-lite", renderer: "svg", ast: true, actions: false, defaultStyle: false,
    tooltip: { disableDefaultStyle: true },
  }).catch((error) => {
    document.getElementById(id).textContent = "This chart could not be drawn; its data stands in the table. " + error;
  });
}
