"""How many labels with q ≤ 0.05 ("believed") are false, and how many planted concepts are found?

python -m bench.planted
python -m bench.planted --boost 2 --lean 0.03 --scorers soft_wpmi

There are 100 concepts, each shown by 0.3, 1, 3 or 10 % of 10,000 images. The embedding of an image is moved towards
the concepts that it shows.
A planted neuron is Gaussian noise plus `boost` standard deviations on the images that show its concept. A mixed neuron
has two concepts, and either label is right. Noise neurons have no concept; dead neurons are constant.
False labels are counted in two ways: believed labels of noise neurons, and all believed labels that are wrong.
Required: at most 5 % of the believed labels are false, and of the neurons whose concept 3 % of the images show, at
least 70 % are found with the right label. Whether labels are right, believed or not: bench/truth.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bench.made import Q_LIMIT, Judged, World, embeddings, judge, percent, show
from dissectdb.extract.scoring.problem import Settings
from dissectdb.extract.study.scorers import SCORERS

FREQUENCIES = (0.003, 0.01, 0.03, 0.1)
SHOWN = [f"{100 * frequency:g} %" for frequency in FREQUENCIES]
HEAD = ("scorer", *(f"found at {each}" for each in SHOWN), "believed", "noise believed", "FDR: noise", "FDR: all",
        "verdict", "seconds")  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What each of K neurons is.

    truth (K, 2): its concepts, -1: none. frequency (K,): position in FREQUENCIES, -1: not planted. mixed, dead:
    (K,) bool.
    """

    truth: np.ndarray
    frequency: np.ndarray
    mixed: np.ndarray
    dead: np.ndarray


def shares(concepts: int) -> np.ndarray:
    """The share of images that shows each concept: the frequencies in turn."""
    return np.resize(FREQUENCIES, concepts)


def plan(concepts: int, each: int, noise: int, seed: int) -> Plan:
    """`each` planted neurons per frequency, `each` mixed ones, `noise` noise neurons, and one dead per 100 of those."""
    random = np.random.default_rng((seed, 3))
    kinds = len(FREQUENCIES)
    dead = max(1, noise // 100)
    count = each * (kinds + 1) + noise + dead
    truth, frequency = np.full((count, 2), -1), np.full(count, -1)
    for kind in range(kinds):
        of_kind = slice(kind * each, (kind + 1) * each)
        truth[of_kind] = random.choice(np.arange(kind, concepts, kinds), each)[:, None]
        frequency[of_kind] = kind
    mixed, is_dead = np.zeros(count, bool), np.zeros(count, bool)
    mixed[kinds * each : (kinds + 1) * each] = True
    truth[mixed] = np.stack([random.choice(concepts, 2, replace=False) for _ in range(each)])
    is_dead[-dead:] = True
    return Plan(truth, frequency, mixed, is_dead)


def activate(asked: Plan, world: World, boost: float, seed: int) -> np.ndarray:
    """Activations (image, neuron): noise, and a boost where an image shows a concept of the neuron."""
    random = np.random.default_rng((seed, 4))
    values = random.standard_normal((len(world.images), len(asked.truth)), dtype=np.float32)
    for neuron, concepts in enumerate(asked.truth):
        if concepts[0] >= 0:
            values[:, neuron] += boost * world.shown[:, concepts].any(axis=1)
    values[:, asked.dead] = 0.5
    return values


def false_shares(asked: Plan, judged: Judged) -> tuple[float, float]:
    """The shares of believed labels that belong to noise, and that belong to noise or are wrong."""
    believed = judged.q <= Q_LIMIT
    noise = asked.truth[:, 0] < 0
    wrong = ~is_right(asked, judged)
    count = max(believed.sum(), 1)
    return (believed & noise).sum() / count, (believed & wrong).sum() / count


def is_right(asked: Plan, judged: Judged) -> np.ndarray:
    """(K,) whether the label of each neuron is a concept that was planted in it."""
    return (judged.label[:, None] == asked.truth).any(axis=1) & (asked.truth[:, 0] >= 0)


def row(scorer: str, asked: Plan, judged: Judged) -> list[object]:
    """The row of one scorer."""
    right, believed = is_right(asked, judged), judged.q <= Q_LIMIT
    kinds = [asked.frequency == kind for kind in range(len(FREQUENCIES))]
    noise = (asked.truth[:, 0] < 0) & ~asked.dead
    of_noise, of_all = false_shares(asked, judged)
    found_shares = [(right & believed)[kind].mean() for kind in kinds]
    met = of_all <= Q_LIMIT and found_shares[FREQUENCIES.index(0.03)] >= 0.7
    claims = [scorer, *map(percent, found_shares), int(believed.sum()), percent(believed[noise].mean())]
    return [*claims, percent(of_noise), percent(of_all), "met" if met else "not met", judged.seconds]


def measure(options: argparse.Namespace) -> Iterator[list[object]]:
    """One row per scorer."""
    per_concept = shares(options.concepts)
    world = embeddings(options.images, options.concepts, options.seed, shares=per_concept, lean=options.lean)
    asked = plan(options.concepts, options.each, options.noise, options.seed)
    activations = activate(asked, world, options.boost, options.seed)
    for scorer in options.scorers:
        judged = judge(Settings.defaults(scorer), activations, world, options.draws, options.seed)
        yield row(scorer, asked, judged)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.planted", description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--concepts", type=int, default=100)
    parser.add_argument("--each", type=int, default=200, help="planted neurons per frequency")
    parser.add_argument("--noise", type=int, default=1000, help="noise neurons")
    parser.add_argument("--boost", type=float, default=3.0, help="standard deviations")
    parser.add_argument("--lean", type=float, default=0.05, help="cosine with a concept that an image shows")
    parser.add_argument("--scorers", nargs="+", choices=list(SCORERS), default=list(SCORERS))
    parser.add_argument("--draws", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    made = f"boost {options.boost:g}, lean {options.lean:g}, {options.images:,} images, {options.concepts} concepts"
    show(f"Believed at q ≤ 0.05: found with the right label, and false labels ({made})", HEAD, measure(options))


if __name__ == "__main__":
    main()
