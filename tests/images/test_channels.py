"""Images of two, four or more channels: stored as they are; a study names those that network and CLIP see."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dissectdb.extract import study
from dissectdb.extract.images.decoding import BLANK_DEVIATION, inspect, is_blank, pixel_hash
from dissectdb.extract.images.sources import open_source
from dissectdb.extract.models import repeatability
from dissectdb.extract.models.preprocessing import Recipe
from dissectdb.extract.record.network_plan import refuse_channels
from dissectdb.extract.study import Dataset, StudyError
from tests.support.image_files import noise, quickly

CPU = torch.device("cpu")


def shown(pixels: np.ndarray, channels: tuple[int, ...] = ()) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(inspect(pixels, channels).thumbnail)))


@pytest.mark.parametrize("channels", [2, 4, 13])
def test_images_keep_their_channels(channels):
    pixels = [noise(seed, 30, 32, channels) for seed in range(6)]
    source = open_source(Dataset(name="bands", kind="python"), pixels)
    images = list(source.scan())
    assert source.channels == {channels}
    assert [(image.width, image.height, image.defect) for image in images] == [(32, 30, None)] * 6
    for found, expected in zip(source.read(range(6)), pixels, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_hash_of_grey_and_rgb_is_what_it_was_and_tells_channels_apart():
    grey, colour = noise(0, 4, 6), noise(1, 4, 6, 3)
    assert pixel_hash(grey) == hashlib.sha256(b"L 4 6\n" + grey.tobytes()).hexdigest()
    assert pixel_hash(colour) == hashlib.sha256(b"RGB 4 6\n" + colour.tobytes()).hexdigest()
    zeros = [np.zeros(shape, np.uint8) for shape in ((4, 6), (4, 6, 2), (4, 3, 4), (4, 6, 3), (4, 6, 4))]
    assert len(set(map(pixel_hash, zeros))) == 5


@given(channels=st.integers(1, 6), seed=st.integers(0, 50), scale=st.floats(0, 0.2))
@quickly
def test_an_image_is_blank_if_no_channel_varies(channels, seed, scale):
    pixels = (noise(seed, 9, 7, channels) * scale).astype(np.uint8)
    pixels[..., : channels // 2] = 3
    expected = (pixels.reshape(-1, channels).std(0) < BLANK_DEVIATION).all()
    assert is_blank(pixels if channels > 1 else pixels[..., 0]) == expected


def test_thumbnails_show_the_channels_that_clip_sees():
    pixels = noise(1, 10, 10, 5)
    np.testing.assert_array_equal(shown(pixels), pixels[..., :3])
    np.testing.assert_array_equal(shown(pixels, (4, 0, 1)), pixels[..., [4, 0, 1]])
    np.testing.assert_array_equal(shown(pixels, (3,)), pixels[..., 3])
    np.testing.assert_array_equal(shown(pixels[..., :2]), pixels[..., 0])
    source = open_source(Dataset(name="bands", kind="python"), [pixels])
    source.shown = (4, 0, 1)
    [image] = source.scan()
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(io.BytesIO(image.thumbnail))), pixels[..., [4, 0, 1]])


# ---------------------------------------------------------------- recipes


def test_a_recipe_takes_the_channels_that_it_names_in_their_order():
    pixels = noise(1, 8, 8, 5)
    rgb = Recipe(8, channels=(4, 0, 1)).apply([pixels], CPU)
    np.testing.assert_allclose(rgb[0], pixels[..., [4, 0, 1]].transpose(2, 0, 1) / 255, atol=1e-6)
    one = Recipe(8, channels=(3,)).apply([pixels], CPU)
    np.testing.assert_allclose(one[0], np.stack([pixels[..., 3]] * 3) / 255, atol=1e-6)
    grey = Recipe(8, mode="grey", channels=(2,)).apply([pixels], CPU)
    np.testing.assert_allclose(grey[0], pixels[None, ..., 2] / 255, atol=1e-6)


def test_bands_are_all_channels_each_with_its_mean_and_deviation():
    pixels, mean, std = noise(1, 12, 12, 4), (0.1, 0.2, 0.3, 0.4), (0.5, 1.0, 1.5, 2.0)
    recipe = Recipe(12, mode="bands", mean=mean, std=std)
    assert recipe.shape == (4, 12, 12)
    expected = (pixels / 255 - mean) / std
    np.testing.assert_allclose(recipe.apply([pixels], CPU)[0], expected.transpose(2, 0, 1), atol=1e-5)
    small = Recipe(6, mode="bands", channels=(3, 1)).apply([pixels, noise(2, 20, 9, 4)], CPU)
    assert small.shape == (2, 2, 6, 6)
    with pytest.raises(StudyError, match="an image has 3 channels, which 12 × 12 bands"):
        recipe.apply([noise(1, 12, 12, 3)], CPU)


@pytest.mark.parametrize(
    "recipe", [Recipe(8, "grey", channels=(3,)), Recipe(8, channels=(4, 0, 1)), Recipe(8, "bands", channels=(3, 1))]
)
def test_noise_that_a_network_is_tried_with_has_the_channels_that_the_recipe_names(recipe):
    assert repeatability.noise(recipe).shape[1:] == recipe.shape


def test_a_recipe_without_channels_is_the_json_that_older_fingerprints_hold():
    assert Recipe(8).as_json() == (
        '{"fill": 0.0, "interpolation": "bilinear", "mean": [], "mode": "rgb", "resize": "squash", '
        '"rounding": true, "size": 8, "std": []}'
    )
    assert "channels" not in Recipe(8).as_dict()
    assert Recipe(8, channels=(1,)).as_dict()["channels"] == (1,)


@pytest.mark.parametrize(
    ("recipe", "taken"),
    [
        (Recipe(8), {1, 3}),
        (Recipe(8, "grey"), {1, 3}),
        (Recipe(8, channels=(0, 1, 2)), {3, 4, 5}),
        (Recipe(8, "bands", mean=(0.0,) * 4), {4}),
        (Recipe(8, "bands", channels=(3, 1)), {4, 5}),
    ],
)
def test_what_a_recipe_does_not_take_is_refused_before_anything_is_computed(recipe, taken):
    assert {count for count in range(1, 6) if recipe.takes(count)} == taken
    for count in range(1, 6):
        pixels = noise(1, 30, 30) if count == 1 else noise(1, 30, 30, count)
        source = open_source(Dataset(name="bands", kind="python"), [pixels])
        if count in taken:
            refuse_channels(source, recipe, "clip", "a hint")
        else:
            with pytest.raises(
                StudyError, match=f"clip: dataset bands has images of {count} channels, and 8 × 8"
            ) as error:
                refuse_channels(source, recipe, "clip", "a hint")
            assert "clip.channels = [0, 1, 2], a hint" in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "bands"}, "mode 'bands' needs mean, std or channels"),
        ({"mode": "bands", "mean": [0.1] * 4, "std": [0.1] * 3}, "std has 3 numbers; mode 'bands' has 4"),
        ({"mode": "bands", "channels": [0, 1], "mean": [0.1]}, "mean has 1 numbers; mode 'bands' has 2"),
        ({"channels": [0, 1]}, "channels has 2 numbers; name the one that is grey, or three"),
        ({"channels": [-1]}, "greater than or equal to 0"),
    ],
)
def test_channels_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValidationError) as error:
        study.Input(size=8, **settings)
    assert message in str(error.value)
    with pytest.raises(ValidationError, match="channels has 4 numbers"):
        study.Clip(architecture="a", weights="b", channels=[0, 1, 2, 3])
