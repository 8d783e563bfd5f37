"""The functions that notebooks and scripts call: they run as their docstrings show, and report what they did."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import dissectdb
from dissectdb import Study, Warehouse, WarehouseError, pipeline, progress, warehouse_file
from dissectdb.warehouse_file import WarehouseFile
from tests.support.worlds import World


def example(text: str) -> str:
    """The lines of Python at the start of a module's docstring, after its first sentence."""
    lines = text.partition("\n\n")[2].splitlines()
    for end in range(len(lines), 0, -1):
        try:
            ast.parse("\n".join(lines[:end]))
        except SyntaxError:
            continue
        return "\n".join(lines[:end])
    raise AssertionError("there is no example")


def run_example(text: str, **names: object) -> None:
    exec(compile(example(text), "example", "exec"), names)


def test_the_example_for_notebooks_runs(
    new_world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "pipeline.extract(study" in example(pipeline.__doc__)
    monkeypatch.chdir(new_world.folder)
    run_example(pipeline.__doc__)
    printed = capsys.readouterr()
    assert "concept" in printed.out
    assert printed.err == "", "nothing is printed unless say and watch are given"
    assert "conv1" in Path("report.html").read_text(encoding="utf-8")
    run_example(warehouse_file.__doc__, WarehouseFile=WarehouseFile, Path=Path)


def test_progress_goes_to_the_functions_that_are_given(new_world: World) -> None:
    lines: list[str] = []
    watched: list[tuple[str, str]] = []

    def watch(what: str, unit: str = "images") -> object:
        watched.append((what, unit))
        return progress.unwatched(what, unit)

    study = Study.load(new_world.study)
    steps = pipeline.plan_extraction(study, new_world.warehouse)
    assert {step.step for step in steps} >= {"scan the images", "activations conv1 train"}
    assert not new_world.warehouse.exists()
    done = pipeline.extract(study, new_world.warehouse, say=lines.append, watch=watch)
    assert done.computed
    assert lines[0].startswith("images become, for net: ")
    assert watched[0] == ("loading the network and CLIP", "")
    stages = [("embedding looks", "concepts"), ("extracting net", "images"), ("labelling and building", "views")]
    assert [stage for stage in watched if stage in stages] == stages
    assert pipeline.plan_extraction(study, new_world.warehouse) == []
    again = pipeline.extract(study, str(new_world.warehouse))
    assert (again.computed, again.dissection_id) == (False, done.dissection_id)


def test_contracts_are_checked_and_a_broken_one_is_refused(world: World) -> None:
    assert [contract.name for contract, rows in pipeline.check(world.warehouse) if len(rows)] == []
    pipeline.refuse_broken_contracts(world.warehouse)
    with Warehouse(world.warehouse) as opened:
        opened.connection.execute("update predictions set confidence = 0.99 where image_id <= 9")
    broken = {contract.name: len(rows) for contract, rows in pipeline.check(world.warehouse) if len(rows)}
    assert broken["confidence_is_the_highest_probability"] > 0
    with pytest.raises(WarehouseError, match=r"breaks .*confidence_is_the_highest_probability \(\d+ rows\); to see"):
        pipeline.refuse_broken_contracts(world.warehouse)


def test_the_public_names_are_all_there_and_no_other_is_made_up() -> None:
    for name in dissectdb.__all__:
        assert getattr(dissectdb, name) is not None
        assert name in dir(dissectdb)
    assert dissectdb.pipeline is pipeline
    with pytest.raises(AttributeError, match="'dissectdb' has no attribute 'extrct'"):
        _ = dissectdb.extrct
