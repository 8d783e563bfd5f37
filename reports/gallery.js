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
  ["calibrated", "robust", "interpretable", "dead", "sparse", "tied", "split_half_agrees"].forEach((flag, bit) => {
    held[flag] = held.flags.map((bits) => bits >> bit & 1);
  });
  held.split_half_agrees = held.split_half_agrees.map((agrees, i) => held.flags[i] >> 7 & 1 ? agrees : null);
  const anchor = (i) => [held.network, names("layer", i), held.unit[i]].map(encodeURIComponent).join("/");
  const byAnchor = new Map(all.map((i) => [anchor(i), i]));
  const belief = (i) => held.dead[i] ? "dead" : held.tied[i] ? "tied" : held.sparse[i] ? "sparse" : held.q[i] === null ? "untested"
    : held.robust[i] ? "robust" : held.calibrated[i] ? "calibrated" : "chance";
  const searched = all.map((i) => [names("layer", i), "unit " + held.unit[i], ...["concept", "runner_up", "class", "words",
    "reach"].map((column) => names(column, i)), belief(i), held.beliefs[belief(i)]].join("\n").toLowerCase());
  const files = all.map((i) => (held.pictures[i] ?? []).map(([id]) => held.images[id][4]).join("\n").toLowerCase());
  // A word may stand anywhere in any field, or in the name of a best image's file. A number is a whole number, so that 13
  // does not find unit 130, and no part of a file's name.
  const has = (i, word) => /^\d+$/.test(word)
    ? new RegExp(`(?<![\\p{L}\\p{N}])${word}(?![\\p{L}\\p{N}])`, "u").test(searched[i])
    : searched[i].includes(word) || files[i].includes(word);
  let found = all, first = 0, target = null;

  for (const [id, column] of [["filter-layer", "layer"], ["filter-concept", "concept"], ["filter-class", "class"]]) {
    const order = column === "layer" ? held.layer.names.map((_, i) => i)
      : held[column].names.map((_, i) => i).sort((a, b) => held[column].names[a].localeCompare(held[column].names[b]));
    for (const i of order) $(id).add(new Option(held[column].names[i], i));
  }

  const written = (value, digits = 3) => value === null ? "–"
    : String(Math.abs(value) >= 1000 ? Math.round(value) : Number(value.toPrecision(digits))).replace("-", "−");
  const percent = (value) => value === null ? "–" : (100 * value).toFixed(0) + " %";
  const bdi = (text) => make("bdi", "", text.length > 60 ? text.slice(0, 59) + "…" : text);

  // The picture with its region, as regions.py draws it; regions.css shows the look that is chosen.
  function region([placed, loops, scale, left, top], source, said) {
    const [width, height, cells] = held.frames[placed];
    const svg = (tag, attributes, ...children) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
      element.append(...children);
      return element;
    };
    return svg("svg", { class: "region", role: "img", viewBox: `0 0 ${width} ${height}` }, svg("title", {}, said),
      svg("svg", { width, height }, svg("g", { class: "zoom", transform: `scale(${scale})translate(${-left} ${-top})` },
        svg("image", { href: source, width, height, preserveAspectRatio: "none" }),
        svg("g", { transform: cells }, svg("path", { class: "halo", d: loops }),
          svg("path", { class: "mark", d: held.everything + loops })))));
  }

  // Images without any picture, as of arrays, are named instead.
  function pictures(i) {
    const named = held.pictures[i].every(([id]) => !held.images[id][2]);
    return reachable(make("div", "pictures" + (named ? " named" : ""), ...held.pictures[i].map((it) => picture(it, named, held.regions[i]?.[it[0]]))));
  }

  function picture([id, value], named, place) {
    const [truth, predicted, png, wrong, called] = held.images[id];
    const said = `${called}: true class ${truth ?? "–"}, predicted ${predicted ?? "–"}, activation ${written(value)}`;
    const caption = make("figcaption", "", ...(named ? [make("span", "", called), " "] : []),
      make("bdi", "", truth ?? (named ? "" : called)));
    if (wrong) {
      caption.append(" ", make("span", "wrong", "✗ ", make("bdi", "", predicted)));
    }
    if (named) return make("figure", "picture", caption);
    if (truth !== null) caption.append(" ", make("span", "file", called));
    const source = png && `data:image/${png.startsWith("/9j/") ? "jpeg" : "png"};base64,${png}`;
    let shown;
    if (png && place) {
      shown = region(place, source, said);
    } else if (png) {
      shown = make("img");
      shown.decoding = "async";
      shown.src = source;
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

  // What a card's number is called, as a link to its explanation on this page.
  function term(word, text = word) {
    const id = "term-" + word.replaceAll(/\W+/g, "-");
    if (!document.getElementById(id)) return text;
    const link = make("a", "term", text);
    link.href = "#" + id;
    return link;
  }

  function numbers(i) {
    const list = make("dl", "numbers");
    const add = (heading, ...texts) => list.append(make("dt", "", heading), make("dd", "", ...texts));
    add(term("score"), written(held.similarity[i]));
    if (names("runner_up", i) !== null) add("second best concept", bdi(names("runner_up", i)));
    if (held.z[i] !== null) add(term("z"), written(held.z[i]));
    if (held.q[i] !== null) add(term("q"), held.q[i] < 0.001 ? "< 0.001" : written(held.q[i], 2));
    if (held.z_within_class[i] !== null) add(term("beyond the class", "z beyond the class"), written(held.z_within_class[i]));
    if (held.split_half_agrees[i] !== null) add(term("halves agree"), held.split_half_agrees[i] ? "yes" : "no");
    if (held.bootstrap_share[i] !== null) add(term("resamples", "same label in resamples"), percent(held.bootstrap_share[i]));
    if (held.judged_ap[i] !== null) {
      const ends = held.judged_ap_low[i] === null ? ""
        : ` (${written(held.judged_ap_low[i], 2)} to ${written(held.judged_ap_high[i], 2)})`;
      add(term("judged", `judged by ${JUDGES[names("judged_by", i)]}`), written(held.judged_ap[i], 2) + ends);
    }
    if (names("reach", i) === "several concepts") add(term("together"), bdi(names("words", i)));
    else if (names("reach", i) !== null && names("words", i) === null) add("explained by", names("reach", i));
    if (held.accuracy[i] !== null) add(term("right", "right for"), percent(held.accuracy[i]) + " of its best images");
    return list;
  }

  function card(i) {
    const made = make("article", "card neuron" + (i === target ? " target" : ""));
    made.dataset.anchor = anchor(i);
    const concept = names("concept", i);
    const link = make("a", "anchor", bdi(names("layer", i)), ", unit " + held.unit[i]);
    link.href = "#" + anchor(i);
    link.title = "The address of this neuron in this file";
    made.append(make("h3", "", concept === null ? "No label" : bdi(concept)),
      make("p", "muted", make("span", "badge " + belief(i), held.beliefs[belief(i)]), " ", link));
    if (held.pictures[i]) made.append(pictures(i));
    if (concept !== null || held.histograms[i]) {
      const folded = make("details", "", make("summary", "", "Numbers"));
      folded.addEventListener("toggle", () => {  // drawn when it is opened first
        if (folded.children.length > 1) return;
        if (concept !== null) folded.append(numbers(i));
        if (held.histograms[i]) folded.append(histogram(held.histograms[i]));
      });
      made.append(folded);
    }
    return made;
  }

  // What narrows the gallery: each with its name, which neurons it keeps, and how it is taken back.
  const KINDS = { layer: "the layer", concept: "the concept", class: "the class of the best images" };
  function narrowing() {
    const text = $("search").value.replace(UNSEEN, " ").trim().toLowerCase(), list = [];
    const field = (id, said, keeps) => list.push({ said, keeps, undo: () => { $(id).value = ""; } });
    for (const word of new Set(text.split(/\s+/).filter(Boolean))) {
      list.push({ said: `“${word}”`, keeps: (i) => has(i, word), undo: () => {
        $("search").value = text.split(/\s+/).filter((other) => other !== word).join(" ");
      } });
    }
    for (const [column, said] of Object.entries(KINDS)) {
      const value = $("filter-" + column).value;
      if (value !== "") field("filter-" + column, said, (i) => held[column].of[i] === Number(value));
    }
    const sure = $("filter-belief").value;
    if (sure) field("filter-belief", "“how sure”", (i) => held[sure][i]);
    return list;
  }

  // Nothing has all that was asked for: what to leave out, and how many neurons there are then.
  function suggest(list) {
    const offers = list.map((one) => {
      const rest = list.filter((other) => other !== one);
      return { ...one, left: all.filter((i) => rest.every(({ keeps }) => keeps(i))).length };
    }).filter(({ left }) => left);
    const button = (text, undo) => {
      const made = make("button", "", text);
      made.type = "button";
      made.addEventListener("click", () => { undo(); choose(); });
      return made;
    };
    const none = list.filter(({ keeps }) => !all.some(keeps)).map(({ said }) => said);
    $("empty").replaceChildren(
      make("p", "", none.length ? `No neuron of this page has ${none.join(" or ")}.` : "No neuron has all of this at once."),
      make("p", "", ...offers.flatMap(({ said, undo, left }) =>
        [button(`Without ${said}: ${left.toLocaleString("en")} ${left === 1 ? "neuron" : "neurons"}`, undo), " "]),
        button("Start again", () => list.forEach(({ undo }) => undo()))));
  }

  function choose() {
    const list = narrowing(), order = $("sort").value;
    found = target !== null ? [target] : all.filter((i) => list.every(({ keeps }) => keeps(i)));
    if (order !== "place") {
      const value = (i) => held[order][i] ?? (order === "q" ? Infinity : -Infinity);
      found = [...found].sort((a, b) => (order === "q" ? value(a) - value(b) : value(b) - value(a)) || a - b);
    }
    $("empty").hidden = found.length > 0;
    if (!found.length) suggest(list);
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
      "split_half_agrees", "bootstrap_share", "judged_by", "judged_ap", "judged_ap_low", "judged_ap_high", "words", "reach", "accuracy", "calibrated", "robust", "interpretable", "dead", "sparse", "tied"];
    const cell = (column, i) => held[column].names ? names(column, i) : held[column][i];
    const quoted = (value) => value === null ? "" : `"${String(value).replaceAll('"', '""')}"`;
    const lines = [columns.join(","), ...found.map((i) => columns.map((column) => quoted(cell(column, i))).join(","))];
    save("gallery.csv", lines.join("\n") + "\n");
  });
  addEventListener("hashchange", follow);
  choose();
  follow();
})();
