"""Mean and standard deviation of the log-likelihood of random images, which are unrelated to any neuron.

mean, sd = null_moments(probabilities, slopes)                        # (C,) each
by_length = moments_by_length(probabilities, {20: slopes, 100: more})  # length → mean, sd

Formulas: docs/methods.md, section 3. g is smooth in the logarithm of 1 + t_r, so that sums over the ranks need g at a
few nodes only, which serve lists of every length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

# Of the interpolation over ranks, at least, and for each unit of its width: its error is below 1e-6 of the mean.
NODES, NODES_PER_UNIT = 12, 1.3
ELEMENTS_AT_ONCE = 1 << 22  # node × image × concept values


def null_moments(probabilities: Tensor, slopes: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) of Σ_r ln(1 + t_r P[i_r]) over random ordered samples of different images.

    mean = Σ_r mean_i g_r;  variance = Σ_r var_i g_r - (var_i Σ_r g_r - Σ_r var_i g_r) / (N - 1), with
    g_r(i) = ln(1 + t_r P[i]). probabilities: P (N, C). slopes: t_r.
    """
    nodes, weights = interpolation_nodes(np.log1p(np.asarray(slopes)))
    mean = torch.zeros(probabilities.shape[1], dtype=torch.float64)
    variance = torch.zeros_like(mean)
    total = torch.zeros(probabilities.shape, dtype=torch.float32)
    for node, weight in zip(nodes, weights, strict=True):
        gains = torch.log1p(probabilities * float(np.expm1(node)))
        average = gains.mean(dim=0, dtype=torch.float64)
        mean += weight * average
        variance += weight * (gains - average.float()).square_().mean(dim=0, dtype=torch.float64)
        total += float(weight) * gains
    spread = (total - total.mean(dim=0)).square_().mean(dim=0, dtype=torch.float64)
    variance -= (spread - variance) / max(len(probabilities) - 1, 1)
    return mean, variance.clamp(min=0).sqrt()


def interpolation_nodes(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Chebyshev nodes and weights with which Σ_r f(positions_r) ≈ Σ_j weights_j f(nodes_j) for smooth f."""
    low, high = positions.min(), positions.max()
    if high - low < 1e-12:
        return np.array([low]), np.array([float(len(positions))])
    if len(positions) <= NODES:
        return positions, np.ones(len(positions))
    nodes = _chebyshev(low, high)
    return nodes, interpolation(positions, nodes).sum(axis=0)


def _chebyshev(low: float, high: float) -> np.ndarray:
    count = max(NODES, math.ceil(NODES_PER_UNIT * (high - low)))
    return (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * (np.arange(count) + 0.5) / count)


def interpolation(positions: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """(position, node): weights with which values at the nodes give those at the positions (Lagrange)."""
    basis = np.ones((len(positions), len(nodes)))
    for j, node in enumerate(nodes):
        for other in np.delete(nodes, j):
            basis[:, j] *= (positions - other) / (node - other)
    return basis


def moments_by_length(
    probabilities: Tensor, slopes_by_length: Mapping[int, Sequence[float]]
) -> dict[int, tuple[Tensor, Tensor]]:
    """null_moments for lists of several lengths, {length: t_r}, at the cost of little more than one."""
    positions = {length: np.log1p(np.asarray(slopes)) for length, slopes in slopes_by_length.items()}
    all_positions = np.concatenate(list(positions.values()))
    low, high = all_positions.min(), all_positions.max()
    if high - low < 1e-12:
        nodes, weights = np.array([low]), {length: np.array([float(length)]) for length in positions}
    else:
        nodes = _chebyshev(low, high)
        weights = {length: interpolation(own, nodes).sum(axis=0) for length, own in positions.items()}
    lengths = list(positions)
    weight = torch.from_numpy(np.stack([weights[length] for length in lengths]))  # (length, node)
    weight = weight.to(probabilities.device)
    mean = torch.empty(len(lengths), probabilities.shape[1], dtype=torch.float64, device=probabilities.device)
    variance = torch.empty_like(mean)
    slopes = torch.from_numpy(np.expm1(nodes)).to(probabilities)[:, None]
    width = max(1, ELEMENTS_AT_ONCE // (len(nodes) * len(probabilities)))
    for first in range(0, probabilities.shape[1], width):
        columns = slice(first, first + width)
        gains = torch.log1p(probabilities.T[columns, None] * slopes)  # (concept, node, image)
        average = gains.mean(dim=2, dtype=torch.float64)
        gains -= average[..., None].to(gains)
        joint = (gains @ gains.mT).double() / len(probabilities)  # (concept, node, node)
        own_variance = weight @ joint.diagonal(dim1=1, dim2=2).T
        total = torch.einsum("lj,cjk,lk->lc", weight, joint, weight)
        mean[:, columns] = weight @ average.T
        variance[:, columns] = own_variance - (total - own_variance) / max(len(probabilities) - 1, 1)
    sd = variance.clamp(min=0).sqrt()
    return {length: (mean[row], sd[row]) for row, length in enumerate(lengths)}
