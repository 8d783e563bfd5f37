"""How many labels change if numbers are only rounded differently, as on another device?

python -m bench.ties demo/warehouse.duckdb
python -m bench.ties demo/warehouse.duckdb --runs 3 --scorers soft_wpmi presence

What the shown dissection of a warehouse is computed from, by every scorer. "sums": the same numbers in another order of
images and dimensions, so that every sum is rounded differently. The other columns: besides, each activation and each
number of an embedding is multiplied by a random factor within 1 ± 1e-6, as forward passes in float32 differ between
devices, or within 1 ± 1e-3, as passes in TF32 or float16 do. Each column is the mean number of neurons, over the runs,
whose label changes. Rules: the highest score; the first concept of those that are equal as float32; the first of
those that differ from the best by at most a millionth, which is ours.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from bench.made import Layer, show
from dissectdb.extract.scoring.evidence import read_evidence
from dissectdb.extract.scoring.problem import Settings, ties_raised
from dissectdb.extract.scoring.scorers import score_layer
from dissectdb.extract.scoring.stored_layers import read_layers
from dissectdb.extract.study.scorers import SCORERS
from dissectdb.warehouse import Warehouse

Numbers = tuple[list[np.ndarray], np.ndarray, np.ndarray]  # activations by layer, image and concept embeddings
NOISE = {"sums": 0.0, "± 1e-6": 1e-6, "± 1e-3": 1e-3}
RULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # of scores (K, C), -inf where there is none
    "highest": lambda scores: scores.argmax(axis=1),
    "float32": lambda scores: scores.astype(np.float32).argmax(axis=1),
    "ours": lambda scores: ties_raised(scores).argmax(axis=1),
}
HEAD = ("scorer", "neurons", "ties in float32", "ties", *(f"{kind}: {rule}" for kind in NOISE for rule in RULES))


def read_numbers(path: Path) -> Numbers:
    """What the shown dissection of a warehouse is computed from."""
    with Warehouse(path, read_only=True) as warehouse:
        [row] = warehouse.rows(
            "select * from dissections where dissection_id in (select dissection_id from shown_dissection)"
        ).to_dicts()
        evidence = read_evidence(warehouse, row)
        activations = [layer.block(0, layer.neurons) for layer in read_layers(warehouse, row)]
    return activations, evidence.images.numpy(), evidence.concepts.numpy()


def rounded_differently(numbers: Numbers, noise: float, random: np.random.Generator) -> Numbers:
    """The same numbers in another order of images and dimensions, each times a factor within 1 ± noise."""

    def changed(values: np.ndarray) -> np.ndarray:
        return (values * (1 + noise * random.uniform(-1, 1, values.shape))).astype(np.float32)

    activations, images, concepts = numbers
    order, dimensions = random.permutation(len(images)), random.permutation(images.shape[1])
    return (
        [changed(layer[order]) for layer in activations],
        changed(np.ascontiguousarray(images[order][:, dimensions])),
        changed(np.ascontiguousarray(concepts[:, dimensions])),
    )


def all_scores(settings: Settings, numbers: Numbers) -> np.ndarray:
    """Scores (neuron, concept) of the neurons of all layers; -inf where there is none."""
    activations, images, concepts = numbers
    return np.concatenate([_scores(settings, layer, images, concepts) for layer in activations])


def _scores(settings: Settings, activations: np.ndarray, images: np.ndarray, concepts: np.ndarray) -> np.ndarray:
    found = score_layer(settings, Layer(activations, settings), images, concepts, keep=len(concepts))
    scores = np.full(found.similarities.shape, -np.inf)
    neurons, places = np.nonzero(found.concepts >= 0)
    scores[neurons, found.concepts[neurons, places]] = found.similarities[neurons, places]
    return scores


def count_changes(numbers: Numbers, scorers: list[str], runs: int) -> Iterator[tuple[object, ...]]:
    """One row per scorer."""
    for scorer in scorers:
        settings = Settings.defaults(scorer)
        scores = all_scores(settings, numbers)
        live = np.isfinite(scores).any(axis=1)
        row: list[object] = [
            scorer,
            int(live.sum()),
            ties(scores.astype(np.float32)[live]),
            ties(ties_raised(scores)[live]),
        ]
        for noise in NOISE.values():
            random = np.random.default_rng(0)
            others = [all_scores(settings, rounded_differently(numbers, noise, random)) for _ in range(runs)]
            for label in RULES.values():
                changed = np.stack([label(other) != label(scores) for other in others])
                row.append(float(changed[:, live].sum(axis=1).mean()))
        yield tuple(row)


def ties(scores: np.ndarray) -> int:
    """How many rows have their highest score more than once."""
    return int(((scores == scores.max(axis=1, keepdims=True)).sum(axis=1) > 1).sum())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ties", description=__doc__.split("\n")[0])
    parser.add_argument("warehouse", type=Path)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--scorers", nargs="+", choices=list(SCORERS), default=list(SCORERS))
    asked = parser.parse_args()
    numbers = read_numbers(asked.warehouse)
    title = (
        f"{sum(layer.shape[1] for layer in numbers[0])} neurons, {len(numbers[1]):,} images, {len(numbers[2])} concepts"
    )
    show(
        f"{title}, {asked.runs} runs, {torch.get_num_threads()} threads",
        HEAD,
        count_changes(numbers, asked.scorers, asked.runs),
    )


if __name__ == "__main__":
    main()
