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

STUDIES = ROOT / "studies"
MODELS = [study.Study, study.Dataset, study.Network, study.Input, study.Layer, study.Clip, study.ConceptSet]
MODELS += [study.Dissection, study.Edit, study.Sweep, study.Protocol, study.Effects, study.Arrays]
SMALL = """
[dataset]
name = "faces"
kind = "folder"
path = "faces"
[network]
name = "net"
architecture = "vggnet"
layers = ["conv1a", "lin1"]
[network.input]
size = 40
[clip]
architecture = "ViT-B-16"
weights = "openai"
[[concept_sets]]
name = "emotions"
source = "emotions"
[[dissections]]
concepts = "emotions"
[[edits]]
name = "paper"
"""


def write(folder: Path, text: str = SMALL) -> Path:
    path = folder / "small.toml"
    path.write_text(text, encoding="utf-8")
    return path


def mistakes(folder: Path, overrides: dict[str, str], text: str = SMALL) -> list[str]:
    with pytest.raises(StudyError) as caught:
        Study.load(write(folder, text), overrides)
    return str(caught.value).splitlines()


def mistake(folder: Path, key: str, value: str) -> str:
    [line] = mistakes(folder, {key: value})
    return line


# ---------------------------------------------------------------- the studies that ship


def uncommented(text: str, without: str) -> str:
    """The text with the settings that are shown in comments switched on, all but those that match `without`."""
    kept = "\n".join(line for line in text.splitlines() if not re.match(rf"# ({without})", line))
    return re.sub(r"^# (\w+ = |\[\[)", r"\1", kept, flags=re.MULTILINE)


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
    loaded = Study.load(write(tmp_path, text))
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


def test_every_table_of_a_study_is_looked_at_here() -> None:
    kinds = {study.NetworkStudy, study.ArraysStudy}
    assert set(MODELS) | kinds == {model for model in vars(study).values() if _is_table(model)}
    assert all(list(kind.model_fields) == list(Study.model_fields) for kind in kinds)


def _is_table(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, study.Settings) and model is not study.Settings


def test_the_fer2013_study_says_the_defaults_of_the_scorer_as_they_are() -> None:
    written = tomllib.loads((STUDIES / "fer2013.toml").read_text(encoding="utf-8"))["dissections"][-1]
    assert study.Dissection(**written) == study.Dissection(concepts=written["concepts"], rule="tau")


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
    values = tomllib.loads(SMALL)
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
    write(tmp_path)
    overrides = {key: f"{quote}{written}{quote}" for key, (written, _) in PATHS.items()}
    assert paths_of(Study.load("../small.toml", overrides)) == {key: expected for key, (_, expected) in PATHS.items()}


def test_a_path_in_a_table_on_the_command_line_is_relative_to_the_current_folder(tmp_path: Path) -> None:
    loaded = Study.load(write(tmp_path), {"concept_sets": '[{ name = "emotions", source = "words.txt" }]'})
    assert loaded.concept_sets[0].source == "words.txt"


def test_arrays_and_the_query_of_an_edit_follow_the_same_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    for folder in (".", "here"):
        (tmp_path / folder / "edit.sql").write_text(f"select '{folder}'")
    edit = '[[edits]]\nname = "paper"\nrule = "sql"\nlayer = "lin1"\nsql = "edit.sql"'
    study_file = write(tmp_path, SMALL.replace('[[edits]]\nname = "paper"', edit))
    monkeypatch.chdir(tmp_path / "here")
    assert Study.load(study_file).edits[0].sql == "select '.'"
    assert Study.load(study_file, {"edits[0].sql": "edit.sql"}).edits[0].sql == "select 'here'"
    text = (STUDIES / "arrays.toml").read_text(encoding="utf-8")
    (tmp_path / "arrays.toml").write_text(text, encoding="utf-8")
    assert Study.load(tmp_path / "arrays.toml").arrays.path == tmp_path / "features.safetensors"
    assert Study.load(tmp_path / "arrays.toml", {"arrays.path": "f.safetensors"}).arrays.path == Path("f.safetensors")


def test_absolute_paths_and_paths_from_home_stay_what_they_are(tmp_path: Path) -> None:
    loaded = Study.load(write(tmp_path), {"network.weights": "/nets/a.pt", "dataset.path": "~/faces"})
    assert loaded.network.weights == Path("/nets/a.pt")
    assert loaded.dataset.path == Path.home() / "faces"


def test_names_are_no_paths(tmp_path: Path) -> None:
    loaded = Study.load(write(tmp_path), {"network.weights": "pretrained"})
    assert loaded.network.weights == "pretrained"
    assert (loaded.clip.weights, loaded.concept_sets[0].source) == ("openai", "emotions")


def test_a_layer_takes_the_pooling_of_the_network_unless_it_has_its_own(tmp_path: Path) -> None:
    layers = '["conv1a", { name = "lin1", pooling = "cls", layout = "channels_last" }]'
    loaded = Study.load(write(tmp_path), {"network.layers": layers, "network.pooling": "max"})
    assert [(layer.pooling, layer.layout) for layer in loaded.network.layers] == [
        ("max", "auto"),
        ("cls", "channels_last"),
    ]


def test_a_study_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert Study.load(write(tmp_path, "\ufeff" + SMALL)).network.name == "net"


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
    base = SMALL.replace('source = "emotions"', 'source = "emotions"\ntemplates = ["{}"]')
    assert read(Study.load(write(tmp_path, base), {key: value}))


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


# ---------------------------------------------------------------- mistakes


def test_a_mistake_names_the_file_the_key_what_is_near_and_what_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    text = SMALL.replace('layers = ["conv1a", "lin1"]', 'layers = [{ name = "conv1a", poolng = "max" }]')
    assert mistakes(tmp_path, {}, text) == [
        f"{path}: network.layers[0].poolng is not a setting; did you mean pooling? allowed: call, layout, name, pooling"
    ]


def test_every_mistake_has_its_line(tmp_path: Path) -> None:
    text = SMALL.replace("size = 40", 'sise = 40\nmode = "gray"').replace('kind = "folder"', 'kind = "floder"')
    path = tmp_path / "small.toml"
    assert mistakes(tmp_path, {}, text) == [
        f"{path}: dataset.kind: 'floder' is not allowed; did you mean folder? allowed: fer2013, folder, demo",
        f"{path}: network.input.size is missing",
        f"{path}: network.input.mode: 'gray' is not allowed; did you mean grey? allowed: grey, rgb",
        f"{path}: network.input.sise is not a setting; did you mean size? "
        "allowed: interpolation, mean, mode, resize, rounding, size, std",
    ]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("network.weights", "3", 'network.weights: must be "pretrained", "random" or the path of a checkpoint, not 3'),
        (
            "network.weights",
            '["a.pt"]',
            'network.weights: must be "pretrained", "random" or the path of a checkpoint, not [',
        ),
        ("network.weights", '""', "network.weights: '' is not a path"),
        ("network.layers", "conv1a", "network.layers: must be a list, not 'conv1a'"),
        ("network.layers", "[3]", "network.layers[0]: must be a table, not 3"),
        ("network.layers", "[]", "network.layers: is an empty list; at least one is needed"),
        ("network.layers", '[""]', "network.layers[0].name: must not be empty"),
        ("network.layers", '["a", "b", "a"]', "network.layers: a (avg) appears twice"),
        ("network.classes", '["sad", "sad"]', "network.classes: sad appears twice"),
        ("network.pooling", "mx", "network.pooling: 'mx' is not allowed; did you mean max?"),
        ("network.input.size", "true", "network.input.size: must be a whole number, not True"),
        ("network.input.size", '"40"', "network.input.size: must be a whole number, not '40'"),
        ("network.input.size", "4.5", "network.input.size: must be a whole number, not 4.5"),
        ("network.input.size", "0", "network.input.size: must be greater than or equal to 1, not 0"),
        ("network.input.size", "1_000_000", "network.input.size: must be less than or equal to 4096"),
        ("network.input.mean", "[0.5]", "network.input: mean has 1 numbers; mode 'rgb' has 3"),
        ("network.input.mean", "[nan, 0, 0]", "network.input.mean[0]: must be"),
        ("network.input.std", "[0, 1, 1]", "network.input.std[0]: must be greater than"),
        ("dataset.path", "2013", "dataset.path: must be text, the path of a file or folder, not 2013"),
        ("dataset.path", '"a\\u0000"', "dataset.path: 'a\\x00' is not a path"),
        ("dataset.path", "~nobody-of-that-name/a", "dataset.path: '~nobody-of-that-name/a' names the home of a user"),
        ("clip.weights", "~nobody-of-that-name/a", "clip.weights: '~nobody-of-that-name/a' names the home of a user"),
        ("dataset.images", "1e300", "dataset.images: must be a whole number"),
        ("dataset.seed", "9" * 40, "dataset.seed: must be less than"),
        ("dataset.validation_share", "nan", "dataset.validation_share: must be"),
        ("dissections[0].tau", "inf", "dissections[0].tau: must be"),
        ("dissections[0].top_k", "257", "dissections[0].top_k: must be less than or equal to 256, not 257"),
        ("dissections[0].top_k", "2", "dissections[0]: accuracy_images = 5 is more than top_k = 2"),
        ("dissections[0].softmax_scale", "1e308", "dissections[0].softmax_scale: must be less than"),
        ("dissections[0].include_dead", "1", "dissections[0].include_dead: must be true or false, not 1"),
        ("dissections[0].concepts", "emotion", "dissections[0].concepts: there is no concept set 'emotion'; did you"),
        (
            "dissections",
            '[{concepts="emotions"}, {concepts="emotions"}]',
            "dissections[1]: is the same as dissections[0]",
        ),
        ("concept_sets", "[]", "concept_sets: is an empty list; at least one is needed"),
        ("concept_sets[0].templates", '["a face"]', "concept_sets[0].templates: 'a face' must hold {} once"),
        ("concept_sets[0].templates", '["{} {}"]', "concept_sets[0].templates: '{} {}' must hold {} once"),
        ("concept_sets[0].templates", "[]", "concept_sets[0].templates: at least one template is needed"),
        (
            "edits[0].layer",
            "lin9",
            "edits[0].layer: there is no layer 'lin9'; did you mean lin1? there is conv1a, lin1",
        ),
        ("edits[0].factor", "0", "edits[0].factor: must be greater than"),
        ("edits[0].rule", "sql", "edits[0]: rule = 'sql' and the key sql belong together"),
        ("edits", '[{name="a"},{name="a"}]', "edits: the name a appears twice"),
        ("edits[0].layers", '["lin1", "lin9"]', "edits[0].layers: there is no layer 'lin9'; did you mean lin1?"),
        ("edits[0].layers", '["lin1", "lin1"]', "edits[0]: lin1 appears twice"),
        ("edits", '[{name="a",layer="lin1",layers=["lin1"]}]', "edits[0]: layer and layers are two ways to say"),
        ("edits[0].concepts", '["Smile"]', "edits[0]: concepts would do nothing: rule = 'paper' reads factor, fact"),
        ("edits", '[{name="a",rule="weight_l1",tau=1}]', "edits[0]: tau would do nothing: rule = 'weight_l1' reads"),
        ("edits", '[{name="a",rule="calibrated",tau=0}]', "edits[0]: tau would do nothing: rule = 'calibrated'"),
        ("edits", '[{name="a",rule="proportional",factor_down=2,tau=1}]', "edits[0]: factor_down and tau would do"),
        ("edits", '[{name="a",rule="ablate",factor=2}]', "edits[0]: factor would do nothing: rule = 'ablate' reads"),
        ("edits[0].factor_down", "0", "edits[0].factor_down: must be greater than"),
        ("edits[0].sql", "select 1", "edits[0]: rule = 'sql' and the key sql belong together"),
        ("edits", '[{name="a",rule="sql",sql="x"}]', "edits[0]: rule = 'sql' needs layer, the layer whose weights"),
        ("edits", '[{name="a",rule="sql",layer="lin1",sql="no.sql"}]', "edits[0].sql: "),
        ("edits[0].rule", "papr", "edits[0].rule: 'papr' is not allowed; did you mean paper?"),
        ("sweeps", '[{name="s",layers=["lin9"]}]', "sweeps[0].layers: there is no layer 'lin9'; did you mean lin1?"),
        ("sweeps", '[{name="s",rules=["sql"]}]', "sweeps[0].rules[0]: 'sql' is not allowed;"),
        ("sweeps", '[{name="s",taus=[]}]', "sweeps[0].taus: is an empty list; at least one is needed"),
        ("effects", '{layers=["lin9"]}', "effects.layers: there is no layer 'lin9'; did you mean lin1?"),
        ("effects", '{layers=["lin1"],split="test"}', "effects.split: 'test' is not allowed;"),
        ("effects", "{}", "effects.layers is missing"),
        ("protocol.controls", "-1", "protocol.controls: must be greater than or equal to 0, not -1"),
        ("protocol.bootstraps", "99", "protocol.bootstraps: must be greater than or equal to 100, not 99"),
        ("protocol.seed", "0.5", "protocol.seed: must be a whole number, not 0.5"),
        ("edits", '[{name="a",rule="sql",sql="x",layer="lin1",factor=2}]', "edits[0]: factor would do nothing"),
        ("device", "gpu", "device: 'gpu' is not allowed; did you mean cpu? allowed: auto, cpu, cuda, mps"),
        ("clip", "x", "clip: must be a table, not 'x'"),
        ("network.arguments", "x", "network.arguments: must be a table, not 'x'"),
    ],
)
def test_a_wrong_value_is_one_readable_line(tmp_path: Path, key: str, value: str, message: str) -> None:
    line = mistake(tmp_path, key, value)
    assert line.partition(" from the command line: ")[2].startswith(message)
    assert not re.search(r"literal\[|function-|Input should|pydantic|<class", line)


def test_thresholds_that_hardly_differ_are_two_edits_of_a_sweep() -> None:
    sweep = study.Sweep(name="s", taus=(0.1234567, 0.1234568, 0.5, 0.5), factors=(1e6, 999999.9))
    assert [(edit.tau, edit.factor) for edit in sweep.edits()] == [
        (tau, factor) for tau in (0.1234567, 0.1234568, 0.5) for factor in (1e6, 999999.9)
    ]
    assert sweep.edits()[-2].name == "s: paper, tau 0.5, factor 1e+06"


def test_sweeps_of_one_name_are_refused(tmp_path: Path) -> None:
    line = mistake(tmp_path, "sweeps", '[{name="s"},{name="s"}]')
    assert line.endswith("edits: the name s: paper, tau 0, factor 1.5 appears twice")


def test_a_folder_needs_its_path_and_a_missing_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    text = SMALL.replace('path = "faces"', "").replace("[network.input]\nsize = 40", "")
    assert mistakes(tmp_path, {}, text) == [
        f"{path}: dataset: kind = 'folder' needs path, the file or folder with the images",
        f"{path}: network.input is missing",
    ]


@pytest.mark.parametrize(
    "content", [b"a = ", b"\xff\xfe\x00", b"[a]\n[a]", b"a = " + b"[" * 5000, b"a = " + b"9" * 5000, b"a = \x00"]
)
def test_what_is_no_toml_is_an_error_with_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(StudyError, match=r"broken\.toml: not a readable TOML file: "):
        Study.load(path)


def test_a_missing_study_and_a_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"none\.toml: no such study file"):
        Study.load(tmp_path / "none.toml")
    with pytest.raises(StudyError, match="not a readable TOML file"):
        Study.load(tmp_path)


# ---------------------------------------------------------------- whatever comes

names = st.sampled_from([name for model in MODELS for name in model.model_fields]) | st.text(max_size=5)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
words = st.sampled_from(["avg", "sql", "pretrained", "~x/y", "a.py:f", "folder", "{}", "emotions"])
values = st.recursive(
    scalars | words | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
small = tomllib.loads(SMALL)


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
        write(tmp_path)
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
