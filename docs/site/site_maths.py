"""Formulas of a page as MathML, which browsers draw without a script or a network.

GitHub's three ways are read: $…$ or $`…`$ in a line, $$…$$ or a block ```math for a line of its own. Only pages with
such a block have formulas, because a $ elsewhere is a variable of the shell.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import ziamath
from latex2mathml.converter import convert

FONT = Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf"  # for browsers without a font for formulas

FORMULA = re.compile(
    r"^```math\n(?P<block>.*?)\n```$|\$\$(?P<double>.+?)\$\$"
    r"|(?P<code>^```.*?^```$|(?<!\$)`[^`\n]+`(?!\$))"
    r"|\$`(?P<quoted>[^`]+)`\$|\$(?P<inline>[^\s$](?:[^$]*[^\s$])?)\$",
    re.MULTILINE | re.DOTALL,
)
TOKEN = re.compile(r"formula(\d+)elumrof")  # no character of it means something in Markdown


def has_formulas(text: str) -> bool:
    """Whether a $ in the text begins a formula."""
    return "\n```math\n" in text


def taken_out(text: str, page: Any) -> str:
    """The text with a token in the place of each formula. The page keeps the formulas until put_back."""
    page.formulas = []
    if not has_formulas(text):
        return text

    def token(match: re.Match[str]) -> str:
        if match["code"]:
            return match[0]
        block = match["block"] or match["double"]
        page.formulas.append(mathml(block or match["quoted"] or match["inline"], block=bool(block)))
        return f"formula{len(page.formulas) - 1}elumrof"

    return FORMULA.sub(token, text)


def put_back(html: str, page: Any) -> str:
    """The page with MathML in the place of the tokens."""
    return TOKEN.sub(lambda match: page.formulas[int(match[1])], html)


def mathml(formula: str, *, block: bool) -> str:
    """A formula of TeX as MathML. Raises what latex2mathml raises for one that it does not know."""
    return convert(" ".join(formula.split()), display="block" if block else "inline")
