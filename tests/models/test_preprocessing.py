"""Preprocessing on the device against PIL, which is what networks and CLIPs were trained with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import image_transform
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from dissectdb.extract.models.preprocessing import Recipe

CPU = torch.device("cpu")
MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
SHAPES = [(48, 48), (48, 48, 3), (60, 91, 3), (120, 50, 3), (33, 20), (64, 64, 3), (150, 100, 3)]


def picture(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Something between a photograph and noise."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (max(shape[0] // 6, 2), max(shape[1] // 6, 2), 3), dtype=np.uint8)
    smooth = np.array(Image.fromarray(coarse).resize(shape[1::-1], Image.Resampling.BICUBIC)).astype(int)
    noisy = (smooth + random.integers(-15, 16, smooth.shape)).clip(0, 255).astype(np.uint8)
    return noisy if len(shape) == 3 else noisy[..., 0]


def levels_apart(ours: Tensor, theirs: Tensor) -> Tensor:
    """Distance in grey levels of two images that are normalised by MEAN and STD."""
    return (ours - theirs).abs() * torch.tensor(STD).view(3, 1, 1) * 255


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize", ["shortest", "squash", "longest"])
def test_a_batch_on_the_device_is_what_open_clips_own_transform_gives(
    resize: str, interpolation: str, shape: tuple[int, ...]
) -> None:
    recipe = Recipe(56, resize=resize, interpolation=interpolation, mean=MEAN, std=STD, fill=9)
    transform = image_transform(
        56, False, mean=MEAN, std=STD, resize_mode=resize, interpolation=interpolation, fill_color=9
    )
    image = picture(shape)
    ours, theirs = recipe.apply([image], CPU)[0], transform(Image.fromarray(image))
    assert torch.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.9995
    assert levels_apart(ours, theirs).max() < 4.01
    assert levels_apart(ours, theirs).mean() < 0.35


@pytest.mark.parametrize("shape", [(48, 48), (64, 40)], ids=str)
def test_squash_bilinear_grey_is_torchvisions_antialiased_resize_of_the_pil_image(shape: tuple[int, int]) -> None:
    image = picture(shape)
    theirs = transforms.ToTensor()(
        transforms.Resize((40, 40), InterpolationMode.BILINEAR, antialias=True)(Image.fromarray(image))
    )
    ours = Recipe(40, mode="grey", resize="squash", interpolation="bilinear").apply([image], CPU)[0]
    assert (ours - theirs).abs().max() * 255 < 1.01


def test_without_rounding_a_batch_is_the_resized_tensor_itself() -> None:
    image = picture((48, 48))
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None, None].float() / 255, (40, 40), mode="bilinear", antialias=True
    )
    exact = Recipe(40, "grey", rounding=False).apply([image], CPU)
    torch.testing.assert_close(exact, theirs, atol=1e-6, rtol=0)
    rounded = Recipe(40, "grey").apply([image], CPU) * 255
    torch.testing.assert_close(rounded, rounded.round(), atol=1e-4, rtol=0)
    assert not torch.allclose(exact * 255, (exact * 255).round(), atol=0.1)


def test_an_image_of_the_right_size_passes_as_it_is() -> None:
    image = picture((40, 40))
    for rounding in (True, False):
        for resize in ("squash", "shortest", "longest"):
            batch = Recipe(40, "grey", resize, rounding=rounding).apply([image], CPU)
            torch.testing.assert_close(batch[0, 0], torch.from_numpy(image) / 255)


@settings(max_examples=60, deadline=None)
@given(colours=st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=60))
def test_colours_become_the_grey_that_pil_makes_of_them(colours: list[tuple[int, int, int]]) -> None:
    image = np.array([colours], np.uint8)
    ours = Recipe(1, "grey").to_mode(torch.from_numpy(image).permute(2, 0, 1)[None])
    assert ours[0, 0].tolist() == np.array(Image.fromarray(image).convert("L")).tolist()


def test_every_rounding_of_pils_grey_is_ours() -> None:
    image = np.random.default_rng(1).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    ours = Recipe(1, "grey").to_mode(torch.from_numpy(image).permute(2, 0, 1)[None])[0, 0]
    assert np.array_equal(ours.numpy(), np.array(Image.fromarray(image).convert("L")))


def test_grey_becomes_three_equal_channels() -> None:
    image = picture((8, 8))
    batch = Recipe(8, "rgb").apply([image], CPU)
    assert batch.shape == (1, 3, 8, 8)
    assert all(torch.equal(batch[0, channel], batch[0, 0]) for channel in range(3))


@pytest.mark.parametrize("resize", ["squash", "shortest", "longest"])
@pytest.mark.parametrize("mode", ["grey", "rgb"])
def test_mixed_sizes_in_one_batch_come_out_as_one_by_one(mode: str, resize: str) -> None:
    images = [picture(shape, seed) for seed, shape in enumerate(SHAPES)]
    recipe = Recipe(24, mode=mode, resize=resize)
    together = recipe.apply(images, CPU)
    assert torch.equal(together, torch.cat([recipe.apply([image], CPU) for image in images]))


def test_images_of_one_size_come_out_as_one_by_one() -> None:
    images = [picture((30, 41, 3), seed) for seed in range(5)]
    recipe = Recipe(24, resize="shortest", interpolation="bicubic", rounding=False)
    together = recipe.apply(images, CPU)
    torch.testing.assert_close(together, torch.cat([recipe.apply([image], CPU) for image in images]))


def test_mean_and_std_are_per_channel_on_values_from_0_to_1() -> None:
    white = np.full((4, 4, 3), 255, np.uint8)
    batch = Recipe(4, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0)).apply([white], CPU)
    assert batch[0, :, 0, 0].tolist() == [1.0, 3.0, 0.5]


def test_the_images_are_left_as_they_are() -> None:
    image = picture((8, 8))
    before = image.copy()
    Recipe(8, "grey", mean=(0.5,), std=(0.1,), rounding=False).apply([image], CPU)
    assert np.array_equal(image, before)


def test_longest_keeps_the_whole_image_and_fills_the_rest_evenly() -> None:
    white = np.full((8, 4), 255, np.uint8)
    batch = Recipe(8, "grey", "longest", fill=51.0).apply([white], CPU)[0, 0]
    assert batch[0].tolist() == pytest.approx([0.2, 0.2, 1, 1, 1, 1, 0.2, 0.2])


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (1, 1)])
@pytest.mark.parametrize("resize", ["squash", "shortest", "longest"])
def test_a_sliver_of_an_image_still_has_the_size(resize: str, shape: tuple[int, int]) -> None:
    batch = Recipe(16, "grey", resize).apply([np.full(shape, 255, np.uint8)], CPU)
    assert batch.shape == (1, 1, 16, 16)
    assert batch.isfinite().all()


@given(
    st.sampled_from(["squash", "shortest", "longest"]),
    st.tuples(st.integers(20, 90), st.integers(20, 90)),
    st.sampled_from([(24, None), (24, 32), (23, 32), (24, 29)]),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_part_that_is_seen_is_the_part_whose_pixels_are_prepared(
    resize: str, shape: tuple[int, int], sizes: tuple[int, int | None], floor_crop: bool
) -> None:
    """Of an image that grows brighter downwards, and one that does so to the right."""
    (height, width), (size, scaled) = shape, sizes
    if resize == "longest":
        scaled = None
    recipe = Recipe(
        size, mode="grey", resize=resize, rounding=False, scaled=scaled, floor_crop=floor_crop, fill=-1000.0
    )
    part = recipe.seen_part(width, height)
    down = np.broadcast_to(((np.arange(height) + 0.5) / height * 255)[:, None], (height, width))
    across = np.broadcast_to((np.arange(width) + 0.5) / width * 255, (height, width))
    for ramp, axis, begin, end in ((down, 1, part.top, part.bottom), (across, 0, part.left, part.right)):
        prepared = recipe.apply([ramp.astype(np.uint8)], CPU)[0, 0].numpy()
        line = prepared.max(axis=axis)  # not of padding, which is far below
        centres = begin + (np.arange(size) + 0.5) / size * (end - begin)
        inside = (line > -1) & (centres > 0.1) & (centres < 0.9)  # at the edges an antialiased ramp is flat
        assert inside.sum() >= size / 8  # of an image that is 4.5 times as long as wide, most is padding
        assert np.abs(line[inside] - centres[inside]).max() < 1.5 / 255 + 0.3 / min(height, width)


def test_of_a_very_long_image_the_middle_is_seen() -> None:
    part = Recipe(224, resize="shortest").seen_part(60_000, 1)
    assert (part.top, part.bottom) == (0, 1)
    assert part.left + part.right == pytest.approx(1, abs=1e-4)
    assert part.right - part.left == pytest.approx(1 / 60_000, rel=0.01)
