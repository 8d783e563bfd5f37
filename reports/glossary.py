"""The glossary of a page: what each of its words means, once, for readers who have nothing but the file.

glossary = Glossary(summary)
glossary.term("robust")      # a link to the word's explanation, which the page then shows
glossary.shown()             # the words that were linked, and those that explain them, in the order of TERMS

docs/glossary.md has all words of the project.
"""

from __future__ import annotations

import re
from typing import Any

from markupsafe import Markup

from dissectdb.reports.words import number

# {other} links another word; {q_limit}, {tau} and {images_neurons} are the dissection's. This is the page's order.
TERMS = {
    "label": "the concept with the highest {score}",
    "score": "how well a concept fits a neuron",
    "chance": "labels of neurons that have nothing to do with the images",
    "z": "standard deviations of the score above {chance}",
    "q": "expected share of {chance} hits among labels as good",
    "calibrated": "q ≤ {q_limit}: more than {chance}",
    "above τ": "score above {tau}; pure noise may pass",
    "interpretable": "{rule}",
    "halves agree": "each half of the images alone gives the same label",
    "beyond the class": "{calibrated} beside neurons that know only an image’s class",
    "robust": "{calibrated}, and passes every test that was run",
    "resamples": "draws of images with replacement",
    "judged": "fit on images that did not choose the label: 0 by chance, 1 at best",
    "together": "words that explain more than the label alone",
    "right": "the label stands for the image’s true class",
    "explained": "correlation with the word’s presence, on other images",
    "responds": "where its activation map exceeds what 1 % of its cells on all images do; and the map’s highest cell",
    "spoke": "labels one of the image’s {images_neurons} most active interpretable neurons",
    "interval": "holds the true value, with 95 % confidence",
    "gained, lost": "images that became right, wrong",
    "p": "probability of such a difference by luck; corrected for all tries",
    "controls": "same scales on other neurons (random), similar ones (matched), by shuffled labels, on all, on biases",
    "loss": "cross-entropy in nats",
    "silenced": "output set to 0",
}
ANCHOR = "term-"


def anchor(word: str) -> str:
    """The id of a word's explanation."""
    return ANCHOR + re.sub(r"\W+", "-", word.replace("τ", "tau"))


class Glossary:
    """The words that a page links, with their explanations. summary: of the dissection, for its limits and its rule."""

    def __init__(self, summary: dict[str, Any] | None = None) -> None:
        self.summary, self.linked = summary or {}, set[str]()

    def term(self, word: str, text: str | None = None) -> Markup:
        """A link to the word's explanation. text: what stands on the page, by default the word."""
        self.linked.add(word)
        return Markup('<a class="term" href="#{}">{}</a>').format(anchor(word), text or word)

    def shown(self) -> list[tuple[str, str, Markup]]:
        """Id, word and explanation of each word that was linked."""
        explained: dict[str, Markup] = {}
        while missing := self.linked - explained.keys():  # an explanation may link further words
            explained |= {word: self._explanation(word) for word in sorted(missing)}
        return [(anchor(word), word, explained[word]) for word in TERMS if word in explained]

    def _explanation(self, word: str) -> Markup:
        values = {key: number(self.summary.get(key)) for key in ("q_limit", "tau", "images_neurons")}
        rule = "calibrated" if self.summary.get("rule") == "q" else "above τ"
        text = Markup()
        for part in re.split(r"(\{.+?\})", TERMS[word]):
            key = part[1:-1] if part.startswith("{") else ""
            text += values[key] if key in values else self.term(rule if key == "rule" else key) if key else part
        return text
