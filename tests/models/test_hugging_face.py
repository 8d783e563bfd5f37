"""What cannot be read as a network of transformers is one line that says what to do."""

from __future__ import annotations

import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file

from dissectdb.extract.models import fetching
from tests.models.test_families import extract, vit
from tests.support.worlds import World

LAYERS = 'layers = ["vit.layers.*"]\n'


def refusal(world: World, architecture: str, more: str = "") -> str:
    """The last line of an extract that is refused, without the folder. There is no warehouse afterwards."""
    done = extract(world, f'architecture = "{architecture}"\n{more}{LAYERS}', given="")
    assert done.code == 2
    assert not world.warehouse.exists()
    return done.err.splitlines()[-1].replace(f"{world.folder}/", "")


def test_a_name_of_the_hub_that_cannot_be_reached(new_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_hub_answers", lambda: False)
    line = refusal(new_world, "hf:nobody/no-such-model")
    assert line.startswith("dissectdb: network net: the weights of hf:nobody/no-such-model could not be fetched: ")
    assert "cannot be reached, and they are not in the cache" in line
    assert line.endswith("download its folder elsewhere and name it: network.architecture = 'hf:FOLDER'")


def test_a_folder_with_pickled_weights_only(new_world: World) -> None:
    folder = new_world.folder / "model"
    vit(folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert refusal(new_world, "hf:model") == (
        "dissectdb: network.architecture: model has no weights as safetensors, only pytorch_model.bin, and reading "
        "that could run code; load the model where you trust it, and save_pretrained writes them"
    )
    fresh = extract(new_world, f'architecture = "hf:model"\nweights = "random"\n{LAYERS}', given="")
    assert fresh.code == 0, fresh.err


def test_a_name_of_the_hub_with_pickled_weights_only(new_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = new_world.folder / "hub" / "models--me--pickled"
    vit(cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    (cached / "snapshots" / "abc" / "model.safetensors").rename(cached / "snapshots" / "abc" / "pytorch_model.bin")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(new_world.folder / "hub"))
    monkeypatch.setattr(fetching, "_hub_answers", lambda: False)
    assert refusal(new_world, "hf:me/pickled") == (
        "dissectdb: network net: the weights of hf:me/pickled are not there as safetensors, and reading others could "
        "run code; load the model where you trust it, and save_pretrained writes them"
    )


def test_a_folder_without_a_configuration_and_no_folder_at_all(new_world: World) -> None:
    folder = new_world.folder / "model"
    vit(folder)
    (folder / "config.json").unlink()
    hint = "name a folder that save_pretrained of transformers has written"
    assert refusal(new_world, "hf:model") == f"dissectdb: network.architecture: model has no config.json; {hint}"
    assert refusal(new_world, "hf:./modle") == f"dissectdb: network.architecture: modle: no such folder; {hint}"


def test_without_transformers_the_message_names_the_extra(
    new_world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (new_world.folder / "model").mkdir()
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert refusal(new_world, "hf:model") == (
        "dissectdb: hf: needs the package transformers: pip install 'dissectdb[hf]'"
    )
