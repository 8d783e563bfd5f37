"""Several batches at a time on a CPU, each on cores of its own.

streams = [model, *twins(model, run, (1, 40, 40), device)]   # one, or a few: as many as the cores do at a time
for size in run(work, batches, streams): ...             # work(models, batch, place) in threads; sizes in order

Two cores that share each operation wait for one another at its end; two that each have a batch do not, and are a
fifth faster. A GPU has one stream. Each stream has modules of its own, because a network may keep what it saw on
itself; the weights are the same memory.
"""

from __future__ import annotations

import copy
import queue
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor, nn

MOST = 4  # streams; each has a batch and its feature maps in memory

Batch = TypeVar("Batch")
Models = TypeVar("Models")


def count(device: torch.device) -> int:
    """How many batches are computed at a time."""
    return min(torch.get_num_threads(), MOST) if device.type == "cpu" else 1


def twins(
    model: nn.Module, run: Callable[[nn.Module, Tensor], Tensor], shape: Sequence[int], device: torch.device
) -> list[nn.Module]:
    """Copies of a model for the other streams, which share its weights; only those that say the same as it.

    run: a pass through a model. shape: of an image. The images are new to the model, so that a copy which listens to
    the first one, as hooks that were made as closures do, gives itself away.
    """
    if count(device) == 1:
        return []
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    try:
        copies = [copy.deepcopy(model, dict(shared)) for _ in range(count(device) - 1)]
        images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)).to(device)
        with torch.inference_mode():
            said = run(model, images)
            off = [(run(other, images) - said).abs().max() for other in copies]
        limit = 1e-4 * said.abs().max()
    except Exception:  # whatever a user's module raises that cannot be copied, or not run so
        return []
    return [other for other, most in zip(copies, off, strict=True) if most <= limit]


def run(
    work: Callable[[Models, Batch, int], None], batches: Iterator[Batch], images: int, streams: Sequence[Models]
) -> Iterator[int]:
    """Call work(models, batch, place of its first image) for batches of so many images; yields the images done so far.

    The first error is raised, once the batches that are under way have ended.
    """
    place = 0
    if len(streams) == 1:
        while place < images:
            batch = next(batches)
            work(streams[0], batch, place)
            place += len(batch)
            yield place
        return
    threads = torch.get_num_threads()
    free: queue.SimpleQueue[Models] = queue.SimpleQueue()
    for models in streams:
        free.put(models)

    def take(batch: Batch, place: int) -> int:
        models = free.get()
        try:
            work(models, batch, place)
        finally:
            free.put(models)
        return place + len(batch)

    waiting: deque = deque()
    with ThreadPoolExecutor(len(streams), "stream", torch.set_num_threads, (max(threads // len(streams), 1),)) as pool:
        try:
            while place < images or waiting:
                while place < images and len(waiting) < 2 * len(streams):  # one under way and one ready for each
                    batch = next(batches)
                    waiting.append(pool.submit(take, batch, place))
                    place += len(batch)
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            torch.set_num_threads(threads)  # those of the pool have set it for whoever comes next
