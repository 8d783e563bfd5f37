"""Several batches at a time: each stream has its own modules, and the results are those of one batch after another."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from dissectdb.extract.models import batches, streams
from tests.support.worlds import World

CPU = torch.device("cpu")


class Keeping(nn.Module):
    """A network that stores a value in itself, which it reads later in the same pass."""

    meet = staticmethod(lambda: None)  # between the two

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(4, 4)

    def forward(self, images: Tensor) -> Tensor:
        self.kept = images
        outputs = self.lin(images)
        self.meet()
        return outputs + self.kept


class Listening(nn.Module):
    """A network whose hook refers to this very object, so that a copy reads the outputs of the original."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(4, 4)
        self.heard: list[Tensor] = []
        self.lin.register_forward_hook(lambda module, inputs, output: self.heard.append(output))

    def forward(self, images: Tensor) -> Tensor:
        self.lin(images)
        return self.heard[-1]


class Locked(Keeping):
    """A network with an attribute that cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def pass_through(model: nn.Module, images: Tensor) -> Tensor:
    return model(images)


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "count", lambda device: 2)


@pytest.mark.usefixtures("two_cores")
def test_a_replica_shares_the_weights_and_stores_its_own_values(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Keeping().eval()
    [other] = streams.replicas(model, pass_through, (4,), CPU)
    assert other.lin.weight.data_ptr() == model.lin.weight.data_ptr()
    batches_of_images = torch.rand(40, 3, 4)
    with torch.inference_mode():
        expected = [model(batch) for batch in batches_of_images]
    outputs: dict[int, Tensor] = {}

    def work(model: nn.Module, batch: Tensor, first: int) -> None:
        with torch.inference_mode():
            outputs[first] = model(batch)

    barrier = threading.Barrier(2)  # both streams are between storing and reading at the same time
    monkeypatch.setattr(Keeping, "meet", staticmethod(lambda: barrier.wait(10)))
    assert list(streams.run(work, iter(batches_of_images), 120, [model, other])) == list(range(3, 121, 3))
    for index, logits in enumerate(expected):
        torch.testing.assert_close(outputs[3 * index], logits)


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("network", [Listening, Locked])
@pytest.mark.parametrize("ran_before", [False, True])
def test_a_network_whose_copy_gives_another_output_has_no_replica(network: type[nn.Module], ran_before: bool) -> None:
    model = network().eval()
    if ran_before:
        model(torch.zeros(2, 4))
    assert streams.replicas(model, pass_through, (4,), CPU) == []


def numbers() -> Iterator[list[int]]:
    for first in range(0, 100, 10):
        yield list(range(first, first + 10))


@pytest.mark.parametrize("models", ["a", "ab", "abcd"])
def test_every_batch_is_worked_on_once_and_counted_in_order(models: str) -> None:
    threads = torch.get_num_threads()
    seen: list[tuple[str, list[int], int]] = []
    done = streams.run(lambda *given: seen.append(given), numbers(), 100, models)
    assert list(done) == list(range(10, 101, 10))
    assert sorted(batch for _, batch, _ in seen) == list(numbers())
    assert all(batch[0] == place for _, batch, place in seen)
    assert {model for model, _, _ in seen} <= set(models)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("models", ["a", "ab"])
def test_an_error_in_a_batch_ends_the_run(models: str) -> None:
    def work(model: str, batch: list[int], place: int) -> None:
        if place == 50:
            raise ValueError("the sixth")

    threads, done = torch.get_num_threads(), []
    with pytest.raises(ValueError, match="the sixth"):
        done.extend(streams.run(work, numbers(), 100, models))
    assert torch.get_num_threads() == threads
    assert list(streams.run(work, numbers(), 50, models))[-1] == 50, "the next run is not disturbed"


def test_an_error_of_the_source_ends_the_run() -> None:
    def broken() -> Iterator[list[int]]:
        yield [1, 2]
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(streams.run(lambda *given: None, broken(), 10, "ab"))


def test_an_extraction_gives_the_same_rows_in_one_stream_and_in_three(
    new_world: World, finished: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "batch_size", lambda device: 3)
    monkeypatch.setattr(streams, "count", lambda device: 3)
    made: list[list[nn.Module]] = []
    make = streams.replicas
    monkeypatch.setattr(streams, "replicas", lambda *given: made.append(make(*given)) or made[-1])
    assert new_world.extract().code == 0
    assert [len(copies) for copies in made] == [2, 2], "of the network and of CLIP"
    for query in (
        "select neuron_id, image_id, round(value, 4) as value from activations order by all",
        "select image_id, class, round(confidence, 4) as confidence from predictions order by all",
        "select image_id, list_transform(embedding, lambda x: round(x, 4)) as e from image_embeddings order by all",
        "select dissection_id, neuron_id, concept_id from neuron_labels order by all",
    ):
        assert new_world.rows(query) == finished.rows(query)
