"""CLIP's embedding of each neuron, to search neurons by any text.

held = Embedded.of(reading)                     # reads every embedding of a best image once; seconds to a minute
found = held.nearest(text_embedding, most=60)   # rows with cosine, z and q

A neuron's mean is the mean embedding of its best IMAGES images that it fires on. Its own embedding is that mean less
the mean over the neurons of its layer, which all of them share. cosine: of the text with the neuron's own embedding;
the order of the answer.

How sure that is. If a neuron's images were drawn at random from the probing images, the mean of their cosines with the
text would have the mean mu of all probing images, and the standard deviation sigma / sqrt(number of its images). z is
how many of these standard deviations its mean lies above mu; mu and sigma are exact for the sample of images that was
read, because the variance of the cosine with a text t is t' C t, where C is the covariance of the embeddings. p is the
upper tail of the normal distribution at z. q is the share of false ones among all neurons with a p as small, after
Benjamini and Hochberg over every neuron of the dissection. So a small q says that the neuron's best images are more
like the text than images drawn at random, and not that the neuron finds what the text says.
"""

from __future__ import annotations

import json
import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import polars as pl

    from dissectdb.serve.store import Reading, Store

IMAGES = 16  # best images of a neuron
SAMPLE = 20_000  # probing images for mean and covariance
IMAGES_AT_ONCE = 16_384  # whose embeddings are in memory at a time


@dataclass(frozen=True)
class Embedded:
    """The neurons of a dissection: layers and units in one order, means (K, D), counts (K,).

    of_layer (K,): the index of a neuron's layer; layer_means (L, D); lengths (K,): of the neurons' own embeddings.
    mean (D,), covariance (D, D): of the probing images.
    """

    layers: list[str]
    units: np.ndarray
    of_layer: np.ndarray
    means: np.ndarray
    counts: np.ndarray
    layer_means: np.ndarray
    lengths: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray

    @staticmethod
    def of(reading: Reading) -> Embedded | None:
        """Read the embeddings of a dissection; None if it has none. Raises Held."""
        images = _matrix(reading.rows("probing_embeddings", most=SAMPLE))
        names = [row["layer"] for row in reading.records("layers")]
        if len(images) < 2 or not names:
            return None
        of_layer, units, means, counts = _means(reading, names, images.shape[1])
        if not len(units):
            return None
        layer_means = np.zeros((len(names), means.shape[1]), np.float32)
        lengths = np.zeros(len(units), np.float32)
        for place in np.unique(of_layer):
            own = of_layer == place
            layer_means[place] = means[own].mean(0, dtype=np.float64)
            lengths[own] = np.linalg.norm(means[own] - layer_means[place], axis=1)
        centred = images.astype(np.float64) - images.mean(0, dtype=np.float64)
        covariance = centred.T @ centred / len(images)
        mean = images.mean(0, dtype=np.float64)
        return Embedded(names, units, of_layer, means, counts, layer_means, lengths, mean, covariance)

    def nearest(self, text: list[float], most: int) -> list[dict[str, Any]]:
        """The neurons whose own embedding has the largest cosine with a text's, each with its z and q."""
        t = np.asarray(text, np.float64)
        dots = self.means @ t.astype(np.float32)
        own = dots - (self.layer_means @ t.astype(np.float32))[self.of_layer]
        # A neuron alone in its layer has no own embedding: nothing of it is left.
        cosines = np.where(self.lengths > 1e-6, own / np.maximum(self.lengths, 1e-6), -np.inf)
        sigma = math.sqrt(max(float(t @ self.covariance @ t), 0.0))
        z = (dots - float(t @ self.mean)) * np.sqrt(self.counts) / max(sigma, 1e-12)
        q = false_discovery_rates(z)
        order = np.argsort(-cosines, kind="stable")[:most]
        return [
            {
                "layer": self.layers[self.of_layer[k]],
                "unit": int(self.units[k]),
                "cosine": float(cosines[k]),
                "z": float(z[k]),
                "q": float(q[k]),
                "images": int(self.counts[k]),
            }
            for k in order
            if np.isfinite(cosines[k])
        ]


def false_discovery_rates(z: np.ndarray) -> np.ndarray:
    """(K,) q of one-sided normal tests with these z, by Benjamini and Hochberg (1995)."""

    p = 0.5 * np.fromiter(map(math.erfc, (z / math.sqrt(2)).tolist()), float, len(z))
    order = np.argsort(p, kind="stable")
    steps = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty(len(p))
    q[order] = np.minimum.accumulate(steps[::-1])[::-1]
    return np.minimum(q, 1.0)


def _means(reading: Reading, layers: list[str], width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Layers (K,) by index, units (K,), mean embeddings (K, width) and numbers of images (K,) of neurons that fire.

    The images of all neurons are read together, in the order of their ids: many neurons share them.
    """
    of_layer, units, neurons, images = _best_images(reading, layers)
    sums, counts = np.zeros((len(units), width), np.float32), np.zeros(len(units), np.int64)
    order = np.argsort(images, kind="stable")
    neurons, images = neurons[order], images[order]
    wanted = np.unique(images)
    for first in range(0, len(wanted), IMAGES_AT_ONCE):
        ids = wanted[first : first + IMAGES_AT_ONCE]
        rows = reading.rows("embeddings_of", images=json.dumps(ids.tolist())).sort("image_id")
        if rows.is_empty():
            continue
        start, end = np.searchsorted(images, [ids[0], ids[-1] + 1])
        known = np.isin(images[start:end], rows["image_id"].to_numpy())
        of_neuron = neurons[start:end][known]
        place = np.searchsorted(rows["image_id"].to_numpy(), images[start:end][known])
        by_neuron = np.argsort(of_neuron, kind="stable")
        found, starts, times = np.unique(of_neuron[by_neuron], return_index=True, return_counts=True)
        sums[found] += np.add.reduceat(_matrix(rows)[place[by_neuron]], starts, axis=0)
        counts[found] += times
    some = counts > 0
    return of_layer[some], units[some], sums[some] / counts[some, None].astype(np.float32), counts[some]


def _best_images(reading: Reading, layers: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Layers and units of neurons (K,), and pairs of a neuron, by its index, and one of its images (P,)."""
    of_layer, units, neurons, images = (list[np.ndarray]() for _ in range(4))
    total = 0
    for place, layer in enumerate(layers):
        rows = reading.rows("best_images", module=layer, most=IMAGES)
        known, of_row = np.unique(rows["unit"].to_numpy(), return_inverse=True)
        of_layer.append(np.full(len(known), place))
        units.append(known)
        neurons.append(total + of_row)
        images.append(rows["image_id"].to_numpy())
        total += len(known)
    return np.concatenate(of_layer), np.concatenate(units), np.concatenate(neurons), np.concatenate(images)


def _matrix(rows: pl.DataFrame) -> np.ndarray:
    """The column embedding as (row, dimension)."""
    if rows.is_empty():
        return np.zeros((0, 0), np.float32)
    width = len(rows["embedding"][0])
    return rows["embedding"].explode().to_numpy().astype(np.float32).reshape(len(rows), width)


class Embeddings:
    """The neurons of each dissection that was asked for, read in the background."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._held: dict[int | None, tuple[object, Embedded | None]] = {}
        self._reading: set[int | None] = set()
        self._failed: dict[int | None, str] = {}

    def of(self, dissection: int | None, version: object) -> tuple[Embedded | None, str]:
        """What is held of a dissection, and a state: ready, loading, absent, or what went wrong.

        version: of the dissection; with another one it is read again.
        """
        with self._lock:
            if dissection in self._held and self._held[dissection][0] == version:
                found = self._held[dissection][1]
                return found, "ready" if found else "absent"
            if failure := self._failed.pop(dissection, None):
                return None, failure
            if dissection not in self._reading:
                self._reading.add(dissection)
                threading.Thread(target=self._read, args=(dissection, version), daemon=True).start()
        return None, "loading"

    def _read(self, dissection: int | None, version: object) -> None:
        try:
            found = Embedded.of(self._store.reading(dissection, keep=False))
            with self._lock:
                self._held[dissection] = version, found
                while len(self._held) > 2:
                    del self._held[next(iter(self._held))]
        except Exception as error:  # whatever it is, a page has to say it: nobody waits for this thread
            self._failed[dissection] = (str(error) or type(error).__name__).splitlines()[0]
        finally:
            self._reading.discard(dissection)
