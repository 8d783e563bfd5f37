"""What a block's activations come to: in memory and on a device alike, against numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectdb.extract.record import summaries
from dissectdb.extract.record.summaries import sum_up
from dissectdb.extract.scoring import topk
from dissectdb.extract.study import STORED_IMAGES


def drawn(seed: int, images: int, units: int) -> np.ndarray:
    """Activations (image, unit): after a ReLU, of few values, constant, of either sign and any size."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(images, units)).astype(np.float32)
    kinds = random.integers(5, size=units)
    values[:, kinds == 1] = np.maximum(values[:, kinds == 1], 0)
    values[:, kinds == 2] = values[:, kinds == 2].round(1)
    values[:, kinds == 3] = 0.25
    values[:, kinds == 4] *= np.float32(1e20)
    return values


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), images=st.sampled_from([1, 2, 255, 256, 257, 700]), units=st.integers(1, 20))
def test_both_ways_of_summing_up_say_what_numpy_says(seed, images, units):
    values = drawn(seed, images, units)
    kept = min(STORED_IMAGES, images)
    exact = values.astype(np.float64)
    for found in (sum_up(values), sum_up(torch.from_numpy(values))):
        assert found.images == images
        for unit, column in enumerate(values.T):
            best = np.lexsort((np.arange(images), -column))[:kept]
            assert found.top_indices[unit].tolist() == best.tolist()
            np.testing.assert_array_equal(found.tops[unit], column[best])
            different = np.unique(column)
            assert (unit in found.few) == (len(different) < STORED_IMAGES)
            np.testing.assert_array_equal(found.few.get(unit, different), different)
        np.testing.assert_allclose(found.total, exact.sum(0), rtol=1e-12, atol=1e-12 * np.abs(exact).sum(0).max())
        np.testing.assert_allclose(found.total_squares, (exact**2).sum(0), rtol=1e-12)
        np.testing.assert_array_equal(found.lowest, values.min(0))
        np.testing.assert_array_equal(found.highest, values.max(0))


def test_a_layer_is_summed_up_on_a_device_in_pieces(monkeypatch: pytest.MonkeyPatch):
    values = drawn(1, 300, 50)
    whole = sum_up(torch.from_numpy(values))
    monkeypatch.setattr(topk, "NEURONS_ON_DEVICE", 7)
    pieces = sum_up(torch.from_numpy(values))
    for name in ("top_indices", "tops", "lowest", "highest"):
        np.testing.assert_array_equal(getattr(pieces, name), getattr(whole, name))
    for name in ("total", "total_squares"):
        np.testing.assert_allclose(getattr(pieces, name), getattr(whole, name), rtol=1e-12)
    assert pieces.few.keys() == whole.few.keys()
    assert summaries.NEURONS_AT_ONCE > 50, "this layer is one piece in memory"
