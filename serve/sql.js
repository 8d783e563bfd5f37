"use strict";
// Names of tables, views and their columns are completed: Ctrl+Space puts in the first, or the next if it is pressed again.
const query = document.getElementById("q"), said = document.getElementById("names");
const known = fetch("/names.json").then((answer) => (answer.ok ? answer.json() : {})).catch(() => ({}));
let offered = null;  // { start, names, chosen }: what the last Ctrl+Space found

const wordBefore = () => /[\w]*$/.exec(query.value.slice(0, query.selectionStart))[0];

async function matching(word) {
  const tables = await known, text = query.value.toLowerCase();
  const used = Object.keys(tables).filter((name) => text.includes(name.toLowerCase()));
  const columns = [...new Set((used.length ? used : Object.keys(tables)).flatMap((name) => tables[name]))];
  const first = (name) => name.toLowerCase().startsWith(word.toLowerCase());
  const afterFrom = /\b(from|join)\s+\w*$/i.test(query.value.slice(0, query.selectionStart));
  const names = afterFrom ? Object.keys(tables).sort() : [...columns.sort(), ...Object.keys(tables).sort()];
  return names.filter(first).slice(0, 40);
}

query.addEventListener("keydown", async (event) => {
  if (event.ctrlKey && event.key === "Enter") { event.preventDefault(); query.form.requestSubmit(); return; }
  if (!(event.ctrlKey && event.code === "Space")) return;
  event.preventDefault();
  if (!offered) {
    const word = wordBefore();
    const names = await matching(word);
    offered = { start: query.selectionStart - word.length, names, chosen: -1 };
  }
  if (!offered.names.length) { said.textContent = "No name begins like this."; offered = null; return; }
  offered.chosen = (offered.chosen + 1) % offered.names.length;
  query.setRangeText(offered.names[offered.chosen], offered.start, query.selectionStart, "end");
  said.textContent = offered.names.map((name, i) => (i === offered.chosen ? `[${name}]` : name)).slice(0, 12).join("  ");
});
query.addEventListener("input", async () => {
  offered = null;
  const word = wordBefore();
  said.textContent = word.length > 1 ? (await matching(word)).slice(0, 12).join("  ") : "";
});
