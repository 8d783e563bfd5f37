"""Numbers and names as people read them.

count(3589), share(0.6942), p_value(0.0004)    # 3,589   69.4 %   < 0.001
name('a </script> b')                          # markup: escaped, and isolated from the text around it

Names of classes, concepts and layers come from users' files: they may contain markup, be long, or run right to left.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

from markupsafe import Markup

NONE = "–"
UNKNOWN = "unknown"  # for a value that needs a class, where the images have none
NAME_LENGTH = 60  # characters of a name in a sentence; its tooltip and the tables hold the whole name

# Control characters, and characters that reverse the direction of the text after them.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]+")


def count(value: float | None) -> str:
    """A number of things: 3,589."""
    return NONE if value is None else f"{int(value):,}".replace("-", "−")


def signed(value: int) -> str:
    """A difference of counts: +15, −3, ±0."""
    return f"{value:+,}".replace("-", "−") if value else "±0"


def share(value: float | None) -> str:
    """A share of one as 69.4 %. Only 0 is written as 0.0 %, and only 1 as 100.0 %."""
    if value is None:
        return NONE
    if 0 < value < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= value < 1:
        return "> 99.9 %"
    return f"{100 * value:.1f} %"


def percent(value: float) -> str:
    """A share of one in whole per cent without the sign, for a cell of a heat map: 69."""
    return f"{100 * value:.0f}"


def points(value: float) -> str:
    """A difference of shares in percentage points: +0.21."""
    return f"{100 * value:+.2f}".replace("-", "−")


def p_value(value: float | None) -> str:
    """0.12, 0.034 or < 0.001; three places below 0.1, so that 0.049 and 0.051 do not look alike."""
    if value is None:
        return NONE
    if value < 0.001:
        return "< 0.001"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def p_is(value: float | None) -> str:
    """For a sentence: p = 0.12, p < 0.001."""
    text = p_value(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def number(value: float | None) -> str:
    """A score, a lift or a loss in three digits."""
    if value is None:
        return NONE
    text = count(round(value)) if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "−")


def loss(value: float | None) -> str:
    """A mean cross-entropy: 0.282."""
    return NONE if value is None else f"{value:.3f}"


def or_unknown(read: Callable[[Any], str]) -> Callable[[Any], str]:
    """The same function, except that it returns UNKNOWN unchanged."""
    return lambda value: UNKNOWN if value == UNKNOWN else read(value)


def plain(text: Any) -> str:
    """A text of users without invisible characters and characters that reverse the text after them."""
    return NONE if text is None else _UNPRINTABLE.sub(" ", str(text))


def name(text: Any, length: int = NAME_LENGTH) -> Markup:
    """A text of users for a sentence, cut at `length` characters, with the whole text as its tooltip."""
    whole = plain(text)
    if len(whole) <= length:
        return Markup("<bdi>{}</bdi>").format(whole)
    return Markup('<bdi title="{}">{}…</bdi>').format(whole, whole[: length - 1])


def cut(text: Any, length: int = 40) -> str:
    """A text of users for the title of a chart: without invisible characters, and cut at `length` characters."""
    whole = plain(text)
    return whole if len(whole) <= length else f"{whole[: length - 1]}…"


def slug(*texts: Any) -> str:
    """Texts as the name of a file: letters, digits, dots and dashes of any script, not more than 80."""
    joined = unicodedata.normalize("NFC", "-".join(map(plain, texts)))
    return re.sub(r"[^\w.]+|_+", "-", joined).strip("-.")[:80] or "chart"


def plural(value: int, one: str, many: str) -> str:
    """1 neuron, 3,835 neurons."""
    return f"{count(value)} {one if value == 1 else many}"


def several(parts: list[str]) -> str:
    """a, b and c."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
