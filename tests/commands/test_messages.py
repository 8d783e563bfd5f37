"""What is said of a run: texts that are cut, weights that cannot be fetched, names that are mistyped, versions."""

from __future__ import annotations

import logging
import os
import socket
import struct
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from dissectdb import ROOT
from dissectdb.commands import options
from dissectdb.did_you_mean import choices
from dissectdb.extract import study
from dissectdb.extract.models import clip, fetching, hooks, networks
from dissectdb.extract.record import arrays
from dissectdb.extract.study import Study, StudyError
from dissectdb.warehouse import Warehouse
from tests.models.test_clip import TINY, write
from tests.support.worlds import World, command

CPU = torch.device("cpu")


@pytest.fixture
def notes(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What is logged for the user from here on."""
    caplog.set_level(logging.INFO, logger="dissectdb")
    return caplog.messages


# ---------------------------------------------------------------- texts that CLIP cuts


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> clip.Clip:
    """A CLIP that reads 16 tokens of a text."""
    return clip.load(write(tmp_path_factory.mktemp("clip"), "mini-clip", TINY), CPU)


def test_a_text_of_as_many_tokens_as_the_context_holds_is_whole_and_one_more_is_cut(tiny: clip.Clip) -> None:
    whole, longer = " ".join(["cat"] * 14), " ".join(["cat"] * 15)  # with the marks of start and end 16 and 17
    assert clip.cut_texts(tiny, [whole, longer], ["{}"]) == [(longer, "{}", 17)]
    assert clip.cut_texts(tiny, [whole], ["{}", "a {}"]) == [(whole, "a {}", 17)]
    equal = [tiny.embed_concepts([text], ["{}"]) for text in (longer, f"{longer} dog")]
    assert torch.equal(*equal), "what is past the context counts for nothing"


def test_a_cut_text_is_named_with_its_template(tiny: clip.Clip, caplog: pytest.LogCaptureFixture) -> None:
    clip.warn_of_cut_texts(tiny, [" ".join(["cat"] * 14), "dog"], ["{}", "a picture of {}"])
    assert caplog.messages == [
        "mini-clip reads the first 16 tokens of a text, and 'cat cat cat cat cat cat cat cat cat cat cat cat cat cat' "
        "in the template 'a picture of {}' has 19. What is past them is cut off: shorten it"
    ]
    assert caplog.records[0].levelno == logging.WARNING


def test_of_many_cut_texts_the_longest_is_named(tiny: clip.Clip, caplog: pytest.LogCaptureFixture) -> None:
    clip.warn_of_cut_texts(tiny, [f"{n} " * (20 + n) for n in range(10)], ["{}"])
    [line] = caplog.messages
    assert "10 texts are longer; the longest, '9 9 9 9" in line
    assert " has 31. " in line


def test_short_texts_say_nothing(tiny: clip.Clip, caplog: pytest.LogCaptureFixture) -> None:
    clip.warn_of_cut_texts(tiny, ["cat", "dog"], ["{}", "a picture of a {}"])
    assert caplog.messages == []


# ---------------------------------------------------------------- repeats, where embeddings stand in a file


@pytest.mark.parametrize("rows", [3, 5])
def test_embeddings_of_a_list_with_repeats_stay_with_their_words(tmp_path: Path, rows: int) -> None:
    """With a row for each line of the list, or for each different word."""
    (tmp_path / "words.txt").write_text("shed\ncat\nshed\ndog\ncat\n")
    directions = torch.eye(5)[:, :5]
    of_words = {"shed": 0, "cat": 1, "dog": 3 if rows == 5 else 2}
    save_file(
        {
            "layer/sae": torch.rand(8, 2),
            "image_embedding": torch.rand(8, 5),
            "concept_embedding": directions[:rows].contiguous(),
        },
        tmp_path / "f.safetensors",
    )
    (tmp_path / "study.toml").write_text(
        '[arrays]\npath = "f.safetensors"\nname = "sae"\n[[concept_sets]]\nname = "c"\nsource = "words.txt"\n'
        '[[dissections]]\nconcepts = "c"\n'
    )
    plan = arrays.make_plan(Study.load(tmp_path / "study.toml"))
    embedded = plan.clip.embed_concepts(["shed", "cat", "dog"], ["{}"])
    assert embedded.argmax(1).tolist() == list(of_words.values())


# ---------------------------------------------------------------- weights that cannot be fetched


NOBODY = "http://127.0.0.1:9"  # the port that discards: nobody listens, so that a connection is refused at once


@pytest.fixture
def unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a network, on which nothing was fetched before."""
    monkeypatch.setattr(constants, "ENDPOINT", NOBODY)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, NOBODY)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def network(architecture: str) -> study.Network:
    return study.Network(
        name="net", architecture=architecture, weights="pretrained", input=study.Input(size=32), layers=["fc"]
    )


def seconds_and_line(load: Callable[[], object], capfd: pytest.CaptureFixture[str]) -> tuple[float, str]:
    """How long it took to fail, and the one line; nothing else was printed."""
    started = time.monotonic()
    with pytest.raises(StudyError) as caught:
        load()
    took = time.monotonic() - started
    assert capfd.readouterr() == ("", "")
    assert "\n" not in str(caught.value)
    return took, str(caught.value)


FILE_OF_NETWORK = 'download them elsewhere and name the file: network.weights = "FILE"'


@pytest.mark.usefixtures("unreachable")
def test_weights_of_torchvision_that_cannot_be_fetched_are_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    took, line = seconds_and_line(lambda: networks.load(network("torchvision:resnet18")), capfd)
    assert line == (
        "network net: the weights of torchvision:resnet18 could not be fetched: download.pytorch.org cannot be "
        f"reached; {FILE_OF_NETWORK}"
    )
    assert took < 5


@pytest.mark.usefixtures("unreachable")
def test_weights_of_timm_that_cannot_be_fetched_are_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    took, line = seconds_and_line(lambda: networks.load(network("timm:test_resnet.r160_in1k")), capfd)
    assert line == (
        "network net: the weights of timm:test_resnet.r160_in1k could not be fetched: 127.0.0.1 cannot be reached, "
        f"and they are not in the cache; {FILE_OF_NETWORK}"
    )
    assert took < 5, "the hub's own retries take 47 seconds"
    assert constants.HF_HUB_OFFLINE is False, "what the process does next is asked of the hub again"


@pytest.mark.usefixtures("unreachable")
def test_a_tag_of_open_clip_that_cannot_be_fetched_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    settings = study.Clip(architecture="RN50", weights="openai")
    took, line = seconds_and_line(lambda: clip.load(settings, CPU), capfd)
    assert line == (
        "clip: the weights of RN50, openai, could not be fetched: 127.0.0.1 cannot be reached, and they are not in "
        'the cache; download them elsewhere and name the file: clip.weights = "FILE"'
    )
    assert took < 20, "the model is built before its weights are asked for"


@pytest.mark.usefixtures("unreachable")
def test_a_hub_that_takes_the_call_and_never_answers_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", 0.3)
        took, line = seconds_and_line(lambda: networks.load(network("timm:test_resnet.r160_in1k")), capfd)
        assert "could not be fetched: 127.0.0.1 cannot be reached" in line
        with pytest.raises(StudyError, match=r"w could not be fetched: 127.0.0.1 cannot be reached; go"):
            fetching.refuse_unreachable(f"{address}/weights.pth", "w", "go")
    assert took < 5


@pytest.mark.usefixtures("unreachable")
def test_what_is_in_the_caches_is_taken_without_a_network(tmp_path: Path) -> None:
    model = timm.create_model("test_resnet", pretrained=False)
    snapshot = tmp_path / "hub" / "models--timm--test_resnet.r160_in1k" / "snapshots" / "one"
    snapshot.mkdir(parents=True)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("one")
    save_file(model.state_dict(), snapshot / "model.safetensors")
    loaded = networks.load(network("timm:test_resnet.r160_in1k"))
    stored = model.state_dict()
    assert all(torch.equal(weights, stored[name]) for name, weights in loaded.model.state_dict().items())
    kept = tmp_path / "torch" / "checkpoints"
    kept.mkdir(parents=True)
    (kept / "weights.pth").touch()
    fetching.refuse_unreachable(f"{NOBODY}/weights.pth?version=1", "w", "go")


@pytest.mark.usefixtures("unreachable")
def test_an_error_that_is_not_about_fetching_is_passed_on() -> None:
    with pytest.raises(StudyError, match=r"timm:test_resnet could not be built: .*no_such_argument"):
        networks.load(network("timm:test_resnet").model_copy(update={"arguments": {"no_such_argument": 1}}))


# ---------------------------------------------------------------- names that are mistyped


def test_a_mistyped_view_gets_the_nearest_few_names_and_not_all(finished: World) -> None:
    for done in (
        finished.run("query", "select * from layer_sumary"),
        finished.run("build", "--dry-run", "--select", "layer_sumary"),
    ):
        assert done.code in (1, 2)
        [line] = done.err.splitlines()
        assert "layer_sumary; did you mean layer_summary" in line
        assert line.endswith(" in all")
        assert len(line) < 200


def test_of_many_names_the_nearest_five_are_offered_or_the_first_five() -> None:
    layers = [f"encoder.block.{number}" for number in range(300)]
    said = choices("encoder.blok.7", layers)
    assert said.startswith("did you mean encoder.block.7, ")
    assert said.endswith("? there are 300 in all")
    assert said.count("encoder") == 5
    first_five = ", ".join(layers[:5])
    assert choices("zzz", layers) == f"there is {first_five} and 295 more"
    assert choices("LIN9", ["conv1", "lin1"]) == "did you mean lin1? there is conv1, lin1"
    assert choices("lin1", [], "it has") == "it has none"


def test_a_mistyped_layer_of_a_large_network_is_one_short_line() -> None:
    model = torch.nn.Sequential(*(torch.nn.Sequential(torch.nn.Linear(2, 2)) for _ in range(200)))
    with pytest.raises(StudyError) as caught:
        hooks.find_taps(model, [study.Layer(name="199.1")], (2,))
    assert str(caught.value).startswith("network.layers: Sequential has no layer 199.1; did you mean ")
    assert str(caught.value).endswith("? there are 400 in all")
    assert len(str(caught.value)) < 200


# ---------------------------------------------------------------- plans of queries


@pytest.mark.parametrize("word", ["explain", "EXPLAIN ANALYZE"])
def test_the_plan_of_a_query_is_readable(finished: World, word: str) -> None:
    done = finished.run("query", f"{word} select layer, count(*) from neuron_concepts group by layer")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert len(lines) > 10
    assert lines[0].strip() == "plan"
    assert all("\\n" not in line for line in lines)
    assert any("Group" in line or "GROUP" in line for line in lines)


def test_a_query_that_is_explained_is_stopped_like_another(finished: World) -> None:
    slow = "explain analyze select count(*) from range(1000000000) as a, range(1000) as b where a.range % 7 = b.range"
    done = finished.run("query", slow, "--timeout", "0.2")
    assert done.code == 2
    assert "stopped after 0.2 s" in done.err


# ---------------------------------------------------------------- versions


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    done = command("--version")
    assert (done.code, done.out, done.err) == (0, f"dissectdb {project['version']}\n", "")


def test_an_installed_package_says_its_own_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "ROOT", tmp_path)
    monkeypatch.setattr(options.importlib.metadata, "version", lambda name: f"9.9 of {name}")
    assert options.version() == "9.9 of dissectdb"
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "anothers"\nversion = "1"\n')
    assert options.version() == "9.9 of dissectdb", "a file of somebody else's that lies beside it"


def test_a_warehouse_is_written_in_the_format_of_duckdb_1_2(finished: World) -> None:
    """DuckDB 1.2 opens storage version 65 and older, as was tried; docs/warehouse.md promises it."""
    header = finished.warehouse.read_bytes()[:20]
    assert header[8:12] == b"DUCK"
    assert struct.unpack("<Q", header[12:20]) == (65,)
    assert "with DuckDB 1.2 or newer" in (ROOT / "docs" / "warehouse.md").read_text(encoding="utf-8")


def test_a_warehouse_in_a_newer_format_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "old.duckdb"
    duckdb.connect(str(path), config={"storage_compatibility_version": "latest"}).close()
    newer = path.read_bytes()[12:20]
    with Warehouse(path) as opened:
        list(opened.build())
    assert path.read_bytes()[12:20] == newer
    with Warehouse(path, read_only=True) as opened:
        assert opened.rows("select * from layer_summary").height == 0


@pytest.mark.parametrize("closed", ["2>&-", "1>&- 2>&-"])
def test_the_exit_code_stays_if_streams_are_closed(closed: str, tmp_path: Path) -> None:
    script = f'"{sys.executable}" -m dissectdb query -w nowhere.duckdb "select 1" {closed}'
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 3
