"""Docstrings as Markdown: an example with >>> is a block of code, and brackets are text and no links.

mkdocstrings loads this as an extension of griffe, which reads the code without importing it.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^>>> .*(?:\n(?!\n).+)*", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Changes the docstrings of all objects that are read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe for each object."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    r"""A docstring as Markdown.

    >>> print(as_markdown("Rows [a].\n\n>>> 1 + 1\n2"))
    Rows \[a\].
    <BLANKLINE>
    ```python
    >>> 1 + 1
    2
    ```
    """
    parts = re.split(f"({EXAMPLE.pattern})", text, flags=re.MULTILINE)
    prose = [re.sub(r"([\[\]<])", r"\\\1", part) for part in parts[::2]]
    examples = [f"```python\n{part}\n```" for part in parts[1::2]]
    return "".join(one for pair in zip(prose, [*examples, ""], strict=True) for one in pair)
