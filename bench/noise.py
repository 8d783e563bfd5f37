"""Is a label of pure noise believed as often as p and q promise?

python -m bench.noise
python -m bench.noise --neurons 1024 --concepts 25 --scorers soft_wpmi cos

4,096 neurons of independent Gaussian noise over 5,000 images. Required: 4 to 6 % have p ≤ 0.05, at most 1 % q ≤ 0.05.
The share with score > 0 is what the paper's rule, τ = 0, would call interpretable.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

from bench.made import P_LIMIT, Q_LIMIT, embeddings, judge, percent, show
from extract.scoring import DEFAULTS, Settings

SHAPES = ("normal", "skewed")  # skewed: exp of normal, as rare strong activations are
HEAD = ("scorer", "concepts", "p ≤ 0.05", "q ≤ 0.05", "score > 0", "null draws", "seconds", "verdict")


def noise(images: int, neurons: int, shape: str, seed: int) -> np.ndarray:
    """Activations (image, neuron) that have nothing to do with the images."""
    values = np.random.default_rng((seed, 2)).standard_normal((images, neurons), dtype=np.float32)
    return np.exp(values) if shape == "skewed" else values


def measure(options: argparse.Namespace) -> Iterator[tuple[object, ...]]:
    """A row a scorer and number of concepts."""
    activations = noise(options.images, options.neurons, options.shape, options.seed)
    for concepts in options.concepts:
        world = embeddings(options.images, concepts, options.seed)
        for scorer in options.scorers:
            judged = judge(Settings.defaults(scorer), activations, world, options.draws, options.seed)
            small, believed = (judged.p <= P_LIMIT).mean(), (judged.q <= Q_LIMIT).mean()
            met = 0.04 <= small <= 0.06 and believed <= 0.01
            positive = percent((judged.score > 0).mean())
            yield (
                scorer, concepts, percent(small), percent(believed), positive, judged.draws, judged.seconds,
                "met" if met else "not met",
            )  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.noise", description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--neurons", type=int, default=4096)
    parser.add_argument("--concepts", type=int, nargs="+", default=[7, 25, 1000])
    parser.add_argument("--scorers", nargs="+", choices=list(DEFAULTS), default=list(DEFAULTS))
    parser.add_argument("--shape", choices=SHAPES, default="normal")
    parser.add_argument("--draws", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    title = f"{options.neurons:,} noise neurons ({options.shape}), {options.images:,} images"
    show(title, HEAD, measure(options))


if __name__ == "__main__":
    main()
