"""The trainer learns, resumes to the same weights, and refuses a checkpoint of another run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dissectdb.extract.training.fit import augment, fit, predict, prepare


def splits(count: int = 96) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Dark images with a bright bar at the top (0) or at the bottom (1); a flip does not change the class."""
    labels = torch.arange(count) % 2
    images = torch.randint(0, 60, (count, 12, 12), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    images[labels == 0, 1:4] += 150
    images[labels == 1, 8:11] += 150
    return (images[:64], labels[:64]), (images[64:], labels[64:])


def network() -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(4 * 64, 2)
    )


def run(checkpoint: Path | None = None, epochs: int = 5, **settings) -> tuple[nn.Module, list[dict]]:
    model, (train, validation) = network(), splits()
    return model, fit(
        model, train, validation, epochs=epochs, batch_size=16, size=10, checkpoint=checkpoint, **settings
    )


def test_a_small_network_learns_and_keeps_its_best_epoch():
    model, records = run()
    _, (images, labels) = splits()
    accuracy = float((predict(model, images, size=10).argmax(1) == labels).double().mean())
    assert accuracy >= 0.95
    assert accuracy == max(record["validation_accuracy"] for record in records)
    assert [record["epoch"] for record in records] == [1, 2, 3, 4, 5]


def test_an_interrupted_run_ends_with_the_weights_of_an_undisturbed_one(tmp_path):
    def stop(record: dict) -> None:
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    checkpoint = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, on_epoch=stop)
    assert torch.load(checkpoint, weights_only=True)["epoch"] == 2
    seen = []
    resumed, records = run(checkpoint, on_epoch=seen.append)
    whole, expected = run()
    assert [record["epoch"] for record in seen] == [3, 4, 5]
    assert [r["validation_loss"] for r in records] == [r["validation_loss"] for r in expected]
    for name, weights in whole.state_dict().items():
        assert torch.equal(weights, resumed.state_dict()[name]), name
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def test_a_finished_run_is_not_trained_again(tmp_path):
    first, _ = run(tmp_path / "run.pt")
    again, records = run(tmp_path / "run.pt", on_epoch=lambda record: pytest.fail("trained again"))
    assert len(records) == 5
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_a_checkpoint_of_other_settings_is_refused_by_name(tmp_path):
    run(tmp_path / "run.pt", epochs=1)
    with pytest.raises(ValueError, match=r"another epochs, learning_rate;.*remove the file"):
        run(tmp_path / "run.pt", epochs=2, learning_rate=0.01)


def test_the_callers_random_state_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    model, (train, validation) = network(), splits()
    torch.manual_seed(3)
    fit(model, train, validation, epochs=1, size=10)
    assert torch.equal(torch.rand(4), expected)


def test_augmentation_moves_images_a_little_and_repeats_with_its_seed():
    images = splits()[0][0]
    first, again = (augment(images, 10, torch.Generator().manual_seed(5)) for _ in range(2))
    plain = prepare(images, 10)
    assert first.shape == plain.shape == (64, 1, 10, 10)
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[2])
    assert float((first.mean((1, 2, 3)) - plain.mean((1, 2, 3))).abs().max()) < 0.12
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
