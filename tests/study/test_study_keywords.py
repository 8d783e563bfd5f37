"""Studies that are built from keywords: the same checks as for a file, and a file that says the same."""

from __future__ import annotations

import datetime
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dissectdb import ROOT, Study, StudyError
from dissectdb.extract.study import ArraysStudy, NetworkStudy


def keywords(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "dataset": {"name": "faces", "kind": "folder", "path": "faces"},
        "network": {"name": "net", "architecture": "vggnet", "layers": ["conv1a", "lin1"], "input": {"size": 40}},
        "clip": {"architecture": "ViT-B-16", "weights": "openai"},
        "concept_sets": [{"name": "emotions", "source": ["glad", "sad"]}],
        "dissections": [{"concepts": "emotions"}],
    }
    return values | changes


def mistake(**changes: Any) -> str:
    with pytest.raises(StudyError) as caught:
        Study(**keywords(**changes))
    return str(caught.value)


def test_keywords_make_the_kind_of_study_that_they_describe(tmp_path: Path) -> None:
    assert isinstance(Study(**keywords()), NetworkStudy)
    arrays = {"path": "features.safetensors", "name": "net"}
    of_arrays = Study(
        arrays=arrays, concept_sets=[{"name": "w", "source": ["a", "b"]}], dissections=[{"concepts": "w"}]
    )
    assert isinstance(of_arrays, ArraysStudy)
    of_arrays.write(tmp_path / "arrays.toml")
    assert Study.load(tmp_path / "arrays.toml") == of_arrays


def test_mistakes_are_one_line_each_and_name_the_key() -> None:
    assert mistake(clp={}).startswith("the study: clp is not a setting; did you mean clip? allowed: ")
    dataset = {"name": "faces", "kind": "foldr", "path": "faces"}
    assert "the study: dataset.kind: 'foldr' is not allowed; did you mean folder?" in mistake(dataset=dataset)
    assert (
        mistake(network=None) == "the study: network missing; a study has dataset, network and clip, or arrays instead"
    )
    assert "there is no concept set 'emotion'; did you mean emotions?" in mistake(dissections=[{"concepts": "emotion"}])
    words = {"name": "emotions", "source": ["glad", 3]}
    assert (
        mistake(concept_sets=[words])
        == "the study: concept_sets[0].source: each word must be text that is not empty, not 3"
    )
    with pytest.raises(StudyError, match="dissections is missing"):
        Study(concept_sets=[{"name": "w", "source": ["a", "b"]}])


def test_relative_paths_start_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = Study(**keywords())
    assert study.dataset is not None
    assert study.dataset.path == tmp_path / "faces"
    (tmp_path / "elsewhere").mkdir()
    study.write("elsewhere/study.toml")
    assert Study.load("elsewhere/study.toml") == study


def test_a_study_that_a_file_elsewhere_would_say_differently_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Study(**keywords()).write("study.toml")
    text = Path("study.toml").read_text().replace(f"{tmp_path}/", "")
    Path("study.toml").write_text(text)
    study = Study.load("study.toml")  # its paths are relative
    study.write("again.toml")
    assert Study.load("again.toml") == study
    Path("folder").mkdir()
    with pytest.raises(StudyError, match=r"folder/study.toml: dataset would be read differently"):
        study.write("folder/study.toml")
    assert list(Path("folder").iterdir()) == []


def test_values_that_toml_cannot_hold_are_refused() -> None:
    network = keywords()["network"]
    study = Study(**keywords(network=network | {"arguments": {"act": len, "start": datetime.date(2026, 1, 2)}}))
    with pytest.raises(StudyError, match=r"network.arguments.act: TOML cannot hold <built-in function len>"):
        study.to_toml()


def test_changed_replaces_whole_tables_and_checks_them() -> None:
    study = Study(**keywords())
    edited = study.changed(edits=[{"name": "paper", "layer": "lin1"}])
    assert [edit.name for edit in edited.edits] == ["paper"]
    assert edited.changed(edits=()) == study
    with pytest.raises(StudyError, match=r"there is no layer 'lin2'; did you mean lin1\?"):
        study.changed(edits=[{"name": "paper", "layer": "lin2"}])


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.toml")), ids=lambda path: path.name)
def test_the_studies_that_ship_come_out_equal(path: Path, tmp_path: Path) -> None:
    study = Study.load(path.absolute())
    study.write(tmp_path / "study.toml")
    assert Study.load(tmp_path / "study.toml") == study


names = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=12).filter(lambda text: text.strip())
shares = st.floats(0.01, 0.9)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=names,
    words=st.lists(names, min_size=2, max_size=4),
    layers=st.lists(
        st.one_of(names, st.fixed_dictionaries({"name": names, "pooling": st.sampled_from(["avg", "max", "cls"])})),
        min_size=1, max_size=3, unique_by=str,
    ),
    arguments=st.dictionaries(names, st.recursive(st.integers() | st.booleans() | names, st.lists, max_leaves=4)),
    share=shares,
    top_k=st.integers(1, 256),
    scorer=st.sampled_from(["presence", "soft_wpmi", "cos"]),
    split=st.sampled_from(["train", "all"]),
)  # fmt: skip
def test_a_written_study_is_read_as_an_equal_one(tmp_path: Path, **drawn: Any) -> None:
    values = keywords(
        dataset={"name": drawn["name"], "kind": "folder", "path": "a b/ü", "probing_split": drawn["split"],
                 "validation_share": drawn["share"]},
        network={"name": "net", "architecture": "net.py:make", "input": {"size": 8}, "layers": drawn["layers"],
                 "arguments": drawn["arguments"], "output": None},
        concept_sets=[{"name": drawn["name"], "source": drawn["words"], "templates": ["a {}", 'a "{}"']}],
        dissections=[{"concepts": drawn["name"], "scorer": drawn["scorer"], "top_k": drawn["top_k"],
                      "accuracy_images": min(5, drawn["top_k"])}],
    )  # fmt: skip
    try:
        study = Study(**values)
    except StudyError:  # two layers of one name
        return
    study.write(tmp_path / "study.toml")
    read = Study.load(tmp_path / "study.toml")
    assert read == study
    assert read.model_dump(exclude_unset=True) == study.model_dump(exclude_unset=True) | {
        "network": {
            key: value for key, value in study.model_dump(exclude_unset=True)["network"].items() if value is not None
        }
    }
    tomllib.loads(study.to_toml())
