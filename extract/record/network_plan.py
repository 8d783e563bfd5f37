"""The plan of a study with a network: loads its images, network and CLIP, and runs them block by block."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from dissectdb.extract import concepts
from dissectdb.extract.images.scan import Source
from dissectdb.extract.images.sources import open_source
from dissectdb.extract.models import batches, classes, clip, devices, given_model, hooks, layer_patterns, networks
from dissectdb.extract.models.clip import Clip, ClipIdentity
from dissectdb.extract.models.control_networks import control_network
from dissectdb.extract.models.logits import find_answer
from dissectdb.extract.models.preprocessing import Part, Recipe
from dissectdb.extract.record import catalog
from dissectdb.extract.record.blocks import MissingBlock, ModelIds, Models, compute, replicas
from dissectdb.extract.record.catalog import ProbingSet
from dissectdb.extract.record.plan import Plan
from dissectdb.extract.study import NetworkStudy, StudyError
from dissectdb.extract.warehouse_protocol import TableRows
from dissectdb.given import NOTHING, OBJECT, Given

log = logging.getLogger("dissectdb")


@dataclass(frozen=True, kw_only=True)
class NetworkPlan(Plan):
    """The plan of a study of a network, with its models loaded and the fingerprints of its parts.

    clip: loaded, unless make_plan was given a known one, with which no block can be computed.
    """

    study: NetworkStudy
    network: networks.Network
    clip: ClipIdentity

    @cached_property
    def replicas(self) -> list[Models]:
        """The models and copies of them, one for each batch that is computed at a time."""
        return replicas(Models(self.network, self.loaded_clip), self.device)

    @property
    def loaded_clip(self) -> Clip:
        """CLIP, to be run."""
        assert isinstance(self.clip, Clip), "the plan was made for a CLIP that need not run"
        return self.clip

    def block_tables(
        self, missing: Sequence[MissingBlock], ids: ModelIds, count: Callable[[int], None]
    ) -> Iterator[Iterable[TableRows]]:
        """For each block the rows of its targets. A block is computed when it is taken. Each image is decoded once."""
        positions = [image.position for block, *_ in missing for image in block.images]
        sizes = [len(block.images) for block, *_ in missing]
        pixels = batches.prefetched(batches.in_batches(self.source.read(positions), sizes, self.device))
        best = self.best_maps(missing, ids)
        for block, targets, _ in missing:
            yield compute(block, pixels, targets, self.replicas, ids, self.device, count, best)

    def seen_part(self, width: int, height: int) -> Part:
        return self.network.recipe.seen_part(width, height)

    def preprocessing(self) -> str:
        """A sentence on how images are prepared for the network and for CLIP."""
        of_network, of_clip = self.network.recipe.described(), self.loaded_clip.recipe.described()
        return f"images become, for {self.network.name}: {of_network}; for {self.clip.name}: {of_clip}"


def make_plan(study: NetworkStudy, given: Given = NOTHING, known: ClipIdentity | None = None) -> NetworkPlan:
    """Open the images, load the models, read the concepts; writes nothing. Raises StudyError.

    known: the study's CLIP, for a plan that runs the network only. Default: it is loaded, and must take the images.
    """
    device = devices.prepare(study)
    source = open_source(study.dataset, given.images)
    sets = [
        catalog.plan_concepts(settings, concepts.load(settings.source), source.classes)
        for settings in study.concept_sets
    ]
    network = load_network(study, source, given.model)
    classes.warn(network.classes, source.classes, study.dataset.kind)
    study = with_layers(study, network)
    taps = place(network, study, device)
    refuse_channels(source, network.recipe, "network.input", "or take all of them with mode = 'bands'")
    if known is None:
        known = loaded = clip.load(study.clip, device)
        refuse_channels(source, loaded.recipe, "clip", "the ones that CLIP is to see as red, green and blue")
    source.shown = study.clip.channels
    return NetworkPlan(
        study=study,
        source=source,
        probing_set=ProbingSet.of(study.dataset, source.fingerprint()),
        network=network,
        taps=taps,
        clip=known,
        concept_sets=sets,
        device=device,
    )


def refuse_channels(source: Source, recipe: Recipe, key: str, hint: str) -> None:
    """Raises StudyError if a recipe does not take an image's channels. key: where the study may say which it takes."""
    if wrong := sorted(count for count in source.channels if not recipe.takes(count)):
        raise StudyError(
            f"{key}: {source.name} has images of {wrong[0]} channels, and {recipe.described()} does not take them; "
            f"name channels from 0 to {wrong[0] - 1}, as {key}.channels = [0, 1, 2], {hint}"
        )


def with_layers(study: NetworkStudy, network: networks.Network) -> NetworkStudy:
    """The study with the layers that its patterns stand for. Raises StudyError if an edit names another layer."""
    layers = layer_patterns.resolve(network.model, study.network.layers, network.recipe.shape)
    if layers == study.network.layers:
        return study
    settings = study.network.model_copy(update={"layers": layers})
    try:
        study.refuse_unknown_layers(settings)
    except ValueError as error:
        raise StudyError(str(error)) from None
    return study.model_copy(update={"network": settings})


def place(network: networks.Network, study: NetworkStudy, device: torch.device) -> list[hooks.Tap]:
    """Move a network to the device; returns the taps of the study's layers. Raises StudyError."""
    taps = hooks.find_taps(network.model, study.network.layers, network.recipe.shape)
    network.model.to(device)
    probe = torch.zeros(2, *network.recipe.shape, device=device)
    networks.prefer_channels_last(network.model, lambda: network.model(probe))
    return taps


def control_plans(plan: NetworkPlan) -> Iterator[NetworkPlan]:
    """The same plan for each control network that the study asks for. Raises StudyError."""
    if (asked := plan.study.controls) is None:
        return
    for kind in asked.networks:
        control = control_network(plan.network, plan.study.network, kind, asked.seed)
        yield replace(plan, network=control, taps=place(control, plan.study, plan.device), with_maps=False)


def load_network(study: NetworkStudy, source: Source, given: object = None) -> networks.Network:
    """The study's network, or a given model, with outputs named by classes.name_outputs. Raises StudyError."""
    if given is None and study.network.architecture.startswith(OBJECT):
        raise StudyError(
            f"network.architecture: {study.network.architecture} is an object of Python; pass it: "
            "given=Given(model=…), or name a function in a file"
        )
    network = networks.load(study.network) if given is None else given_model.load(given, study.network)
    class_names = study.network.classes
    answer, outputs = find_answer(
        network.model, network.recipe, study.network.output, len(class_names or source.classes)
    )
    if answer.single and class_names and len(class_names) != outputs:
        raise StudyError(
            f"network.classes names {len(class_names)} classes; "
            "the network's one output per image stands for two: name both"
        )
    if class_names and not outputs:
        raise StudyError(
            f"network.classes names {len(class_names)} classes, but {study.network.name} has no classifier; name the "
            "part with the logits in network.output, or take network.classes out"
        )
    names = classes.name_outputs(study.network, outputs, source.classes, network.labels) if outputs else ()
    if names != network.classes:
        settings = study.network.model_copy(update={"classes": names})
        described = networks.describe(network.model, settings, network.recipe, network.weights, code=network.code)
        network = replace(described, files=network.files, imports=network.imports)
    if answer.single:
        low, high = network.classes
        log.info(f"network: its one output per image is taken for two classes: {low} below 0, {high} above")
    return networks.with_answer(network, answer)
