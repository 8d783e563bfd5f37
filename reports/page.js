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

function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

const PICTURE = ".picture > :is(img, svg)";
// A click on a picture, or Enter, shows it large with its facts; the arrow keys go on to the others of the same neuron.
// The Tab key stops at the first picture of a row only, so that it does not take a hundred steps through a page.
function reachable(pictures) {
  const first = pictures.querySelector(PICTURE);
  if (!first) return pictures;
  first.tabIndex = 0;
  first.setAttribute("role", "button");
  first.setAttribute("aria-haspopup", "dialog");
  return pictures;
}
document.querySelectorAll(".pictures").forEach(reachable);
(() => {
  let large = null, shown, facts, back, on, row = [], at = 0;
  function dialog() {  // made when it is opened first
    large = make("dialog");
    large.id = "large";
    [shown, facts] = [make("div", "shown"), make("p")];
    const buttons = [["←", "Previous picture"], ["→", "Next picture"], ["×", "Close"]].map(([sign, label]) => {
      const button = make("button", "", sign);
      button.type = "button";
      button.setAttribute("aria-label", label);
      return button;
    });
    [back, on] = buttons;
    large.append(shown, make("div", "bar", back, facts, on, buttons[2]));
    document.body.append(large);
    back.addEventListener("click", () => enlarge(-1));
    on.addEventListener("click", () => enlarge(1));
    buttons[2].addEventListener("click", () => large.close());
    large.addEventListener("click", ({ target }) => { if (target === large || shown.contains(target)) large.close(); });
  }
  function enlarge(step) {
    at = (at + step + row.length) % row.length;
    const picture = row[at].cloneNode(true);
    for (const attribute of ["tabindex", "aria-haspopup"]) picture.removeAttribute(attribute);
    picture.setAttribute("role", "img");
    shown.replaceChildren(picture);
    facts.textContent = picture.alt ?? picture.querySelector("title").textContent;
  }
  function open(picture) {
    if (!large) dialog();
    row = [...picture.closest(".pictures").querySelectorAll(PICTURE)];
    at = row.indexOf(picture);
    back.hidden = on.hidden = row.length < 2;
    enlarge(0);
    large.showModal();
  }
  document.addEventListener("click", ({ target }) => {
    const picture = target.closest?.(PICTURE);
    if (picture) open(picture);
  });
  document.addEventListener("keydown", (event) => {
    if (["Enter", " "].includes(event.key) && event.target.matches?.(PICTURE)) {
      event.preventDefault();
      open(event.target);
    } else if (large?.open && ["ArrowLeft", "ArrowRight"].includes(event.key)) {
      enlarge(event.key === "ArrowLeft" ? -1 : 1);
    }
  });
})();

// «CSV» and «Copy» beside the data and the SQL of a chart.
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
