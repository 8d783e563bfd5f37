"""train: from a study's images to a checkpoint that the study can be extracted with."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from tests.support.worlds import World, command


@pytest.fixture
def study(new_world: World) -> World:
    """A world with a small VGGNet that has no weights yet."""
    new_world.change(
        '"net.py:make"\nweights = "net.pt"',
        '"vggnet"\narguments = { channels = [4, 4, 4, 4], hidden = 8, classes = 3 }',
    )
    new_world.change(
        'layers = ["conv1", { name = "conv2", pooling = "max" }, "lin", "gate"]', 'layers = ["conv4b", "lin2"]'
    )
    new_world.change(
        'size = 16\nmode = "grey"\nmean = [0.5]\nstd = [0.25]', 'size = 40\nmode = "grey"\nrounding = false'
    )
    text = new_world.study.read_text().partition("[[edits]]")[0]
    new_world.study.write_text(text + '[[edits]]\nname = "paper"\n')
    return new_world


def train(world: World, output: str, *options: object) -> object:
    return command("train", world.study, "-o", world.folder / output, "--epochs", 2, *options)


@pytest.mark.parametrize("output", ["vgg.safetensors", "vgg.pt"])
def test_the_checkpoint_is_one_that_extract_can_load(study: World, output: str) -> None:
    done = train(study, output)
    assert done.code == 0, done.err
    assert done.out == f"checkpoint: {study.folder / output}\n"
    assert done.err.count("validation_accuracy") == 2
    assert [path.name for path in study.folder.glob("vgg*")] == [output]
    assert study.extract("--set", f"network.weights={study.folder / output}").code == 0
    assert study.modify("--set", f"network.weights={study.folder / output}").code == 0
    assert study.run("check").code == 0


def test_a_stopped_run_goes_on_and_ends_with_the_same_weights(study: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert train(study, "whole.safetensors").code == 0
    from dissectdb.commands import stages

    def stop(text: str, style: str = "") -> None:
        if text.startswith("epoch"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stages, "say", stop)
        assert train(study, "stopped.safetensors").code == 130
    assert not (study.folder / "stopped.safetensors").exists()
    done = train(study, "stopped.safetensors")
    assert done.code == 0
    assert done.err.count("validation_accuracy") == 1
    first, second = ((study.folder / f"{name}.safetensors").read_bytes() for name in ("whole", "stopped"))
    assert first == second


def test_what_was_begun_with_other_settings_is_not_continued(study: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from dissectdb.commands import stages

    def stop(text: str, style: str = "") -> None:
        if text.startswith("epoch"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stages, "say", stop)
        assert train(study, "vgg.pt").code == 130
    done = train(study, "vgg.pt", "--seed", 5)
    assert done.code == 2
    assert "vgg.pt.training was written with another seed" in done.err
    assert "or remove the file" in done.err


REFUSED = {
    "inputs prepared otherwise": ("rounding = false", "rounding = true", "train can only prepare images as"),
    "other numbers of classes": ("classes = 3 }", "classes = 7 }", "names 3 classes, the network has 7 outputs"),
    "a dataset that is not there": ('path = "images"', 'path = "imges"', "did you mean"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_trained_is_refused(study: World, what: str) -> None:
    old, new, says = REFUSED[what]
    study.change(old, new)
    done = train(study, "vgg.pt")
    assert done.code == 2
    assert says in done.err
    assert list(study.folder.glob("vgg*")) == []


def test_an_output_folder_that_is_not_there_is_refused(study: World) -> None:
    done = train(study, "no/vgg.pt")
    assert done.code == 2
    assert "there is no folder" in done.err


def test_images_of_another_size_are_refused_with_their_name(study: World) -> None:
    large = np.random.default_rng(0).integers(0, 256, (20, 20), np.uint8)
    PIL.Image.fromarray(large).save(study.folder / "images" / "train" / "disc" / "large.png")
    done = train(study, "vgg.pt")
    assert done.code == 2
    assert "train/disc/large.png is 20 × 20, the first image 16 × 16" in done.err
