"""How often do p and q accept a label of a neuron that is pure noise?

python -m bench.noise
python -m bench.noise --neurons 1024 --concepts 25 --scorers soft_wpmi cos
python -m bench.noise --shape sparse --concepts 25   # neurons that fire on 10 to 500 images, in one layer
python -m bench.noise --shape few --concepts 25      # neurons that fire on 3 to 40 images of one concept
python -m bench.noise --shape class --concepts 25    # neurons that know the classes of the images and nothing else
python -m bench.noise --shape class --warehouse demo.duckdb   # those of a warehouse, shuffled; and as they are
python -m bench.noise --groups 100 --neurons 500 --concepts 12 100   # images are frames of 100 films

4,096 neurons of independent Gaussian noise over 5,000 images. Required: 4 to 6 % of them have p ≤ 0.05, and at most 1 %
have q ≤ 0.05. The paper's rule, τ = 0, would call every neuron with score > 0 interpretable.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.made import P_LIMIT, Q_LIMIT, World, embeddings, judge, percent, show, unit
from dissectdb.extract.judging.bootstrap import benjamini_hochberg
from dissectdb.extract.scoring.evidence import read_evidence
from dissectdb.extract.scoring.problem import Settings
from dissectdb.extract.scoring.stored_layers import read_layers
from dissectdb.extract.study.scorers import SCORERS
from dissectdb.warehouse import Warehouse

SHAPES = ("normal", "skewed", "sparse", "few", "class")  # skewed: exp of normal, so that a few activations are strong
FIRED = (10, 13, 20, 50, 100, 256, 500)  # images that a sparse neuron fires on, with random values or with one value
FEW = (3, 5, 7, 10, 14, 20, 40)  # images that a neuron fires on; all of them show its concept
HEAD = ("scorer", "concepts", "p ≤ 0.05", "q ≤ 0.05", "score > 0", "null draws", "seconds", "verdict")

ALIKE = (0.99, 0.5, 0.0)  # share of the variance that the frames of a film have in common: copies, like, or unlike
GROUPS_HEAD = (
    "scorer", "concepts", "noise: p ≤ 0.05 if images count", "if groups count", "q ≤ 0.05",
    "planted: p ≤ 0.05 if images count", "if groups count", "q ≤ 0.05",
)  # fmt: skip
CLASS_HEAD = ("scorer", "shuffled", "p ≤ 0.05", "q ≤ 0.05", "p within ≤ 0.05", "q within ≤ 0.05", "robust", "seconds")


def noise(images: int, neurons: int, shape: str, seed: int) -> np.ndarray:
    """Activations (image, neuron) that do not depend on the images."""
    values = np.random.default_rng((seed, 2)).standard_normal((images, neurons), dtype=np.float32)
    return np.exp(values) if shape == "skewed" else values


def sparse_noise(images: int, each: int, seed: int) -> tuple[np.ndarray, list[tuple[str, slice]]]:
    """A layer of `each` neurons of every kind: firing on few images, on few images with one value, and on all."""
    random = np.random.default_rng((seed, 3))
    kinds = [(count, binary) for binary in (False, True) for count in FIRED if count < images]
    values = np.zeros((images, each * (len(kinds) + 1)), np.float32)
    names = []
    for place, (count, binary) in enumerate(kinds):
        for k in range(place * each, (place + 1) * each):
            chosen = random.choice(images, count, replace=False)
            values[chosen, k] = 1 if binary else np.exp(random.standard_normal(count))
        names.append((f"{count} images{', one value' if binary else ''}", slice(place * each, (place + 1) * each)))
    values[:, len(kinds) * each :] = random.standard_normal((images, each))
    return values, [*names, ("all images", slice(len(kinds) * each, None))]


def measure_sparse(options: argparse.Namespace) -> Iterator[tuple[object, ...]]:
    """One row per kind of neurons, with the share of p ≤ 0.05 by each scorer; a dash if they get no label."""
    activations, kinds = sparse_noise(options.images, options.neurons, options.seed)
    world = embeddings(options.images, options.concepts[0], options.seed)
    shares = []
    for scorer in options.scorers:
        settings = replace(Settings.defaults(scorer), min_images=10)
        judged = judge(settings, activations, world, options.draws, options.seed)
        shares.append([(judged.p[kind], judged.label[kind] >= 0) for _, kind in kinds])
    for place, (name, _) in enumerate(kinds):
        of_kind = [by_kind[place] for by_kind in shares]
        yield name, *(percent((p[live] <= P_LIMIT).mean()) if live.any() else "–" for p, live in of_kind)


def measure_few(options: argparse.Namespace) -> Iterator[tuple[object, ...]]:
    """One row per number of images: by each scorer, the share of right labels, and of right labels with q ≤ 0.05."""
    concepts, random = options.concepts[0], np.random.default_rng((options.seed, 4))
    world = embeddings(options.images, concepts, options.seed, shares=[0.03] * concepts, lean=0.05)
    planted = random.integers(concepts, size=options.neurons * len(FEW))
    values = np.zeros((options.images, 2 * len(planted)), np.float32)  # the second half fires on random images
    for k, concept in enumerate([*planted, *[None] * len(planted)]):
        candidates = options.images if concept is None else np.flatnonzero(world.shown[:, concept])
        count = FEW[k // options.neurons % len(FEW)]
        values[random.choice(candidates, count, replace=False), k] = np.exp(random.standard_normal(count))
    shares = []
    for scorer in options.scorers:
        judged = judge(replace(Settings.defaults(scorer), min_images=1), values, world, options.draws, options.seed)
        right = judged.label[: len(planted)] == planted
        shares.append((right, right & (judged.q[: len(planted)] <= Q_LIMIT)))
    for place, count in enumerate(FEW):
        kind = slice(place * options.neurons, (place + 1) * options.neurons)
        yield (count, *(percent(share[kind].mean()) for of_scorer in shares for share in of_scorer))


def shuffled(activations: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Each neuron's activations (image, neuron) in a random order of its own, within each group of images."""
    random, values = np.random.default_rng((seed, 5)), activations.copy()
    for group in np.unique(groups):
        values[groups == group] = random.permuted(activations[groups == group], axis=0)
    return values


def classed_world(options: argparse.Namespace) -> tuple[World, np.ndarray, dict[str, np.ndarray]]:
    """A made world of 7 classes of uneven sizes, the classes of its images (N,), and a layer of neurons (N, K).

    A third of the neurons know the class well, a third hardly, and a third not at all.
    """
    random = np.random.default_rng((options.seed, 6))
    world = embeddings(options.images, options.concepts[0], options.seed)
    classes = random.choice(7, options.images, p=np.arange(1, 8) / 28)
    leans = random.standard_normal((7, world.images.shape[1])).astype(np.float32)
    world = World(unit(world.images + 0.01 * leans[classes]), world.concepts, world.shown)
    means = random.standard_normal((7, options.neurons)) * np.resize([2.0, 0.3, 0.0], options.neurons)
    values = random.standard_normal((options.images, options.neurons)) + means[classes]
    return world, classes, {"made": values.astype(np.float32)}


def stored_world(path: Path) -> tuple[World, np.ndarray, dict[str, np.ndarray]]:
    """The embeddings of the newest dissection of a warehouse, its images' classes, and its layers by name."""
    with Warehouse(path, read_only=True) as warehouse:
        row = warehouse.rows("select * from dissections order by dissection_id desc limit 1").to_dicts()[0]
        evidence, layers = read_evidence(warehouse, row), read_layers(warehouse, row)
        names = dict(warehouse.rows("select layer_id, layer from named_layers").rows())
        activations = {names[layer.layer_id]: layer.block(0, layer.neurons)[:, ~layer.dead] for layer in layers}
    if evidence.classes is None:
        raise SystemExit(f"{path}: the images have no classes")
    world = World(evidence.images.numpy(), evidence.concepts.numpy(), np.zeros((0, 0), bool))
    return world, evidence.classes, activations


def measure_classes(options: argparse.Namespace) -> Iterator[tuple[object, ...]]:
    """One row per scorer and way of shuffling: shares of all neurons, with q within each layer."""
    world, classes, layers = stored_world(options.warehouse) if options.warehouse else classed_world(options)
    groups = {"among all images": np.zeros(len(classes)), "within classes": classes, "not at all": None}
    for scorer in options.scorers:
        for how, group in groups.items():
            judged = []
            for values in layers.values():
                moved = values if group is None else shuffled(values, group, options.seed)
                judged.append(judge(Settings.defaults(scorer), moved, world, options.draws, options.seed, classes))
            p, q, within, robust = (
                np.concatenate([getattr(each, name) for each in judged]) for name in ("p", "q", "p_within", "robust")
            )
            q_within = np.concatenate([benjamini_hochberg(each.p_within) for each in judged])
            shares = (p <= P_LIMIT, q <= Q_LIMIT, within <= P_LIMIT, q_within <= Q_LIMIT, robust)
            yield scorer, how, *(percent(share.mean()) for share in shares), sum(each.seconds for each in judged)


def films(count: int, concepts: int, alike: float, seed: int) -> tuple[World, np.ndarray]:
    """Frames of `count` films of 5 to 30, or of one for every fourth, and the film of each (N,). alike: as in ALIKE."""
    random = np.random.default_rng((seed, 7))
    groups = np.repeat(np.arange(count), np.where(np.arange(count) % 4, random.integers(5, 31, count), 1))
    both = embeddings(count + len(groups), concepts, seed, dimensions=64)
    images = alike**0.5 * both.images[:count][groups] + (1 - alike) ** 0.5 * both.images[count:]
    return World(unit(images), both.concepts, np.zeros((0, 0), bool)), groups


def film_noise(groups: np.ndarray, neurons: int, alike: float, seed: int) -> np.ndarray:
    """Neurons (N, K) that respond to films and to frames at random."""
    random = np.random.default_rng((seed, 8))
    of_films, of_frames = (random.standard_normal((n, neurons)) for n in (groups.max() + 1, len(groups)))
    return (alike**0.5 * of_films[groups] + (1 - alike) ** 0.5 * of_frames).astype(np.float32)


def measure_groups(options: argparse.Namespace) -> Iterator[tuple[object, ...]]:
    """One row per scorer and number of concepts: shares of noise and of planted neurons, each for every ALIKE."""
    for concepts in options.concepts:
        of_neuron = np.arange(options.neurons) % concepts
        for scorer in options.scorers:
            shares = []
            for alike in ALIKE:
                world, groups = films(options.groups, concepts, alike, options.seed)
                values = film_noise(groups, options.neurons, alike, options.seed)
                seen = (world.images @ world.concepts.T)[:, of_neuron]
                planted = (seen - seen.mean(axis=0)) / seen.std(axis=0) + values
                small = []
                for activations in (values, planted.astype(np.float32)):
                    images, of_groups = (
                        judge(Settings.defaults(scorer), activations, world, options.draws, options.seed, groups=known)
                        for known in (None, groups)
                    )
                    small += [images.p <= P_LIMIT, of_groups.p <= P_LIMIT, of_groups.q <= Q_LIMIT]
                shares.append([f"{100 * share.mean():.1f}" for share in small])
            yield scorer, concepts, *(f"{', '.join(column)} %" for column in zip(*shares, strict=True))


def measure(options: argparse.Namespace) -> Iterator[tuple[object, ...]]:
    """One row per scorer and number of concepts."""
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
    parser.add_argument("--scorers", nargs="+", choices=list(SCORERS), default=list(SCORERS))
    parser.add_argument("--shape", choices=SHAPES, default="normal")
    parser.add_argument("--groups", type=int, help="how many films the images are frames of, in place of --images")
    parser.add_argument("--warehouse", type=Path, help="for --shape class: the neurons of a warehouse")
    parser.add_argument("--draws", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    title = f"{options.neurons:,} noise neurons ({options.shape}), {options.images:,} images"
    if options.groups:
        title = f"{options.neurons:,} noise neurons and as many planted ones, frames of {options.groups:,} films;"
        title += f" the frames of a film are {', '.join(f'{100 * alike:.0f}' for alike in ALIKE)} % alike"
        show(title, GROUPS_HEAD, measure_groups(options))
    elif options.shape == "sparse":
        title = f"{options.neurons:,} noise neurons of each kind, {options.images:,} images, share with p ≤ 0.05"
        show(title, ("fires on", *options.scorers), measure_sparse(options))
    elif options.shape == "few":
        title = (
            f"{options.neurons:,} neurons of each kind, which fire on images of one concept, and as many on random ones"
        )
        head = [f"{scorer}, {what}" for scorer in options.scorers for what in ("right", "right with q ≤ 0.05")]
        show(title, ("fires on", *head), measure_few(options))
    elif options.shape == "class":
        images = f"of {options.warehouse.name}" if options.warehouse else f"{options.images:,} images"
        show(f"Neurons whose activations were shuffled ({images})", CLASS_HEAD, measure_classes(options))
    else:
        show(title, HEAD, measure(options))


if __name__ == "__main__":
    main()
