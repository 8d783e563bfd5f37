"""Mistakes in a study file: each is one line with the file, the key and what is allowed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dissectdb.extract import study
from dissectdb.extract.study import Study, StudyError
from tests.support.studies import NETWORK_STUDY, mistake, mistakes


def test_a_mistake_names_the_file_the_key_a_similar_name_and_what_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    text = NETWORK_STUDY.replace('layers = ["conv1a", "lin1"]', 'layers = [{ name = "conv1a", poolng = "max" }]')
    assert mistakes(tmp_path, {}, text) == [
        f"{path}: network.layers[0].poolng is not a setting; did you mean pooling? "
        "allowed: call, kind, layout, name, pooling, units"
    ]


def test_each_mistake_is_a_line_of_its_own(tmp_path: Path) -> None:
    text = NETWORK_STUDY.replace("size = 40", 'sise = 40\nmode = "gray"').replace('kind = "folder"', 'kind = "floder"')
    path = tmp_path / "small.toml"
    assert mistakes(tmp_path, {}, text) == [
        f"{path}: dataset.kind: 'floder' is not allowed; did you mean folder? allowed: fer2013, folder, demo, "
        "python, manifest, parquet, webdataset, sources",
        f"{path}: network.input.size is missing",
        f"{path}: network.input.mode: 'gray' is not allowed; did you mean grey? allowed: grey, rgb, bands",
        f"{path}: network.input.sise is not a setting; did you mean size? "
        "allowed: channels, interpolation, mean, mode, resize, rounding, size, std",
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


def test_thresholds_that_differ_in_a_late_digit_are_two_edits_of_a_sweep() -> None:
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
    text = NETWORK_STUDY.replace('path = "faces"', "").replace("[network.input]\nsize = 40", "")
    assert mistakes(tmp_path, {}, text) == [
        f"{path}: dataset: kind = 'folder' needs path, the file or folder with the images",
        f"{path}: network.input is missing",
    ]


@pytest.mark.parametrize(
    "content", [b"a = ", b"\xff\xfe\x00", b"[a]\n[a]", b"a = " + b"[" * 5000, b"a = " + b"9" * 5000, b"a = \x00"]
)
def test_a_file_that_is_not_toml_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(StudyError, match=r"broken\.toml: not a readable TOML file: "):
        Study.load(path)


def test_a_missing_study_and_a_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"none\.toml: no such study file"):
        Study.load(tmp_path / "none.toml")
    with pytest.raises(StudyError, match="not a readable TOML file"):
        Study.load(tmp_path)
