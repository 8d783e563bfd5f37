"""docs/errors.md: every message that it quotes stands in the source, and every exit code is one that is used."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from dissectdb import ROOT

PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
MESSAGES = re.findall(r"```text\n(.*?)\n```", PAGE, re.DOTALL)
GAP = "\0"  # in the place of {…} in an f-string


@cache
def literals() -> list[str]:
    """Every text of the program; of an f-string, with GAP where a value goes."""
    texts = []
    for room in ("dissectdb", "extract", "warehouse", "reports"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = [part.value if isinstance(part, ast.Constant) else GAP for part in node.values]
                    texts.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
    return texts


def is_in_source(message: str) -> bool:
    """Whether the parts between the … of a message stand in one text of the source, in order, with a value between."""
    parts = [part.strip() for part in message.split("…")]
    pattern = ".*".join(re.escape(part) for part in parts)
    return any(re.search(pattern, text, re.DOTALL) for text in literals() if GAP in text)


@pytest.mark.parametrize("message", MESSAGES)
def test_the_message_is_one_of_the_program(message: str) -> None:
    assert max(map(len, message.split("…"))) > 9, "too little text to find it by"
    assert is_in_source(message)


def test_a_message_that_is_not_there_is_noticed() -> None:
    assert len(MESSAGES) >= 20
    assert not is_in_source("… is held by …; wait for ever")
    assert not is_in_source("the probing split … has … unsound images")


def test_the_exit_codes_are_those_of_the_error_classes() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    sources = [
        path.read_text(encoding="utf-8")
        for room in ("dissectdb", "extract", "warehouse", "reports")
        for path in (ROOT / room).rglob("*.py")
    ]
    used = {int(code) for text in sources for code in re.findall(r"^    exit_code = (\d+)", text, re.MULTILINE)}
    assert codes == used | {0, 130}
