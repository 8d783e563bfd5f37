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
from dissectdb.extract.models import batches, classes, clip, devices, hooks, networks
from dissectdb.extract.models.control_networks import control_network
from dissectdb.extract.models.logits import find_answer
from dissectdb.extract.record import catalog
from dissectdb.extract.record.blocks import MissingBlock, ModelIds, Models, compute, replicas
from dissectdb.extract.record.catalog import ProbingSet
from dissectdb.extract.record.plan import Plan
from dissectdb.extract.study import NetworkStudy, StudyError
from dissectdb.extract.warehouse_protocol import TableRows

log = logging.getLogger("dissectdb")


@dataclass(frozen=True, kw_only=True)
class NetworkPlan(Plan):
    """The plan of a study of a network, with its models loaded and the fingerprints of its parts."""

    study: NetworkStudy
    network: networks.Network
    clip: clip.Clip

    @cached_property
    def replicas(self) -> list[Models]:
        """The models and copies of them, one for each batch that is computed at a time."""
        return replicas(Models(self.network, self.clip), self.device)

    def block_tables(
        self, missing: Sequence[MissingBlock], ids: ModelIds, count: Callable[[int], None]
    ) -> Iterator[Iterable[TableRows]]:
        """For each block the rows of its targets. A block is computed when it is taken. Each image is decoded once."""
        positions = [image.position for block, *_ in missing for image in block.images]
        sizes = [len(block.images) for block, *_ in missing]
        pixels = batches.prefetched(batches.in_batches(self.source.read(positions), sizes, self.device))
        for block, targets, _ in missing:
            yield compute(block, pixels, targets, self.replicas, ids, self.device, count)

    def preprocessing(self) -> str:
        """A sentence on how images are prepared for the network and for CLIP."""
        of_network, of_clip = self.network.recipe.described(), self.clip.recipe.described()
        return f"images become, for {self.network.name}: {of_network}; for {self.clip.name}: {of_clip}"


def make_plan(study: NetworkStudy) -> NetworkPlan:
    """Open the images, load the models, read the concepts; writes nothing. Raises StudyError."""
    device = devices.prepare(study)
    source = open_source(study.dataset)
    sets = [
        (settings, classes.as_in_dataset(concepts.load(settings.source).classes_of, source.classes))
        for settings in study.concept_sets
    ]
    network = load_network(study, source)
    classes.warn(network.classes, source.classes)
    taps = place(network, study, device)
    loaded_clip = clip.load(study.clip, device)
    dataset = study.dataset
    return NetworkPlan(
        study=study,
        source=source,
        probing_set=ProbingSet(
            name=dataset.name,
            origin=str(dataset.path) if dataset.path else dataset.kind,
            probing_split=dataset.probing_split,
            fingerprint=source.fingerprint(),
        ),
        network=network,
        taps=taps,
        clip=loaded_clip,
        concept_sets=[catalog.plan_concepts(settings, classes_of) for settings, classes_of in sets],
        device=device,
    )


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
        yield replace(plan, network=control, taps=place(control, plan.study, plan.device))


def load_network(study: NetworkStudy, source: Source) -> networks.Network:
    """The study's network, with outputs named by classes.name_outputs. Raises StudyError."""
    network = networks.load(study.network)
    class_names = study.network.classes
    answer, outputs = find_answer(
        network.model, network.recipe, study.network.output, len(class_names or source.classes)
    )
    if answer.single and class_names and len(class_names) != outputs:
        raise StudyError(
            f"network.classes names {len(class_names)} classes; "
            "the network's one output per image stands for two: name both"
        )
    names = classes.name_outputs(study.network, outputs, source.classes)
    if names != network.classes:
        settings = study.network.model_copy(update={"classes": names})
        described = networks.describe(network.model, settings, network.recipe, network.weights, code=network.code)
        network = replace(described, files=network.files)
    if answer.single:
        low, high = network.classes
        log.info(f"network: its one output per image is taken for two classes: {low} below 0, {high} above")
    return networks.with_answer(network, answer)
