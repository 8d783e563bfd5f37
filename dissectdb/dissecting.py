"""Dissect a network and images that are objects of Python, without a study file. dissectdb.dissect is this function."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dissectdb import pipeline
from dissectdb.clip_names import clip_keys
from dissectdb.first_study import fitting_top_k, told_of_few
from dissectdb.given import Given, architecture_of
from dissectdb.opened import OpenWarehouse
from dissectdb.warehouse_file import AnyWarehouse, WarehouseFile, as_file

if TYPE_CHECKING:
    from dissectdb import Study

log = logging.getLogger("dissectdb")

LEFT_OUT = """
    select
        count(*) as images,
        count(defect) as left_out,
        count(*) filter (where defect like 'unreadable%') as unreadable
    from images inner join splits on images.split_id = splits.split_id
    where splits.dataset_id = (
        select dataset_id from dissections inner join splits on dissections.split_id = splits.split_id
        where dissection_id = $dissection
    )
"""
SET = "concepts"  # the name of the concept set

log = logging.getLogger("dissectdb")


def dissect(
    model: object,
    images: object,
    *,
    concepts: Sequence[str] | str | os.PathLike[str],
    layers: Sequence[str | Mapping[str, Any]] | str,
    clip: str | Mapping[str, Any],
    warehouse: AnyWarehouse,
    input: object = None,
    classes: Sequence[str] = (),
    pooling: str = "avg",
    templates: Sequence[str] = ("{}",),
    split: str = "all",
    name: str | None = None,
    dataset: str | Mapping[str, Any] | None = None,
    output: str | int | None = None,
    device: str = "auto",
    quiet: bool = False,
    **dissection: Any,
) -> OpenWarehouse:
    """Label the neurons of a network; returns the warehouse with the labels, open to read.

    model: a torch module, which stays as it is. images: a folder; a map-style Dataset of images or (image, label); or a
    list of files, arrays, PIL images or tensors. concepts: words, a file of them, or the name of a set that ships.
    layers: names of modules, patterns such as "layer?.*", or "all". clip: "ARCHITECTURE/TAG" of open_clip, the keys of
    [clip] of a study, or "dissectdb-face-rn", a small one for faces that ships.

    input: the keys of [network.input], such as {"size": 224}, or the transforms of torchvision's weights; a timm model
    knows its own. classes: names of the network's outputs. split: all, or train, if the network is to be edited: the
    images that label the neurons. name: of the network. dataset: the name of the images, or keys of [dataset]. output:
    where the logits are in what the network returns; "none" if it has no classifier. quiet: without it, each stage is a
    line on stderr, with its progress, as in the commands. Other keywords are keys of
    [[dissections]], such as scorer, top_k or q_limit. docs/study.md explains them all. Without top_k, top_images
    lists a fifth of the images of a small set, but at least 10, and the log says so.

    Nothing is computed twice: weights, code, settings and images are hashed, and a run that was stopped goes on.
    Raises StudyError, WarehouseError.

    >>> w = dissectdb.dissect(model, images, concepts=["smile", "frown", "tears"], layers=["lin2"],
    ...                       clip="dissectdb-face-rn", warehouse="new.duckdb", input={"size": 40, "mode": "grey"},
    ...                       top_k=20, null_draws=1000, bootstraps=0)
    >>> w.neuron_concepts(unit=0).columns[1:4]
    ['layer', 'unit', 'concept']
    """
    file = as_file(warehouse)
    file.check_path(read_only=False)
    in_folder = isinstance(images, str | os.PathLike)
    study = _study(
        warehouse=file.path,
        device=device,
        dataset=_dataset(images, split) | ({"name": dataset} if isinstance(dataset, str) else dict(dataset or {})),
        network=_network(model, name, input, layers, classes, pooling, output),
        clip=clip_keys(clip),
        concept_sets=[
            {"name": SET, "source": os.fspath(concepts) if isinstance(concepts, os.PathLike) else concepts,
             "templates": list(templates)}
        ],
        dissections=[{"concepts": SET, **dissection}],
    )  # fmt: skip
    given = Given(model=model, images=None if in_folder else images)
    if "top_k" not in dissection:
        study = _with_fitting_top_k(study, given)
    if quiet or sys.stderr is None:  # as in a program without a console
        done = pipeline.extract(study, file, given=given)
    else:
        from dissectdb.commands import stages

        done = pipeline.extract(study, file, given=given, say=stages.say, watch=stages.Stage)
    pipeline.refuse_broken_contracts(file)
    _tell_left_out(file, done.dissection_id)
    return OpenWarehouse(file, done.dissection_id, study=study, given=given)


def _tell_left_out(file: WarehouseFile, dissection_id: int) -> None:
    """Log how many images were left out; a warning if files are unreadable."""
    with file.to_read() as opened:
        [(images, left_out, unreadable)] = opened.rows(LEFT_OUT, {"dissection": dissection_id}).rows()
    if left_out:
        log.log(
            logging.WARNING if unreadable else logging.INFO,
            "%s of %s images are left out, of which %s cannot be read; named_images.defect has the reasons",
            f"{left_out:,}", f"{images:,}", f"{unreadable:,}",
        )  # fmt: skip


def _study(**values: Any) -> Study:
    from dissectdb.extract.study import Study

    return Study(**values)


def _with_fitting_top_k(study: Study, given: Given) -> Study:
    """The study with fewer top images if its set is small, as dissectdb init writes one; a line of the log says so."""
    from dissectdb.extract.images.first_look import SCANNED, counted
    from dissectdb.extract.images.sources import open_source

    assert study.dataset is not None, "dissect writes studies with images"
    if isinstance(given.images, Sized) and len(given.images) > SCANNED:
        return study  # opening it would read every image, once more than extract does
    counts, _ = counted(open_source(study.dataset, given.images))
    [dissection] = study.dissections
    images = counts[study.dataset.probing_split]
    if not images or (top_k := fitting_top_k(images, dissection.top_k)) is None:
        return study
    few = told_of_few(top_k, dissection.top_k, dissection.scorer)
    log.warning(f"{few} ({images} sound images); top_k={top_k} says the same")
    return study.changed(dissections=[dissection.model_dump(exclude_unset=True) | {"top_k": top_k}])


def _dataset(images: object, split: str) -> dict[str, Any]:
    """The keys of [dataset]."""
    if isinstance(images, str | os.PathLike):
        path = os.fspath(images)
        return {"name": Path(path).absolute().name, "kind": "folder", "path": path, "probing_split": split}
    name = "images" if isinstance(images, list | tuple) else type(images).__name__
    return {"name": name, "kind": "python", "probing_split": split}


def _network(
    model: object,
    name: str | None,
    input: object,
    layers: Sequence[str | Mapping[str, Any]] | str,
    classes: Sequence[str],
    pooling: str,
    output: str | int | None,
) -> dict[str, Any]:
    """The keys of [network]."""
    from dissectdb.extract.models import given_input

    keys: dict[str, Any] = {"name": name or type(model).__name__, "architecture": architecture_of(model)}
    keys |= {"input": given_input.of(model, input), "pooling": pooling}
    if layers == "all":
        keys["layers"] = layers
    else:
        keys["layers"] = [dict(layer) if isinstance(layer, Mapping) else layer for layer in _listed(layers)]
    keys |= {"classes": list(classes)} if len(classes) else {}
    return keys if output is None else keys | {"output": output}


def _listed(layers: Sequence[str | Mapping[str, Any]] | str) -> Sequence[str | Mapping[str, Any]]:
    return [layers] if isinstance(layers, str) else layers
