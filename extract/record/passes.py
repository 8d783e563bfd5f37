"""The extraction: one pass over the images feeds the network and CLIP, block by block.

plan = make_plan(study)                    # loads the models, writes nothing
print(plan.steps(warehouse))               # what is stale, with images, rows and bytes
entered = enter(plan, warehouse)           # images, networks, concepts and their embeddings
warehouse.load(run(plan, warehouse, entered))   # the missing blocks, each one a unit: its rows and its ledger entries

Something is stale when no finished extraction has its fingerprint: the content of images, weights,
preprocessing, layer and pooling, and the version of this code. Stopped and started again, a run goes on with the
first missing block; started again after its end, it finds nothing to do.
"""

from __future__ import annotations

import json
import logging
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import open_clip
import torch

from dissectdb.extract import concepts, fingerprints
from dissectdb.extract.images import sources
from dissectdb.extract.models import batches, classes, clip, devices, hooks, networks
from dissectdb.extract.models.answers import find_answer
from dissectdb.extract.record import catalog, dissections
from dissectdb.extract.record.blocks import Block, Clips, Networks, ProbingImage, compute, in_streams
from dissectdb.extract.record.concept_notes import note_new_concepts
from dissectdb.extract.record.ledger import blocks_done, sound_images, split_ids, with_ledger
from dissectdb.extract.scoring.robustness import LIKELIHOODS
from dissectdb.extract.store import Store
from dissectdb.extract.study import ConceptSet, Study, StudyError

log = logging.getLogger("dissectdb")

BLOCK = 4096  # images a transaction
EXTRACTION_VERSION = 1  # goes up when the same inputs come to mean other rows

T = TypeVar("T")


@dataclass(frozen=True)
class Target:
    """Something computed over one split. thing: fingerprint of the layer, network or CLIP; wide: numbers an image."""

    kind: str
    name: str
    split: str
    thing: str
    wide: int

    def fingerprint(self, dataset: str) -> str:
        """Of everything that its rows depend on; its name is not part of it."""
        return fingerprints.of_values(EXTRACTION_VERSION, self.kind, self.thing, dataset, self.split)


@dataclass(frozen=True)
class Step:
    """One line of what an extraction would do."""

    step: str
    images: int
    rows: int
    megabytes: float


@dataclass(frozen=True)
class Plan:
    """A study with its models loaded and everything in it fingerprinted."""

    study: Study
    source: sources.Source
    dataset: str
    network: networks.Network
    taps: list[hooks.Tap]
    clip: clip.Clip
    concept_sets: list[tuple[ConceptSet, dict[str, tuple[str, ...]], str]]
    device: torch.device
    # Of so many shards this one: the blocks whose number leaves that remainder.
    shard: tuple[int, int] = field(default=(0, 1), kw_only=True)
    keep_activations: bool = field(default=True, kw_only=True)  # or only what they come to

    def targets(self) -> list[Target]:
        """Everything that the study wants computed, over the split that it is wanted for."""
        probing = self.study.dataset.probing_split
        outputs = len(self.network.classes)
        splits = [probing, *(split for split in catalog.SPLITS if split != probing and probing != sources.ALL)]
        return [
            *(
                Target("activations", tap.name, probing, catalog.layer_fingerprint(self.network, tap), tap.units)
                for tap in self.taps
            ),
            Target("image_embeddings", self.clip.name, probing, self.clip.fingerprint, 1),
            *(Target("predictions", self.network.name, split, self.network.fingerprint, outputs) for split in splits),
        ]

    def steps(self, warehouse: Store) -> list[Step]:
        """What is not done yet; empty when nothing is stale."""
        known = warehouse.find("datasets", self.dataset)
        if known is None:
            found = Counter((image.split, image.class_name) for image in self.source.scan() if image.defect is None)
            classes.warn_of_splits(found)
            counts = Counter({split: 0 for split, _ in found})
            for (split, _), images_of_class in found.items():
                counts[split] += images_of_class
            steps = [Step("scan the images", counts.total(), counts.total(), counts.total() * 2e-3)]
        else:
            counts, steps = catalog.sound_counts(warehouse, known), []
        refuse_too_few(self, counts)
        log.info(labelling(self, counts))
        note_new_concepts(self, warehouse)
        steps += filter(None, (self._step(warehouse, target, counts[target.split]) for target in self.targets()))
        for settings, classes_of, fingerprint in self.concept_sets:
            set_id = warehouse.find("concept_sets", fingerprint)
            clip_id = warehouse.find("clips", self.clip.fingerprint)
            missing = len(classes_of)
            if set_id is not None and clip_id is not None:
                missing = len(catalog.concepts_without_embedding(warehouse, clip_id, set_id))
            if missing:
                steps.append(Step(f"embed concepts {settings.name}", 0, missing, 0.0))
        for settings, fingerprint in self.dissections():
            dissection_id = warehouse.find("dissections", fingerprint)
            if dissection_id is None:
                steps.append(Step(f"dissect by {settings.scorer} with {settings.concepts}", 0, 1, 0.0))
            elif names := self._unlabelled(warehouse, dissection_id):
                layers = ", ".join([*names[:3], *(["…"] if len(names) > 3 else [])])
                what = f"label {layers} by {settings.scorer} with {settings.concepts}"
                steps.append(Step(what, 0, len(names), 0.0))
        return steps

    def _unlabelled(self, warehouse: Store, dissection_id: int) -> list[str]:
        """Layers that a dissection has no labels of: the study's, and those that another study has recorded for it."""
        query = "select layer_id from labelled_layers where dissection_id = $id"
        done = set(warehouse.rows(query, {"id": dissection_id})["layer_id"])
        taps = {tap.name: catalog.layer_fingerprint(self.network, tap) for tap in self.taps}
        ids = {name: warehouse.find("layers", fingerprint) for name, fingerprint in taps.items()}
        rows = warehouse.rows(
            """
            select named_layers.layer_id, layer from unlabelled_layers
            inner join named_layers on unlabelled_layers.layer_id = named_layers.layer_id
            where dissection_id = $id order by position, layer
            """,
            {"id": dissection_id},
        )
        unlabelled = dict(rows.iter_rows())
        others = [layer for layer_id, layer in unlabelled.items() if layer_id not in ids.values()]
        return [name for name, layer_id in ids.items() if layer_id not in done or layer_id in unlabelled] + others

    def is_done(self, warehouse: Store) -> bool:
        """Whether nothing is stale; without looking at images that the warehouse does not know."""
        return warehouse.find("datasets", self.dataset) is not None and not self.steps(warehouse)

    def dissection_id(self, warehouse: Store) -> int | None:
        """The id of the study's last dissection, the one that its reports and edits are about."""
        return warehouse.find("dissections", self.dissections()[-1][1])

    def _step(self, warehouse: Store, target: Target, count: int) -> Step | None:
        done = len(blocks_done(warehouse, target.fingerprint(self.dataset))) * BLOCK
        if (left := max(count - done, 0)) == 0:
            return None
        # 4.4 bytes a value is what an activation takes in the file, ids and all; a prediction has its class beside it.
        rows = left * (target.wide if target.kind == "activations" else 1)
        size = rows * {"activations": 4.4, "image_embeddings": 2048, "predictions": 16 + 4 * target.wide}[target.kind]
        return Step(f"{target.kind.replace('_', ' ')} {target.name} {target.split}", left, rows, size / 1e6)

    def dissections(self) -> list[tuple[Any, str]]:
        """Each of the study's dissections with its fingerprint."""
        sets = {settings.name: fingerprint for settings, _, fingerprint in self.concept_sets}
        split = self.study.dataset.probing_split
        return [
            (
                settings,
                dissections.fingerprint(
                    settings,
                    self.network.fingerprint,
                    self.dataset,
                    split,
                    self.clip.fingerprint,
                    sets[settings.concepts],
                ),
            )
            for settings in self.study.dissections
        ]

    def sized_dissections(self, counts: Counter[str]) -> list[tuple[Any, str, dissections.Size]]:
        """Each dissection with its fingerprint and its size, for so many sound images in each split."""
        concepts_in = {settings.name: len(classes_of) for settings, classes_of, _ in self.concept_sets}
        images, neurons = counts[self.study.dataset.probing_split], sum(tap.units for tap in self.taps)
        return [
            (settings, fingerprint, dissections.Size(images, neurons, concepts_in[settings.concepts]))
            for settings, fingerprint in self.dissections()
        ]


def make_plan(study: Study) -> Plan:
    """Open the images, load the models, read the concepts; writes nothing. Raises StudyError."""
    device = devices.prepare(study)
    source = sources.open_source(study.dataset)
    sets = [
        (settings, classes.as_in_dataset(concepts.load(settings.source).classes_of, source.classes))
        for settings in study.concept_sets
    ]
    network = load_network(study, source)
    classes.warn(network.classes, source.classes)
    taps = hooks.find_taps(network.model, study.network.layers, network.recipe.shape)
    network.model.to(device)
    probe = torch.zeros(2, *network.recipe.shape, device=device)
    networks.prefer_channels_last(network.model, lambda: network.model(probe))
    loaded_clip = clip.load(study.clip, device)
    return Plan(
        study=study,
        source=source,
        dataset=source.fingerprint(),
        network=network,
        taps=taps,
        clip=loaded_clip,
        concept_sets=[(s, read, catalog.concept_set_fingerprint(s, read)) for s, read in sets],
        device=device,
    )


def load_network(study: Study, source: sources.Source) -> networks.Network:
    """The study's network, its outputs named as the dataset spells its classes (classes.name_outputs)."""
    network = networks.load(study.network)
    known = study.network.classes
    answer, outputs = find_answer(network.model, network.recipe, study.network.output, len(known or source.classes))
    if answer.single and known and len(known) != outputs:
        raise StudyError(
            f"network.classes names {len(known)} classes; the network's one output an image stands for two: name both"
        )
    names = classes.name_outputs(study.network, outputs, source.classes)
    if names != network.classes:
        settings = study.network.model_copy(update={"classes": names})
        network = networks.describe(network.model, settings, network.recipe, network.weights, code=network.code)
    if answer.single:
        low, high = network.classes
        log.info(f"network: its one output an image is taken for two classes: {low} below 0, {high} above")
    return networks.with_answer(network, answer)


def run(
    plan: Plan,
    warehouse: Store,
    entered: Entered,
    progress: Callable[[int, int], None] = lambda done, total: None,
    fill: Callable[..., Iterator[Any]] | None = None,
) -> Iterator[Any]:
    """Yield the missing blocks of what was entered, and the new dissections, as units.

    progress: called with the images done and those to do, counted once however much is computed of each.
    fill: where the blocks come from, if not from run_targets.
    """
    yield from (fill or run_targets)(warehouse, plan, entered.dataset_id, plan.targets(), entered.users, progress)
    # A unit of its own, after the last block: a dissection is there only when all that it reads is.
    if new := new_dissections(plan, warehouse, entered):
        yield new


@dataclass(frozen=True)
class Entered:
    """The ids of what a study names. set_ids: concept set → its id."""

    dataset_id: int
    users: tuple[Networks, Clips]
    set_ids: dict[str, int]


def unwatched(what: str, unit: str) -> AbstractContextManager[Callable[[int, int | None], None]]:
    """What nobody looks at the progress of."""
    return nullcontext(lambda done, total: None)


def enter(plan: Plan, warehouse: Store, watch: Callable[..., Any] = unwatched) -> Entered:
    """Enter what of a study is new: images, network, layers, CLIP, concepts and their embeddings.

    watch: watch("embedding", unit="concepts") is a context whose value is called with what is done, and all there is.
    """
    accept = partial(refuse_too_few, plan)
    is_new = warehouse.find("datasets", plan.dataset) is None
    with watch("looking at the images", unit="images") as progress:
        dataset_id = catalog.enter_dataset(warehouse, plan.study.dataset, plan.source, plan.dataset, accept, progress)
    counts = catalog.sound_counts(warehouse, dataset_id)
    accept(counts)
    if is_new:  # of images that are known already, Plan.steps has said it
        log.info(labelling(plan, counts))
        note_new_concepts(plan, warehouse)
    classes.warn_of_splits(classes.counts_by_split(warehouse, dataset_id))
    network_id = catalog.enter_network(warehouse, plan.network)
    layers = catalog.enter_layers(warehouse, plan.network, network_id, plan.taps)
    clip_id = catalog.enter_clip(warehouse, plan.clip)
    set_ids = {}
    for settings, classes_of, fingerprint in plan.concept_sets:
        set_id = set_ids[settings.name] = catalog.enter_concept_set(warehouse, settings, classes_of, fingerprint)
        with watch(f"embedding {settings.name}", unit="concepts") as progress:
            catalog.embed_concept_set(warehouse, plan.clip, clip_id, set_id, settings.templates, progress)
    return Entered(dataset_id, (Networks(plan.network, network_id, layers), Clips(plan.clip, clip_id)), set_ids)


def new_dissections(plan: Plan, warehouse: Store, entered: Entered) -> dict[str, Any]:
    """A unit with the study's dissections that are not there yet; empty if all are."""
    return dissections.rows(
        warehouse,
        plan.sized_dissections(catalog.sound_counts(warehouse, entered.dataset_id)),
        entered.set_ids,
        network_id=entered.users[0].network_id,
        split_id=split_ids(warehouse, entered.dataset_id)[plan.study.dataset.probing_split],
        clip_id=entered.users[1].clip_id,
    )


def preprocessing(plan: Plan) -> str:
    """What becomes of an image before the network and CLIP see it, in one line."""
    network, by_clip = plan.network.recipe.described(), plan.clip.recipe.described()
    return f"images become, for {plan.network.name}: {network}; for {plan.clip.name}: {by_clip}"


def labelling(plan: Plan, counts: Counter[str]) -> str:
    """Which images label the neurons, and which do not, in a sentence."""
    probing = plan.study.dataset.probing_split
    others = [f"{counts[split]:,} of {split}" for split in catalog.SPLITS if split != probing and counts[split]]
    rest = f"; {' and '.join(others)} do not" if others else ""
    return f"{counts[probing]:,} images of {probing} label the neurons{rest}"


def refuse_too_few(plan: Plan, counts: Counter[str]) -> None:
    """Too few images for a scorer are an error before anything is computed."""
    split = plan.study.dataset.probing_split
    for settings in plan.study.dissections:
        if not plan.keep_activations and settings.scorer not in LIKELIHOODS:
            raise StudyError(
                f"{settings.scorer} reads every activation, which --activations none does not keep; use "
                f"{' or '.join(LIKELIHOODS)}, or keep them"
            )
        if counts[split] < settings.top_k:
            raise StudyError(
                f"the probing split {split} has {counts[split]} sound images, fewer than top_k = {settings.top_k}; "
                "add images, choose another dataset.probing_split or lower top_k"
            )
        half = counts[split] // 2  # the label must be found in each half of the images too
        if settings.scorer == "rank_reorder" and settings.rank_fraction * half < 2:
            raise StudyError(
                f"rank_reorder orders rank_fraction = {settings.rank_fraction} of {half} images, a half of the probing "
                f"split {split}, which is fewer than two; add images or raise rank_fraction"
            )


Missing = tuple[dict[Target, int], list[tuple[Block, list[Target]]]]


def missing_blocks(
    warehouse: Store, plan: Plan, dataset_id: int, targets: Sequence[Target], users: tuple[Networks, Clips]
) -> list[Missing]:
    """For each split: the extraction_id of every target, and the blocks that are not done with what they lack."""
    ids = split_ids(warehouse, dataset_id)
    passes = []
    for split in dict.fromkeys(target.split for target in targets):
        if not (sound := sound_images(warehouse, ids[split])):
            continue  # a dataset need not have all three splits
        wanted = [target for target in targets if target.split == split]
        extractions = {t: enter_extraction(warehouse, plan, t, ids[split], users) for t in wanted}
        done = {target: blocks_done(warehouse, target.fingerprint(plan.dataset)) for target in wanted}
        place, shards = plan.shard
        mine = [block for block in in_blocks(sound, ids[split]) if block.number % shards == place]
        missing = [(block, [t for t in wanted if block.number not in done[t]]) for block in mine]
        passes.append((extractions, [(block, stale) for block, stale in missing if stale]))
    return passes


def run_targets(
    warehouse: Store,
    plan: Plan,
    dataset_id: int,
    targets: Sequence[Target],
    users: tuple[Networks, Clips],
    progress: Callable[[int, int], None],
) -> Iterator[Any]:
    """Yield the missing blocks of the targets, split by split; each image is decoded once for all of them."""
    passes = missing_blocks(warehouse, plan, dataset_id, targets, users)
    total = sum(len(block.images) for _, missing in passes for block, _ in missing)
    finished = 0
    streams_of = in_streams(users, plan.device) if total else [users]
    for extractions, missing in passes:
        positions = [image.position for block, _ in missing for image in block.images]
        pixels = batches.ahead(
            batches.in_batches(plan.source.read(positions), [len(block.images) for block, _ in missing], plan.device)
        )
        for block, stale in missing:
            started = time.perf_counter()

            def count(images: int, before: int = finished) -> None:
                progress(before + images, total)

            tables = compute(block, pixels, stale, streams_of, plan.device, count)
            finished += len(block.images)
            seconds = time.perf_counter() - started
            yield with_ledger(plan, tables, block, [extractions[target] for target in stale], seconds)


def in_blocks(images: Sequence[ProbingImage], split_id: int) -> list[Block]:
    """The sound images of a split, a transaction at a time."""
    starts = range(0, len(images), BLOCK)
    return [Block(number, images[start : start + BLOCK], split_id) for number, start in enumerate(starts)]


def enter_extraction(warehouse: Store, plan: Plan, target: Target, split_id: int, users: tuple[Networks, Clips]) -> int:
    """The row that a target's ledger entries belong to."""
    fingerprint = target.fingerprint(plan.dataset)
    if (known := warehouse.find("extractions", fingerprint)) is not None:
        return known
    by_network, by_clip = users
    row = {
        "extraction_id": warehouse.next_id("extractions"),
        "target": target.kind,
        "split_id": split_id,
        "network_id": by_network.network_id if target.kind != "image_embeddings" else None,
        "layer_id": by_network.layer(target.name).layer_id if target.kind == "activations" else None,
        "clip_id": by_clip.clip_id if target.kind == "image_embeddings" else None,
        "device": plan.device.type,
        "precision": (plan.clip if target.kind == "image_embeddings" else plan.network).precision,
        "versions": json.dumps(
            {
                "extraction": EXTRACTION_VERSION,
                "torch": torch.__version__,
                "open_clip": open_clip.__version__,
                "python": platform.python_version(),
                "device": torch.cuda.get_device_name(plan.device) if plan.device.type == "cuda" else platform.machine(),
                "threads": torch.get_num_threads(),
                "deterministic": plan.study.deterministic,
            }
        ),
        "started_at": catalog.now(),
        "fingerprint": fingerprint,
    }
    warehouse.write({"extractions": [row]})
    return row["extraction_id"]
