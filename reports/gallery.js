// The gallery of neurons: search, filter and sort; at most PAGE cards at a time. Names reach the page as text only.
(() => {
  const held = read("gallery-data");
  if (!held) return;
  const PAGE = 24;
  const JUDGES = { clip: "CLIP", "other clip": "another CLIP", class: "class" };
  const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]+/g;  // as words.plain has it
  const $ = (id) => document.getElementById(id);
  const names = (column, i) => held[column].of[i] === null ? null : held[column].names[held[column].of[i]];
  const all = held.unit.map((_, i) => i);
  for (const column of ["similarity", "z", "q", "z_within_class", "bootstrap_share", "accuracy",
    "judged_ap", "judged_ap_low", "judged_ap_high"]) {
    if (!held[column].length) held[column] = all.map(() => null);  // none is known
  }
  ["calibrated", "robust", "interpretable", "dead", "sparse", "split_half_agrees"].forEach((flag, bit) => {
    held[flag] = held.flags.map((bits) => bits >> bit & 1);
  });
  held.split_half_agrees = held.split_half_agrees.map((agrees, i) => held.flags[i] >> 6 & 1 ? agrees : null);
  const anchor = (i) => [held.network, names("layer", i), held.unit[i]].map(encodeURIComponent).join("/");
  const byAnchor = new Map(all.map((i) => [anchor(i), i]));
  const searched = all.map((i) =>
    [names("layer", i), "unit " + held.unit[i], names("concept", i), names("runner_up", i), names("class", i)]
      .join(" ").toLowerCase());
  let found = all, first = 0, target = null;

  for (const [id, column] of [["filter-layer", "layer"], ["filter-concept", "concept"], ["filter-class", "class"]]) {
    const order = column === "layer" ? held.layer.names.map((_, i) => i)
      : held[column].names.map((_, i) => i).sort((a, b) => held[column].names[a].localeCompare(held[column].names[b]));
    for (const i of order) $(id).add(new Option(held[column].names[i], i));
  }

  function make(tag, className, ...children) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.append(...children);
    return element;
  }
  const written = (value, digits = 3) => value === null ? "–"
    : String(Math.abs(value) >= 1000 ? Math.round(value) : Number(value.toPrecision(digits))).replace("-", "−");
  const percent = (value) => value === null ? "–" : (100 * value).toFixed(0) + " %";
  const bdi = (text) => make("bdi", "", text.length > 60 ? text.slice(0, 59) + "…" : text);

  function picture([id, value]) {
    const [truth, predicted, png, wrong] = held.images[id];
    const said = `Image ${id}: true class ${truth ?? "–"}, predicted ${predicted ?? "–"}, activation ${written(value)}`;
    const caption = make("figcaption", "", make("bdi", "", truth ?? "image " + id));
    if (wrong) {
      caption.append(" ", make("span", "wrong", "✗ ", make("bdi", "", predicted)));
    }
    let shown;
    if (png) {
      shown = make("img");
      shown.src = "data:image/png;base64," + png;
      shown.alt = shown.title = said;
    } else {
      shown = make("div", "missing", "no picture");
      shown.setAttribute("role", "img");
      shown.setAttribute("aria-label", said);
    }
    return make("figure", "picture", shown, caption);
  }

  // A row of bars a class: how its images are spread over the neuron's activation, each row on a scale of its own.
  function histogram({ low, high, classes }) {
    const SVG = "http://www.w3.org/2000/svg", height = 13;
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 100 ${height * classes.length}`);
    svg.setAttribute("preserveAspectRatio", "none");
    const labels = make("div", "labels");
    classes.forEach(([name, bars], row) => {
      const most = Math.max(...bars);
      bars.forEach((images, bar) => {
        if (!images) return;
        const box = document.createElementNS(SVG, "rect"), tall = Math.max(0.6, (height - 2) * images / most);
        for (const [key, value] of Object.entries(
          { x: bar * 100 / bars.length, width: 92 / bars.length, y: (row + 1) * height - tall, height: tall })) {
          box.setAttribute(key, value);
        }
        svg.append(box);
      });
      labels.append(bdi(name ?? "no class"));
    });
    const means = classes.map(([name, bars]) => {
      const total = bars.reduce((sum, images) => sum + images, 0);
      const mean = bars.reduce((sum, images, bar) => sum + images * (bar + 0.5), 0) / total / bars.length;
      return `${name ?? "no class"} ${written(low + mean * (high - low), 2)}`;
    });
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", "How the images of each class are spread over the activation, from "
      + `${written(low)} to ${written(high)}. Mean by class: ${means.join(", ")}`);
    svg.style.height = height * classes.length + "px";
    const ends = make("div", "ends", make("span", "", written(low)), make("span", "", "activation"),
      make("span", "", written(high)));
    return make("div", "histogram", labels, make("div", "", svg, ends));
  }

  function card(i) {
    const made = make("article", "card neuron" + (i === target ? " target" : ""));
    made.dataset.anchor = anchor(i);
    const concept = names("concept", i);
    const link = make("a", "anchor", bdi(names("layer", i)), ", unit " + held.unit[i]);
    link.href = "#" + anchor(i);
    link.title = "The address of this neuron in this file";
    const belief = held.dead[i] ? "dead" : held.sparse[i] ? "sparse" : held.robust[i] ? "robust" : held.calibrated[i] ? "calibrated"
      : held.z[i] === null ? "" : "could be chance";
    const said = [`Similarity ${written(held.similarity[i])}`];
    if (names("runner_up", i) !== null) said.push(make("span", "", "runner-up ", bdi(names("runner_up", i))));
    if (held.z[i] !== null) said.push(`z ${written(held.z[i])}`);
    if (held.q[i] !== null) said.push(`q ${held.q[i] < 0.001 ? "< 0.001" : written(held.q[i], 2)}`);
    if (held.z_within_class[i] !== null) said.push(`z within class ${written(held.z_within_class[i])}`);
    if (held.split_half_agrees[i] !== null) said.push(held.split_half_agrees[i] ? "halves agree" : "halves disagree");
    if (held.bootstrap_share[i] !== null) said.push(`same label in ${percent(held.bootstrap_share[i])} of resamples`);
    if (held.judged_ap[i] !== null) {
      const ends = held.judged_ap_low[i] === null ? ""
        : ` (${written(held.judged_ap_low[i], 2)} to ${written(held.judged_ap_high[i], 2)})`;
      said.push(`judged on other images ${written(held.judged_ap[i], 2)}${ends} by ${JUDGES[names("judged_by", i)]}`);
    }
    if (names("reach", i) === "several concepts") said.push(make("span", "", "together: ", bdi(names("words", i))));
    else if (names("reach", i) !== null && names("words", i) === null) said.push(`explained by ${names("reach", i)}`);
    if (held.accuracy[i] !== null) said.push(`right for ${percent(held.accuracy[i])} of its best images`);
    const line = make("p", "muted");
    said.forEach((part, place) => line.append(place ? " · " : "", part));
    made.append(make("h4", "", concept === null ? "No label" : bdi(concept)),
      make("p", "muted", link, belief ? make("span", "badge " + belief.replaceAll(" ", "-"), belief) : ""),
      concept === null ? make("p", "muted", held.dead[i] ? "Its activation is constant."
        : held.sparse[i] ? "It fires on too few images, or ties decide which are its best." : "No concept has a score.") : line);
    if (held.pictures[i]) made.append(make("div", "pictures", ...held.pictures[i].map(picture)));
    if (held.histograms[i]) made.append(histogram(held.histograms[i]));
    return made;
  }

  const BELIEFS = ["calibrated", "robust", "interpretable", "dead", "sparse"];
  function choose() {
    const text = $("search").value.replace(UNSEEN, " ").trim().toLowerCase();
    const chosen = ["layer", "concept", "class"].map((column) => [column, $("filter-" + column).value])
      .filter(([, value]) => value !== "");
    const belief = $("filter-belief").value, order = $("sort").value;
    found = target !== null ? [target] : all.filter((i) => (!text || searched[i].includes(text))
      && chosen.every(([column, value]) => held[column].of[i] === Number(value))
      && (!BELIEFS.includes(belief) || held[belief][i]));
    if (order !== "place") {
      const value = (i) => held[order][i] ?? (order === "q" ? Infinity : -Infinity);
      found = [...found].sort((a, b) => (order === "q" ? value(a) - value(b) : value(b) - value(a)) || a - b);
    }
    show(0);
  }

  function show(from) {
    first = from;
    const shown = found.slice(first, first + PAGE), many = found.length > shown.length;
    $("cards").replaceChildren(...shown.map(card));
    $("found").textContent = `${found.length.toLocaleString("en")} ${found.length === 1 ? "neuron" : "neurons"}`
      + (many ? `, ${first + 1} to ${first + shown.length} shown` : "");
    $("previous").disabled = first === 0;
    $("next").disabled = first + PAGE >= found.length;
    $("all").hidden = target === null;
  }

  function follow() {
    const i = byAnchor.get(location.hash.slice(1).split("/").map((part) => {
      try { return encodeURIComponent(decodeURIComponent(part)); } catch { return part; }
    }).join("/"));
    if (i === undefined) return;
    target = i;
    choose();
    document.querySelector("#cards .target").scrollIntoView({ block: "center" });
  }

  for (const id of ["search", "filter-layer", "filter-concept", "filter-class", "filter-belief", "sort"]) {
    $(id).addEventListener("input", () => { target = null; choose(); });
  }
  $("previous").addEventListener("click", () => show(Math.max(0, first - PAGE)));
  $("next").addEventListener("click", () => { show(first + PAGE); $("gallery").scrollIntoView(); });
  $("all").addEventListener("click", () => {
    target = null;
    history.replaceState(null, "", "#gallery");
    choose();
  });
  $("save-gallery").addEventListener("click", () => {
    const columns = ["layer", "unit", "concept", "runner_up", "class", "similarity", "z", "q", "z_within_class",
      "split_half_agrees", "bootstrap_share", "judged_by", "judged_ap", "judged_ap_low", "judged_ap_high", "words", "reach", "accuracy", "calibrated", "robust", "interpretable", "dead", "sparse"];
    const cell = (column, i) => held[column].names ? names(column, i) : held[column][i];
    const quoted = (value) => value === null ? "" : `"${String(value).replaceAll('"', '""')}"`;
    const lines = [columns.join(","), ...found.map((i) => columns.map((column) => quoted(cell(column, i))).join(","))];
    save("gallery.csv", lines.join("\n") + "\n");
  });
  addEventListener("hashchange", follow);
  choose();
  follow();
})();
