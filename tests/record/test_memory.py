"""What extract does where the device has too little memory, and with other precisions."""

from __future__ import annotations

from collections.abc import Callable

import open_clip
import pytest
import torch

from dissectdb.extract.models import devices, memory, streams
from dissectdb.extract.record import blocks
from tests.support.worlds import World


def test_texts_that_do_not_fit_into_memory_are_embedded_in_parts(
    new_world: World, finished: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    encode = open_clip.CLIP.encode_text

    def refusing(self: torch.nn.Module, tokens: torch.Tensor, *rest: object) -> torch.Tensor:
        sizes.append(len(tokens))
        if len(tokens) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, tokens, *rest)

    monkeypatch.setattr(open_clip.CLIP, "encode_text", refusing)
    monkeypatch.setattr(memory, "MAX_AT_ONCE", {})
    assert new_world.extract().code == 0
    assert sum(size > 3 for size in sizes) <= 2, "it is not tried again"
    query = (
        "select concept_id, list_transform(embedding, lambda x: round(x, 4)) as e from concept_embeddings order by 1"
    )
    assert new_world.rows(query) == finished.rows(query)


def test_a_study_may_choose_the_precision(new_world: World) -> None:
    assert new_world.extract().code == 0
    assert not torch.backends.cudnn.allow_tf32, "full precision unless asked"
    try:
        assert new_world.extract("--set", "network.precision=tf32", "--set", "clip.precision=bfloat16").code == 0
        assert torch.backends.cudnn.allow_tf32
    finally:
        devices.allow_tf32(False)
    rows = new_world.rows("select distinct target, precision from extractions order by all")
    assert [(row["target"], row["precision"]) for row in rows] == [
        ("activation_maps", "float32"), ("activation_maps", "tf32"),
        ("activations", "float32"), ("activations", "tf32"),
        ("image_embeddings", "bfloat16"), ("image_embeddings", "float32"),
        ("predictions", "float32"), ("predictions", "tf32"),
    ]  # fmt: skip
    again = new_world.run("check", "--deep", new_world.study, "--set", "clip.precision=bfloat16")
    assert again.code == 0, again.out


@pytest.fixture
def fitting(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """fitting(6): from now on the device has memory for 6 images; returns the list of batch sizes, which grows."""

    def fit(most: int) -> list[int]:
        sizes: list[int] = []
        run = blocks._run_network

        def refusing(network, layers, taps, look, pixels, *rest):
            sizes.append(len(pixels))
            if len(pixels) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            run(network, layers, taps, look, pixels, *rest)

        monkeypatch.setattr(blocks, "_run_network", refusing)
        monkeypatch.setattr(memory, "MAX_AT_ONCE", {})
        monkeypatch.setattr(streams, "count", lambda device: 1)  # as on a GPU, the device that runs out
        return sizes

    return fit


def test_a_batch_that_does_not_fit_is_halved_and_later_batches_keep_that_size(
    new_world: World, finished: World, fitting: Callable[[int], list[int]]
) -> None:
    sizes = fitting(6)
    assert new_world.extract().code == 0
    assert sizes[:3] == [16, 8, 4]
    assert max(sizes[2:]) == 4  # it is not tried again
    query = "select neuron_id, image_id, round(value, 4) as value from activations order by all"
    assert new_world.rows(query) == finished.rows(query)
    query = "select network_id, image_id, class, round(confidence, 4) as confidence from predictions order by all"
    assert new_world.rows(query) == finished.rows(query)


def test_a_device_without_memory_for_one_image_is_an_error(
    new_world: World, fitting: Callable[[int], list[int]]
) -> None:
    fitting(0)
    done = new_world.extract()
    assert (done.code, "has too little memory for one image" in done.err) == (2, True)
