"""Compute several batches at a time on a CPU, each on its own cores.

models = [model, *replicas(model, run, (1, 40, 40), device)]   # one per stream
for done in run(work, batches, images, models): ...            # work(model, batch, first) in threads; done ascends

If two cores share each operation, they wait for each other at its end. If each core has its own batch, they do not,
and are a fifth faster. A GPU has one stream. Each stream has its own modules, because a network may store values in
its modules. The weights are shared.
"""

from __future__ import annotations

import copy
import queue
from collections.abc import Callable, Iterator, Sequence, Sized
from typing import TypeVar

import torch
from torch import Tensor, nn

from dissectdb.extract.threads import in_order

MAX_STREAMS = 4  # each has a batch and its feature maps in memory

Batch = TypeVar("Batch", bound=Sized)
Models = TypeVar("Models")


def count(device: torch.device) -> int:
    """The number of streams: how many batches are computed at a time."""
    return min(torch.get_num_threads(), MAX_STREAMS) if device.type == "cpu" else 1


def replicas(
    model: nn.Module, run: Callable[[nn.Module, Tensor], Tensor], shape: Sequence[int], device: torch.device
) -> list[nn.Module]:
    """Copies of a model for the other streams, which share its weights. A copy is dropped if its output differs.

    run: a pass through a model. shape: of an image. The copies are tried on images that are new to the model, because
    a copy may depend on what the original ran last: hooks that are closures still point to the original.
    """
    if count(device) == 1:
        return []
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    try:
        copies = [copy.deepcopy(model, dict(shared)) for _ in range(count(device) - 1)]
        images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)).to(device)
        with torch.inference_mode():
            expected = run(model, images)
            differences = [(run(other, images) - expected).abs().max() for other in copies]
        limit = 1e-4 * expected.abs().max()
    except Exception:  # a user's module that cannot be copied, or whose copy cannot run, may raise anything
        return []
    return [other for other, difference in zip(copies, differences, strict=True) if difference <= limit]


def run(
    work: Callable[[Models, Batch, int], None], batches: Iterator[Batch], images: int, streams: Sequence[Models]
) -> Iterator[int]:
    """Call work(models, batch, index of its first image) for all batches; yield the number of images done so far.

    images: of all batches together. The first error is raised after the batches that have been started have ended.
    """
    if len(streams) == 1:
        first = 0
        while first < images:
            batch = next(batches)
            work(streams[0], batch, first)
            first += len(batch)
            yield first
        return
    threads = torch.get_num_threads()
    free: queue.SimpleQueue[Models] = queue.SimpleQueue()
    for models in streams:
        free.put(models)

    def take(batch_and_first: tuple[Batch, int]) -> int:
        batch, first = batch_and_first
        models = free.get()
        try:
            work(models, batch, first)
        finally:
            free.put(models)
        return first + len(batch)

    def with_firsts() -> Iterator[tuple[Batch, int]]:
        first = 0
        while first < images:
            batch = next(batches)
            yield batch, first
            first += len(batch)

    threads_of_stream = max(threads // len(streams), 1)
    try:
        yield from in_order(
            take,
            with_firsts(),
            threads=len(streams),
            ahead=2 * len(streams) - 1,  # with the current one: for each stream one running and one ready
            prepare=lambda: torch.set_num_threads(threads_of_stream),
        )
    finally:
        torch.set_num_threads(threads)  # the threads of the pool have changed it for the whole process
