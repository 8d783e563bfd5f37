"""A study written for an earlier version is still one: no key and no value of a choice is gone.

If one must go, take it out of the lists here and let the message about it say what replaced it (_line in
extract/study/mistakes.py).
"""

from __future__ import annotations

from typing import Any

import pytest

from dissectdb.extract.study.scorers import SCORERS
from dissectdb.extract.study.study_file import Study

KEYS = {  # of 0.2.0, the first release, by table
    "Study": (
        "warehouse device deterministic map_images dataset network clip arrays concept_sets dissections edits "
        "sweeps protocol effects controls judge"
    ),
    "Arrays": "path name classes grid pooling input",
    "Clip": "architecture weights config precision channels",
    "ConceptSet": "name source templates",
    "Controls": "networks seed",
    "Dataset": (
        "name kind path root labels image_column label_column arguments classes layout probing_split "
        "validation_share bits images seed sources"
    ),
    "Dissection": (
        "concepts scorer engine top_k min_images softmax_scale prior_weight p_first p_last rank_fraction "
        "rank_power rank_scale include_dead kept_concepts null_draws bootstraps seed rule tau q_limit "
        "accuracy_images images_neurons"
    ),
    "Edit": "name rule layer layers tau factor factor_down bias concepts sql",
    "Effects": "layers split images neurons controls seed",
    "Input": "size mode channels resize interpolation rounding mean std",
    "Judge": "split clip",
    "Layer": "name kind pooling units layout call",
    "Network": (
        "name architecture arguments weights weights_key weights_left_out seed classes output input pooling "
        "precision layers"
    ),
    "Protocol": "controls shuffles bootstraps seed",
    "Sweep": "name rules layers taus factors factors_down bias",
}
CHOICES = {
    "Study.device": "auto cpu cuda mps",
    "Arrays.pooling": "avg max",
    "Clip.precision": "auto float32 float16 bfloat16",
    "Controls.networks": "shuffled initialised",
    "Dataset.kind": "fer2013 folder demo python manifest parquet webdataset sources",
    "Dataset.layout": "auto channels_first channels_last",
    "Dataset.probing_split": "train validation test all",
    "Dissection.engine": "auto sql kernel",
    "Dissection.rule": "tau q",
    "Edit.rule": "paper calibrated weight_l1 proportional ablate sql",
    "Effects.split": "train validation",
    "Input.mode": "grey rgb bands",
    "Input.interpolation": "bilinear bicubic",
    "Judge.split": "validation",
    "Layer.kind": "conv linear attention block",
    "Layer.pooling": "avg max cls",
    "Layer.units": "channels heads",
    "Layer.layout": "auto channels_last",
    "Network.pooling": "avg max cls",
    "Network.precision": "float32 tf32",
    "Sweep.rules": "paper calibrated weight_l1 proportional",
}


def tables() -> dict[str, Any]:
    schema = Study.model_json_schema()
    return {"Study": schema, **schema["$defs"]}


def allowed(schema: Any) -> set[str]:
    """The values that a schema names, wherever in it."""
    if isinstance(schema, list):
        return set().union(*map(allowed, schema)) if schema else set()
    if not isinstance(schema, dict):
        return set()
    named = {str(value) for value in [*schema.get("enum", []), *([schema["const"]] if "const" in schema else [])]}
    return named.union(*(allowed(schema[key]) for key in ("anyOf", "allOf", "oneOf", "items") if key in schema))


@pytest.mark.parametrize("table", KEYS)
def test_the_keys_of_0_2_0_are_still_keys(table: str) -> None:
    assert set(KEYS[table].split()) - tables()[table]["properties"].keys() == set()


@pytest.mark.parametrize("key", CHOICES)
def test_the_values_of_0_2_0_are_still_allowed(key: str) -> None:
    table, _, name = key.partition(".")
    assert set(CHOICES[key].split()) - allowed(tables()[table]["properties"][name]) == set()


def test_the_scorers_of_0_2_0_are_still_there() -> None:
    assert {"soft_wpmi", "wpmi", "cos", "cos_cubed", "rank_reorder", "pearson", "presence"} <= SCORERS.keys()
