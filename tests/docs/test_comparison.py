"""docs/comparison.md claims no speed that bench/README.md does not have."""

from __future__ import annotations

import re

from dissectdb import ROOT

PAGE = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
BENCH = (ROOT / "bench" / "README.md").read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_speed_is_one_that_was_measured() -> None:
    rows = re.findall(r"^\| (\w+) \| ([\d,]+) \| ([\d.]+) \| ([\d.]+) \|$", section(PAGE, "Speed"), re.MULTILINE)
    assert len(rows) == 5
    for row in rows:
        assert re.search(r"\| " + re.escape(" | ".join(row)) + r" \|", section(BENCH, "scorers")), row
    numbers = {"195.0", "157.9", "28.0", "31.0"}
    assert numbers <= set(re.findall(r"\d+\.\d", section(PAGE, "Speed")))
    extract = section(BENCH, "extract")
    assert "| ours | 195.0 | 21.01 | 38.52 | 28.00 |" in extract
    assert "| original | 157.9 | 25.94 | 47.67 | 31.00 |" in extract
    assert re.search(r"cos_cubed \| 20,000 \| [\d.]+ \| [\d.]+ \| 0\.7 ×", section(BENCH, "scorers"))


def test_every_tool_of_the_table_has_a_source() -> None:
    tools = re.findall(r"^\| \| (.*) \|$", PAGE, re.MULTILINE)[0].split(" | ")
    assert tools[0] == "dissectdb"
    for tool in tools[1:]:
        assert f"- **{tool}**:" in section(PAGE, "Sources")
