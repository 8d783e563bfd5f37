"""Study files: what they may say, and what is said where they say something else."""

from __future__ import annotations

import json
import re
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dissectdb import ROOT
from dissectdb.extract import study
from dissectdb.extract.study import Study, StudyError
from dissectdb.extract.study.overrides import override
from tests.support.studies import NETWORK_STUDY, mistake, mistakes, write_study

STUDIES = ROOT / "studies"
MODELS = [study.Study, study.Dataset, study.Network, study.Input, study.Layer, study.Clip, study.ConceptSet]
MODELS += [
    study.Dissection,
    study.Edit,
    study.Sweep,
    study.Protocol,
    study.Effects,
    study.Arrays,
    study.Controls,
    study.Judge,
]


# ---------------------------------------------------------------- the studies that ship


def uncommented(text: str, without: str) -> str:
    """The text with the settings that are shown in comments switched on, all but those that match `without`."""
    kept = "\n".join(line for line in text.splitlines() if not re.match(rf"# ({without})", line))
    return re.sub(r"^# (\w+ = |\[)", r"\1", kept, flags=re.MULTILINE)


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_shipped_study_loads(path: Path) -> None:
    loaded = Study.load(path)
    assert loaded.arrays or loaded.network.layers
    assert isinstance(loaded, study.ArraysStudy if loaded.arrays else study.NetworkStudy)


# Ways to say the same, of which a study takes one.
ONE_OF_EACH = {"layer and a query": r'layers = |sql = "loud', "layers and a file": 'layer = "lin2"  |sql = "select'}


@pytest.mark.parametrize("way", ONE_OF_EACH)
def test_every_key_of_the_fer2013_study_is_a_setting_even_those_in_comments(tmp_path: Path, way: str) -> None:
    query = "select layer, unit, 2 as scale from neurons"
    (tmp_path / "loud.sql").write_text(query, encoding="utf-8")
    text = uncommented((STUDIES / "fer2013.toml").read_text(encoding="utf-8"), ONE_OF_EACH[way])
    if way.startswith("layers"):
        text = text.replace('rule = "sql"\nlayer = "lin2"', 'rule = "sql"\nlayers = ["lin2"]')
    loaded = Study.load(write_study(tmp_path, text))
    assert loaded.dataset.validation_share == 0.1
    assert loaded.network.input.std == (0.5,)
    assert [edit.rule for edit in loaded.edits] == ["paper", "ablate", "sql"]
    assert loaded.edits[0].factor_down == 1.0
    assert loaded.edits[0].layer_names == (("lin2",) if "query" in way else ("lin1", "lin2"))
    assert (loaded.edits[-1].sql == query) == ("file" in way)
    assert loaded.edits[1].concepts == ("Smile",)
    assert loaded.sweeps[0].factors_down == (1.0,)
    assert len(loaded.sweeps[0].edits()) == 72


def test_every_setting_is_named_in_a_study_that_ships() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in STUDIES.glob("*.toml"))
    names = {name for model in MODELS for name in model.model_fields}
    assert {name for name in names if not re.search(rf"\b{name}( = |\]|\.)", text)} == set()


def test_every_table_of_a_study_is_tested_here() -> None:
    kinds = {study.NetworkStudy, study.ArraysStudy}
    assert set(MODELS) | kinds == {model for model in vars(study).values() if _is_table(model)}
    assert all(list(kind.model_fields) == list(Study.model_fields) for kind in kinds)


def _is_table(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, study.Settings) and model is not study.Settings


def test_the_fer2013_study_shows_the_actual_defaults_of_the_scorer() -> None:
    written = tomllib.loads((STUDIES / "fer2013.toml").read_text(encoding="utf-8"))["dissections"][-1]
    assert study.Dissection(**written) == study.Dissection(concepts=written["concepts"], scorer="soft_wpmi", rule="tau")


def test_a_dissection_that_names_no_rule_is_judged_by_q_and_the_paper_by_tau() -> None:
    assert study.Dissection(concepts="words").rule == "q"
    assert {each.rule for each in study.Study.load(STUDIES / "fer2013.toml").dissections} == {"tau"}


# ---------------------------------------------------------------- what a study says


PATHS = {  # every key that may hold a path: what is written, and what it comes to in a folder
    "dataset.path": ("faces", "faces"),
    "network.weights": ("nets/a.pt", "nets/a.pt"),
    "network.architecture": ("nets/a.py:make", "nets/a.py:make"),
    "clip.weights": ("clip.pt", "clip.pt"),
    "clip.config": ("clip.json", "clip.json"),
    "concept_sets[0].source": ("words.txt", "words.txt"),
    "warehouse": ("x/../w.duckdb", "w.duckdb"),
}


def paths_of(loaded: Study) -> dict[str, str]:
    return {
        "dataset.path": str(loaded.dataset.path),
        "network.weights": str(loaded.network.weights),
        "network.architecture": loaded.network.architecture,
        "clip.weights": loaded.clip.weights,
        "clip.config": str(loaded.clip.config),
        "concept_sets[0].source": loaded.concept_sets[0].source,
        "warehouse": str(loaded.warehouse),
    }


def test_a_path_in_a_study_is_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = tomllib.loads(NETWORK_STUDY)
    for key, (written, _) in PATHS.items():
        override(values, key, f"'{written}'")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    loaded = Study.model_validate(json.loads(json.dumps(values)), context={"folder": tmp_path})
    assert paths_of(loaded) == {key: str(tmp_path / expected) for key, (_, expected) in PATHS.items()}


@pytest.mark.parametrize("quote", ["", "'"], ids=["plain", "TOML"])
def test_a_path_on_the_command_line_is_relative_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quote: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_study(tmp_path)
    overrides = {key: f"{quote}{written}{quote}" for key, (written, _) in PATHS.items()}
    assert paths_of(Study.load("../small.toml", overrides)) == {key: expected for key, (_, expected) in PATHS.items()}


def test_a_path_in_a_table_on_the_command_line_is_relative_to_the_current_folder(tmp_path: Path) -> None:
    loaded = Study.load(write_study(tmp_path), {"concept_sets": '[{ name = "emotions", source = "words.txt" }]'})
    assert loaded.concept_sets[0].source == "words.txt"


def test_arrays_and_the_query_of_an_edit_follow_the_same_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    for folder in (".", "here"):
        (tmp_path / folder / "edit.sql").write_text(f"select '{folder}'")
    edit = '[[edits]]\nname = "paper"\nrule = "sql"\nlayer = "lin1"\nsql = "edit.sql"'
    study_file = write_study(tmp_path, NETWORK_STUDY.replace('[[edits]]\nname = "paper"', edit))
    monkeypatch.chdir(tmp_path / "here")
    assert Study.load(study_file).edits[0].sql == "select '.'"
    assert Study.load(study_file, {"edits[0].sql": "edit.sql"}).edits[0].sql == "select 'here'"
    text = (STUDIES / "arrays.toml").read_text(encoding="utf-8")
    (tmp_path / "arrays.toml").write_text(text, encoding="utf-8")
    assert Study.load(tmp_path / "arrays.toml").arrays.path == tmp_path / "features.safetensors"
    assert Study.load(tmp_path / "arrays.toml", {"arrays.path": "f.safetensors"}).arrays.path == Path("f.safetensors")


def test_absolute_paths_and_paths_from_home_are_not_changed(tmp_path: Path) -> None:
    loaded = Study.load(write_study(tmp_path), {"network.weights": "/nets/a.pt", "dataset.path": "~/faces"})
    assert loaded.network.weights == Path("/nets/a.pt")
    assert loaded.dataset.path == Path.home() / "faces"


def test_names_are_not_taken_for_paths(tmp_path: Path) -> None:
    loaded = Study.load(write_study(tmp_path), {"network.weights": "pretrained"})
    assert loaded.network.weights == "pretrained"
    assert (loaded.clip.weights, loaded.concept_sets[0].source) == ("openai", "emotions")


def test_a_layer_takes_the_pooling_of_the_network_unless_it_has_its_own(tmp_path: Path) -> None:
    layers = '["conv1a", { name = "lin1", pooling = "cls", layout = "channels_last" }]'
    loaded = Study.load(write_study(tmp_path), {"network.layers": layers, "network.pooling": "max"})
    assert [(layer.pooling, layer.layout) for layer in loaded.network.layers] == [
        ("max", "auto"),
        ("cls", "channels_last"),
    ]


def test_a_study_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert Study.load(write_study(tmp_path, "\ufeff" + NETWORK_STUDY)).network.name == "net"


# ---------------------------------------------------------------- overrides


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [
        ("network.layers", '["lin1"]', lambda s: [layer.name for layer in s.network.layers] == ["lin1"]),
        ("network.layers[1]", "lin2", lambda s: s.network.layers[1].name == "lin2"),
        ("network.layers[1]", '{name="lin2",pooling="max"}', lambda s: s.network.layers[1].pooling == "max"),
        ("edits[0].factor", "2", lambda s: s.edits[0].factor == 2),
        ("edits", "[]", lambda s: s.edits == ()),
        ("edits", '[{name="a"}, {name="b", tau=1}]', lambda s: s.edits[1].tau == 1),
        ("concept_sets[0].templates[0]", "a {} face", lambda s: s.concept_sets[0].templates == ("a {} face",)),
        ("network.arguments.hidden", "8", lambda s: s.network.arguments == {"hidden": 8}),
        ("dataset.images", "7", lambda s: s.dataset.images == 7),
        ("dataset.name", "two words # no comment", lambda s: s.dataset.name == "two words # no comment"),
        ("dataset.name", '"1 = 1"', lambda s: s.dataset.name == "1 = 1"),
        ("dataset.name", "1\nmore = 2", lambda s: s.dataset.name == "1\nmore = 2"),
    ],
)
def test_an_override_replaces_what_the_file_says(tmp_path: Path, key: str, value: str, read: Any) -> None:
    base = NETWORK_STUDY.replace('source = "emotions"', 'source = "emotions"\ntemplates = ["{}"]')
    assert read(Study.load(write_study(tmp_path, base), {key: value}))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("edits.factor", "--set edits.factor: edits is a list; name one entry, as edits[0], or replace the list"),
        ("edits[3].factor", "--set edits[3].factor: edits has 1 entries, the first of them is edits[0]"),
        ("network[0]", "--set network[0]: network is not a list"),
        ("device.x.y", "--set device.x.y: device.x is not a table"),
        ("network.layers[0].pooling", "--set network.layers[0].pooling: network.layers[0] is not a table"),
        ("network..layers", "--set 'network..layers': not a key; write it like network.weights or edits[0].factor"),
        ("", "--set '': not a key; write it like network.weights or edits[0].factor"),
    ],
)
def test_an_override_that_leads_nowhere_says_where_it_stopped(tmp_path: Path, key: str, message: str) -> None:
    overrides = {"device.x": "1", key: "1"} if key.startswith("device") else {key: "1"}
    assert mistakes(tmp_path, overrides) == [message]


def test_a_mistake_in_an_override_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    line = mistake(tmp_path, "nework.weights", "x")
    assert line.startswith(
        f"{tmp_path / 'small.toml'} with nework.weights from the command line: nework is not a setting"
    )
    assert "did you mean network?" in line


# ---------------------------------------------------------------- any content

names = st.sampled_from([name for model in MODELS for name in model.model_fields]) | st.text(max_size=5)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
words = st.sampled_from(["avg", "sql", "pretrained", "~x/y", "a.py:f", "folder", "{}", "emotions"])
values = st.recursive(
    scalars | words | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
small = tomllib.loads(NETWORK_STUDY)


@settings(max_examples=150, deadline=None)
@given(changes=st.dictionaries(st.sampled_from(sorted(small)) | names, values, max_size=3))
def test_any_tables_are_a_study_or_a_study_error(changes: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study.study_file.tomllib, "loads", lambda text: {**small, **changes})
        _load_or_study_error(STUDIES / "fer2013.toml", {})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.text("network.layers[0]edits.x ", max_size=20) | names, text=st.text(max_size=12) | values.map(str))
def test_any_override_is_a_study_or_a_study_error(tmp_path: Path, key: str, text: str) -> None:
    path = tmp_path / "small.toml"
    if not path.exists():
        write_study(tmp_path)
    _load_or_study_error(path, {key: text})


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | st.text('[]{}"=\n.#a1', max_size=30).map(str.encode))
def test_any_file_is_a_study_or_a_study_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any.toml"
    path.write_bytes(content)
    _load_or_study_error(path, {})


def _load_or_study_error(path: Path, overrides: dict[str, str]) -> None:
    with suppress(StudyError):
        assert Study.load(path, overrides).network.pooling in get_args(study.Pooling)
