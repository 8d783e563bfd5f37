"""Is the label the right word? Every scorer on worlds whose truth is known, by four measures of truth.

python -m bench.truth                                # five minutes of one core
python -m bench.truth --small                        # ten seconds
python -m bench.truth --scorers pearson --worlds VGG

A label is right by a measure (bench/truth_measures.py) if no other concept has a higher measure. The share of the
attainable is the sum of the labels' measures over the sum of the highest ones. The measures often disagree on the best
concept, so no scorer reaches 100 % by all four. How far one can get is shown by oracles, which know the truth: each
takes the best concept by one measure, and "oracle, all" by the sum of the four (each in units of its mean of the best
concepts). The random label is the mean over all concepts.

A scorer labels each layer with its own defaults, as a dissection does. A neuron that varies counts; if it takes no
label by a scorer, it counts as not right, and with 0.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench import made
from bench.planted import FREQUENCIES, Plan
from bench.truth_measures import MEASURES, Ratio, measures, ratio
from bench.truth_worlds import KnownWorld, Probe, worlds
from dissectdb.extract.scoring.problem import Settings
from dissectdb.extract.scoring.scorers import score_layer
from dissectdb.extract.study.scorers import SCORERS

RANDOM, ORACLES, ORACLE_OF_ALL = "random", tuple(f"oracle, {name}" for name in MEASURES), "oracle, all"
HEAD = tuple(f"{name}: {what}" for name in MEASURES for what in ("right", "share"))
RARE, FREQUENT = 0.12, 0.20  # shares of the drawn faces that show a concept
KINDS = (*(f"{100 * each:g} %" for each in FREQUENCIES), "two concepts")
GROUPS = ("rare", "middling", "frequent")


Answers = dict[tuple[str, str], np.ndarray]
# What a scorer reached, by question and object: arrays (neuron,), in a Result (seed, neuron); NaN: does not count.
#   right, got, best   of a measure: whether the label has the highest one, what it has, and the highest
#   kind               of a kind of neuron: whether the label is one of its planted concepts; for drawn faces, whether
#                      it is the concept that "oracle, all" takes
#   given              of a group of concepts: whether the label is one of them


@dataclass(frozen=True)
class Result:
    """A world, how many images and concepts it has, and the answers of every scorer."""

    world: KnownWorld
    images: int
    concepts: int
    answers: dict[str, Answers]

    @property
    def use(self) -> str:
        """Which kind of world, and what for."""
        kind = "drawn" if ("given", GROUPS[0]) in self.answers[ORACLE_OF_ALL] else "planted"
        return f"{kind}, {'used to choose' if self.world.chosen else 'only reported'}"

    @property
    def title(self) -> str:
        """What was looked at."""
        counted = ~np.isnan(self.answers[RANDOM]["best", MEASURES[0]])
        seeds = "one seed" if len(counted) == 1 else f"{len(counted)} seeds"
        neurons = f"{counted.sum():,} neurons of {seeds}"
        return f"{self.world.name}: {self.images:,} images, {self.concepts:,} concepts, {neurons} ({self.use})"


# ---------------------------------------------------------------- labels


def label(scorer: str, probe: Probe) -> np.ndarray:
    """The label of each neuron of all layers, by the scorer's defaults; -1: it takes none."""
    settings, world = Settings.defaults(scorer), probe.world
    layers = (made.Layer(activations, settings) for activations in probe.layers)
    scores = [score_layer(settings, layer, world.images, world.concepts, keep=1) for layer in layers]
    return np.concatenate([of_layer.concepts[:, 0] for of_layer in scores])


def oracle_labels(values: np.ndarray) -> dict[str, np.ndarray]:
    """The labels of each oracle, by the measures (measure, neuron, concept)."""
    best = values.max(axis=2)
    total = (values / best.mean(axis=1)[:, None, None]).sum(axis=0)
    named = {name: of_measure.argmax(axis=1) for name, of_measure in zip(ORACLES, values, strict=True)}
    return named | {ORACLE_OF_ALL: total.argmax(axis=1)}


def answer(labels: np.ndarray, values: np.ndarray, probe: Probe) -> Answers:
    """What labels (neuron,) reach in one probe, by the measures (measure, neuron, concept)."""
    known, best = labels >= 0, values.max(axis=2)
    got = np.where(known, values[:, np.arange(len(labels)), labels], 0.0)
    answers = of_measures(known & (got == best), got, best)
    if probe.planned is not None:
        hit = (labels[:, None] == probe.planned.truth).any(axis=1)
        for name, kind in planted_kinds(probe.planned).items():
            answers["kind", name] = np.where(kind, hit, np.nan)
        return answers
    true = oracle_labels(values)[ORACLE_OF_ALL]
    for name, group in concept_groups(probe.world.shown).items():
        answers["kind", name] = np.where(group[true], labels == true, np.nan)
        answers["given", name] = (known & group[labels]).astype(float)
    return answers


def answer_at_random(values: np.ndarray) -> Answers:
    """What a random label reaches in the mean over all concepts."""
    best = values.max(axis=2)
    return of_measures((values == best[:, :, None]).mean(axis=2), values.mean(axis=2), best)


def of_measures(*of_questions: np.ndarray) -> Answers:
    """right, got and best (measure, neuron), by question and measure."""
    return {
        (question, measure): values.astype(float)
        for question, of_question in zip(("right", "got", "best"), of_questions, strict=True)
        for measure, values in zip(MEASURES, of_question, strict=True)
    }


def planted_kinds(planned: Plan) -> dict[str, np.ndarray]:
    """Which neurons (neuron,) have one concept of each frequency, and which have two concepts."""
    kinds = [planned.frequency == kind for kind in range(len(FREQUENCIES))]
    return dict(zip(KINDS, [*kinds, planned.mixed], strict=True))


def concept_groups(shown: np.ndarray) -> dict[str, np.ndarray]:
    """Which concepts (concept,) few, some and many of the images show."""
    shares = shown.mean(axis=0)
    groups = (shares < RARE, (shares >= RARE) & (shares <= FREQUENT), shares > FREQUENT)
    return dict(zip(GROUPS, groups, strict=True))


# ---------------------------------------------------------------- worlds


def judge(world: KnownWorld, scorers: Sequence[str]) -> Result:
    """Every scorer, the random label and the oracles in one world."""
    of_seeds: list[dict[str, Answers]] = []
    for probe in world.probes():
        activations, shown = np.concatenate(probe.layers, axis=1), probe.world.shown
        values = measures(activations, shown)
        labels = {scorer: label(scorer, probe) for scorer in scorers} | oracle_labels(values)
        of_seed = {RANDOM: answer_at_random(values)}
        of_seed |= {name: answer(of_name, values, probe) for name, of_name in labels.items()}
        for answers in of_seed.values():
            for values_of in answers.values():
                values_of[activations.min(axis=0) == activations.max(axis=0)] = np.nan
        of_seeds.append(of_seed)
    stacked = {
        name: {key: np.stack([of_seed[name][key] for of_seed in of_seeds]) for key in of_seeds[0][name]}
        for name in (*scorers, RANDOM, *ORACLES, ORACLE_OF_ALL)
    }
    images, concepts = shown.shape
    return Result(world, images, concepts, stacked)


# ---------------------------------------------------------------- tables


def numbers(answers: Answers) -> list[Ratio]:
    """For each measure, the share of right labels and the share of the attainable."""
    found = []
    for measure in MEASURES:
        right, got, best = (answers[question, measure] for question in ("right", "got", "best"))
        found += [ratio(right, ~np.isnan(right)), ratio(got, best)]
    return found


def summary(results: Sequence[Result]) -> Iterator[list[str]]:
    """For each kind of world, the mean of each number over the worlds; at the end the least share of a world."""
    for use in dict.fromkeys(result.use for result in results):
        of_use = [result for result in results if result.use == use]
        for name in of_use[0].answers:
            values = np.array([[each.value for each in numbers(result.answers[name])] for result in of_use])
            shown = (*values.mean(axis=0), values[:, 1::2].min())
            yield [f"{use} ({len(of_use)})", name, *(f"{100 * value:.1f}" for value in shown)]


def detailed(result: Result) -> Iterator[list[str]]:
    """The rows of one world: each number, half its interval, and the largest difference between seeds."""
    for name, answers in result.answers.items():
        if name not in ORACLES:
            found, seeds = numbers(answers), len(answers["best", MEASURES[0]])
            spreads = [f" / {100 * each.spread:.1f}" if seeds > 1 else "" for each in found]
            texts = [f"{100 * each.value:.1f} ± {100 * each.half:.1f}" for each in found]
            yield [name, *map(str.__add__, texts, spreads)]


def missed_drawn(results: Sequence[Result]) -> Iterator[list[str]]:
    """For each scorer, over all worlds of drawn faces: right labels, and labels given, by the frequency of concepts."""
    keys = [(question, group) for question in ("kind", "given") for group in GROUPS]
    of_faces = [result.answers for result in results if result.use.startswith("drawn")]
    for name in of_faces[0] if of_faces else ():
        if name != RANDOM:
            yield [name, *(pooled([answers[name][key] for answers in of_faces]) for key in keys)]


def missed_planted(results: Sequence[Result]) -> Iterator[list[str]]:
    """For each planted world and scorer, how many labels of each kind of neuron are right."""
    for result in results:
        for name, answers in result.answers.items():
            if result.use.startswith("planted") and name in SCORERS:
                yield [result.world.name, name, *(pooled([answers["kind", kind]]) for kind in KINDS)]


def pooled(truths: Sequence[np.ndarray]) -> str:
    """The share of true answers over several worlds (seed, neuron) in percent, with half its interval."""
    true = np.concatenate([np.nansum(each, axis=0) for each in truths])[None]
    asked = np.concatenate([(~np.isnan(each)).sum(axis=0) for each in truths])[None]
    found = ratio(true, asked)
    return "–" if np.isnan(found.value) else f"{100 * found.value:.0f} ± {100 * found.half:.0f}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.truth", description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="fewer and smaller worlds")
    parser.add_argument("--scorers", nargs="+", choices=list(SCORERS), default=list(SCORERS))
    parser.add_argument("--worlds", default="", help="only worlds whose name contains this text")
    options = parser.parse_args()
    asked = [world for world in worlds(options.small) if options.worlds in world.name]
    if not asked:
        parser.error(f"no world has {options.worlds!r} in its name")
    results = []
    for world in asked:
        results.append(judge(world, options.scorers))
        made.show(results[-1].title, ("scorer", *HEAD), detailed(results[-1]))
    made.show("Means over worlds", ("worlds", "scorer", *HEAD, "least share"), summary(results))
    groups = (f"{what}: {group}" for what in ("right", "labels") for group in GROUPS)
    for title, head, rows in (
        ("Drawn faces: concepts that few, some and many show", ("scorer", *groups), missed_drawn(results)),
        ("Planted: the label is a concept of the neuron", ("world", "scorer", *KINDS), missed_planted(results)),
    ):
        if shown := list(rows):
            made.show(title, head, shown)


if __name__ == "__main__":
    main()
