"""Mean and standard deviation of the log-likelihood of random images, which have nothing to do with a neuron.

mean, sd = null_moments(shares, tilts)                       # (C,) each
found = moments_by_length(shares, {20: tilts, 100: others})  # length → mean, sd

Formulas: methods.md §3. g is smooth in the logarithm of 1 + t_r, so that what is summed over the ranks needs to be
computed at a few nodes only, which serve lists of every length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

NODES = 12  # of the interpolation over ranks; its error is below 1e-6 of the mean
ELEMENTS = 1 << 22  # node × image × concept values at a time


def null_moments(shares: Tensor, tilts: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) of Σ_r ln(1 + t_r P[i_r]) over random ordered samples of different images.

    mean = Σ_r mean_i g_r;  variance = Σ_r var_i g_r - (var_i Σ_r g_r - Σ_r var_i g_r) / (N - 1), with
    g_r(i) = ln(1 + t_r P[i]).
    """
    nodes, weights = interpolation_nodes(np.log1p(np.asarray(tilts)))
    mean = torch.zeros(shares.shape[1], dtype=torch.float64)
    variance = torch.zeros_like(mean)
    total = torch.zeros(shares.shape, dtype=torch.float32)
    for node, weight in zip(nodes, weights, strict=True):
        gains = torch.log1p(shares * float(np.expm1(node)))
        average = gains.mean(dim=0, dtype=torch.float64)
        mean += weight * average
        variance += weight * (gains - average.float()).square_().mean(dim=0, dtype=torch.float64)
        total += float(weight) * gains
    spread = (total - total.mean(dim=0)).square_().mean(dim=0, dtype=torch.float64)
    variance -= (spread - variance) / max(len(shares) - 1, 1)
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
    return (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)


def interpolation(positions: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """(position, node): weights with which values at the nodes give those at the positions (Lagrange)."""
    basis = np.ones((len(positions), len(nodes)))
    for j, node in enumerate(nodes):
        for other in np.delete(nodes, j):
            basis[:, j] *= (positions - other) / (node - other)
    return basis


def moments_by_length(shares: Tensor, tilts: Mapping[int, Sequence[float]]) -> dict[int, tuple[Tensor, Tensor]]:
    """null_moments for lists of several lengths, {length: t_r}, at the cost of little more than one."""
    places = {length: np.log1p(np.asarray(each)) for length, each in tilts.items()}
    low, high = (what(np.concatenate(list(places.values()))) for what in (np.min, np.max))
    if high - low < 1e-12:
        nodes, weights = np.array([low]), {length: np.array([float(length)]) for length in places}
    else:
        nodes = _chebyshev(low, high)
        weights = {length: interpolation(each, nodes).sum(axis=0) for length, each in places.items()}
    lengths = list(places)
    weight = torch.from_numpy(np.stack([weights[length] for length in lengths])).to(shares.device)  # (length, node)
    mean = torch.empty(len(lengths), shares.shape[1], dtype=torch.float64, device=shares.device)
    variance = torch.empty_like(mean)
    tilt = torch.from_numpy(np.expm1(nodes)).to(shares)[:, None]
    width = max(1, ELEMENTS // (len(nodes) * len(shares)))
    for first in range(0, shares.shape[1], width):
        columns = slice(first, first + width)
        gains = torch.log1p(shares.T[columns, None] * tilt)  # (concept, node, image)
        average = gains.mean(dim=2, dtype=torch.float64)
        gains -= average[..., None].to(gains)
        joint = (gains @ gains.mT).double() / len(shares)  # (concept, node, node)
        own = weight @ joint.diagonal(dim1=1, dim2=2).T
        total = torch.einsum("lj,cjk,lk->lc", weight, joint, weight)
        mean[:, columns] = weight @ average.T
        variance[:, columns] = own - (total - own) / max(len(shares) - 1, 1)
    sd = variance.clamp(min=0).sqrt()
    return {length: (mean[place], sd[place]) for place, length in enumerate(lengths)}
