"""What the view dissected_neurons says of a layer, for activations in memory, such as a part of the images.

dead, lengths, groups = dissected_neurons(settings, activations)  # (K,) each; activations (N, K)

The view sorts stored activations of all images; the rules here are its own, and docs/methods.md, section 3, has them.
"""

from __future__ import annotations

import numpy as np

from dissectdb.extract.scoring import topk
from dissectdb.extract.scoring.problem import Settings
from dissectdb.extract.study import STORED_IMAGES


def dissected_neurons(
    settings: Settings, activations: np.ndarray, is_part: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which neurons take no label (dead or sparse), how many images score each (list_images), and its null_group.

    is_part: of at most 256 images, no neuron is taken for ordinary, unlike in the view. All its activations are known,
    so that its null is drawn from them; normal noise would be too narrow for skewed ones.
    """
    images, list_images = len(activations), settings.declaration.list_images
    most = min(images if list_images is None else list_images(settings, images), STORED_IMAGES)
    usable, dead = np.empty(activations.shape[1], np.int64), np.zeros(activations.shape[1], bool)
    for k, column in enumerate(activations.T):
        usable[k] = usable_images(column, most, settings)
        dead[k] = column.min() == column.max() or usable[k] < min(settings.min_images, most)
    lengths = topk.list_lengths(usable, most)
    return dead, lengths, null_groups(settings, activations, usable, lengths, most, is_part)


def usable_images(column: np.ndarray, most: int, settings: Settings) -> int:
    """How many top images can score a neuron (image,): it fires on all, and no tie decides which images count."""
    falling = np.sort(column)[::-1]
    fired = (falling > falling[-1]).sum()
    count = min(most, fired + (fired == len(falling) - 1))
    few_valued = settings.declaration.list_images is not None and len(np.unique(column)) < settings.top_k
    if few_valued and count and (falling >= falling[count - 1]).sum() > count:
        return int((falling > falling[count - 1]).sum())
    return int(count)


def null_groups(
    settings: Settings, activations: np.ndarray, usable: np.ndarray, lengths: np.ndarray, most: int, is_part: bool
) -> np.ndarray:
    """(K,) which neurons share a null distribution: null_group of the view."""
    if not settings.declaration.reads_activations:
        return lengths
    lists_matter = settings.declaration.list_images is not None
    images, groups = len(activations), np.empty(activations.shape[1], np.int64)
    for k, column in enumerate(activations.T.astype(np.float64)):
        fired = (column > column.min()).sum()
        fired += fired == images - 1
        sd = column.std() if column.min() < column.max() else 1.0
        rising = np.sort((column - column.mean()) / sd)
        top = rising[::-1][:STORED_IMAGES]
        fourth = _power_mean(top, images, 4)
        ordinary = fired >= min(images, STORED_IMAGES) and (fourth <= 6 or images / fourth >= 512)
        if lists_matter:
            ordinary = ordinary and usable[k] == most
            effective = _effective_cubes(top[: lengths[k]])
        elif settings.scorer == "cos_cubed":
            first, second, third, last = (_power_mean(top, images, power) for power in (3, 6, 9, 12))
            kurtosis = last - 4 * first * third + 6 * first**2 * second - 3 * first**4
            effective = images * (second - first**2) ** 2 / max(kurtosis, 1e-300)
            ordinary = ordinary and images > STORED_IMAGES and 100 * effective >= images
        else:
            effective = images / max(fourth, 1e-300)
            ordinary = ordinary and not (is_part and images <= STORED_IMAGES)
        if ordinary:
            groups[k] = lengths[k] if lists_matter else most
        else:
            rounded = min(512, int(topk.list_lengths(np.array([effective + 1e-6]), 1 << 40)[0]))
            groups[k] = 1000 * rounded + lengths[k] if lists_matter else 1000 * rounded or most
    return groups


def _effective_cubes(listed: np.ndarray) -> float:
    """The effective number of images of the cubed distances from the last listed value."""
    cubes = (listed - listed[-1]) ** 3 if len(listed) else np.zeros(1)
    return cubes.sum() ** 2 / max((cubes**2).sum(), 1e-300)


def _power_mean(top: np.ndarray, images: int, power: int) -> float:
    """The mean of a power of standardised values. Only the highest are given; the rest is taken to have two values."""
    others = images - len(top)
    if not others:
        return (top**power).mean()
    mean = -top.sum() / others
    variance = max((images - (top**2).sum()) / others - mean**2, 0)
    distance = top[-1] - mean
    high = others * variance / (variance + distance**2) if variance else 0
    low = mean - variance / distance if distance else mean
    return ((top**power).sum() + high * top[-1] ** power + (others - high) * low**power) / images
