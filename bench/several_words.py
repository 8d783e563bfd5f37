"""Do neurons of two concepts get both words, and neurons of a concept that is not in the list none?

python -m bench.several_words
python -m bench.several_words --images 20000 --boost 2

Concepts are shown by 3, 6 and 10 % of the images, whose embeddings are moved towards them by `lean`. A planted neuron
is Gaussian noise plus `boost` standard deviations on the images that show one of its concepts. A quarter of the
concepts is left out of the list. Required: at least 70 % of the neurons of two concepts get both words, and at least
60 % of those of an absent concept are named as explained by no concept of the list.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from bench.made import embeddings, percent, show
from dissectdb.extract.scoring.correlation import to_presence
from dissectdb.extract.scoring.halves import divide
from dissectdb.extract.scoring.problem import Array, Settings
from dissectdb.extract.scoring.scorers import score_layer
from dissectdb.extract.scoring.several_words import WordColumns, Words, Z, find_words

KINDS = ("one concept", "two concepts", "an absent concept", "noise")
FREQUENCIES = (0.03, 0.06, 0.1)
ABSENT = 0.25  # of the concepts, the last ones
LEANS = (0.05, 0.08, 0.12)  # how much higher the cosine is if an image shows a concept
HEAD = ("kind", "lean", "label right", "both words", "two words or more", "no concept of this list",
        "nothing that CLIP sees")  # fmt: skip


@dataclass(frozen=True)
class PlantedWords:
    """first, second (K,): the concepts of each neuron, -1 for none. found: its words. listed: concepts of the list."""

    first: np.ndarray
    second: np.ndarray
    found: Words
    listed: int

    def kind(self, number: int) -> slice:
        """The neurons of a kind of KINDS."""
        each = len(self.first) // len(KINDS)
        return slice(number * each, (number + 1) * each)

    def has_both(self) -> np.ndarray:
        """(K,) whether the first two words are the neuron's two concepts."""
        truth = np.sort(np.stack([self.first, self.second], axis=1), axis=1)
        return (np.sort(self.found.concepts[:, :2], axis=1) == truth).all(axis=1)

    def is_seen(self) -> np.ndarray:
        """(K,) whether CLIP's embedding explains anything."""
        return self.found.explainable.r - Z * self.found.explainable.error > 0

    def is_explained(self) -> np.ndarray:
        """(K,) whether a concept of the list explains the neuron: reach in the view neuron_words."""
        explained, explainable = self.found.explained, self.found.explainable
        return (explained.r - Z * explained.error > 0) & (10 * explained.r**2 >= explainable.r**2)


def plant(images: int, concepts: int, each: int, lean: float, boost: float, seed: int) -> PlantedWords:
    """`each` neurons of every kind, labelled by presence, with their words."""
    random = np.random.default_rng((seed, 5))
    world = embeddings(images, concepts, seed, shares=np.resize(FREQUENCIES, concepts), lean=lean)
    listed = concepts - round(ABSENT * concepts)
    first = np.concatenate([random.integers(listed, size=2 * each), random.integers(listed, concepts, each),
                            np.full(each, -1)])  # fmt: skip
    second = np.full(len(first), -1)
    second[each : 2 * each] = (first[each : 2 * each] + random.integers(1, listed, each)) % listed
    values = random.standard_normal((images, len(first)), dtype=np.float32)
    for neuron, pair in enumerate(zip(first, second, strict=True)):
        planted = [concept for concept in pair if concept >= 0]
        values[:, neuron] += boost * world.shown[:, planted].any(axis=1)
    faces, words = torch.from_numpy(world.images), torch.from_numpy(world.concepts[:listed])
    layer = Array(values)
    labels = score_layer(Settings.defaults("presence"), layer, faces, words, keep=1).concepts[:, 0]
    columns = WordColumns.of(to_presence(faces @ words.T), faces, divide(len(faces)))
    return PlantedWords(first, second, find_words(columns, layer, labels), listed)


def measure(options: argparse.Namespace) -> Iterator[tuple[object, ...]]:
    """One row per kind and lean."""
    made = [
        plant(options.images, options.concepts, options.neurons, lean, options.boost, options.seed) for lean in LEANS
    ]
    for number, name in enumerate(KINDS):
        for lean, planted in zip(LEANS, made, strict=True):
            rows, concepts = planted.kind(number), planted.found.concepts
            right = (concepts[:, 0] == planted.first) | (concepts[:, 0] == planted.second)
            seen, explained = planted.is_seen()[rows], planted.is_explained()[rows]
            yield (
                name, lean,
                percent(right[rows].mean()) if number < 2 else "–",
                percent(planted.has_both()[rows].mean()) if number == 1 else "–",
                percent((concepts[rows, 1] >= 0).mean()),
                percent((seen & ~explained).mean()), percent((~seen & ~explained).mean()),
            )  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.several_words", description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--concepts", type=int, default=100)
    parser.add_argument("--neurons", type=int, default=200, help="of each kind")
    parser.add_argument("--boost", type=float, default=3.0, help="standard deviations")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    show(
        f"{options.neurons} neurons of each kind, {options.images:,} images, {options.concepts} concepts", HEAD,
        measure(options),
    )  # fmt: skip


if __name__ == "__main__":
    main()
