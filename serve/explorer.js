"use strict";
document.documentElement.classList.add("scripted");
const held = (id) => { const it = document.getElementById(id); return it ? JSON.parse(it.textContent) : null; };

// Charts are drawn as SVG, so that they take the page's colours. `ast`: Vega interprets its expressions, because the
// page forbids eval.
const cannot = (place) => (error) => { place.textContent = "This chart could not be drawn: " + error; };
const draw = (place, specification) => {
  const said = place.getAttribute("aria-label");
  vegaEmbed(place, specification, {
    mode: "vega-lite", renderer: "svg", ast: true, actions: false, defaultStyle: false,
    config: held("chart-config"), tooltip: { disableDefaultStyle: true },
  }).then(() => { place.setAttribute("role", "img"); place.setAttribute("aria-label", said); }).catch(cannot(place));
};
try {
  for (const [id, specification] of Object.entries(held("charts") ?? {})) draw(document.getElementById(id), specification);
} catch (error) {  // the rest of this file must run
  for (const place of document.querySelectorAll(".chart:empty")) cannot(place)(error);
}

// A picture is sent as it is, when it is dropped or chosen; the answer is a part of a page.
const drop = document.getElementById("drop");
if (drop) {
  const file = document.getElementById("file"), answer = document.getElementById("tried");
  const send = async (picture) => {
    if (!picture) return;
    answer.textContent = "Looking …";
    try {
      const said = await fetch(drop.dataset.address, { method: "POST", body: picture, credentials: "same-origin" });
      const text = await said.text(), page = new DOMParser().parseFromString(text, "text/html");
      answer.replaceChildren(...(page.querySelector("main") ?? page.body).childNodes);
    } catch (error) {
      answer.textContent = "The picture could not be sent: " + error;
    }
  };
  file.addEventListener("change", () => send(file.files[0]));
  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop") send(event.dataTransfer.files[0]);
    });
  }
}
