"""Train a classifier of small grey images: one-cycle SGD, augmentation on the device, resumable.

    records = fit(VGGNet(), (images, labels), (held_out, its_labels), epochs=30, checkpoint=Path("run.pt"))
    records[-1]  # {"epoch": 30, "train_loss": …, "validation_loss": …, "validation_accuracy": …, …}

Images are uint8 (image, height, width) as stored; `augment` (in training) and `prepare` (otherwise) scale them to the
network's size. At the end the model has the weights of the epoch with the best validation accuracy. With a checkpoint,
an interrupted run continues after its last complete epoch. On a CPU it ends with the same weights as an uninterrupted
run.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dissectdb.extract.models.logits import PLAIN, Answer
from dissectdb.output import replacing

Split = tuple[Tensor, Tensor]  # uint8 images (image, height, width), int64 labels (image,)
Record = dict[str, float]


def prepare(images: Tensor, size: int) -> Tensor:
    """uint8 (image, height, width) → float (image, 1, size, size), 0 to 1; bilinear, antialiased."""
    pixels = images[:, None].float() / 255
    return F.interpolate(pixels, (size, size), mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


def augment(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Like `prepare`, with each image randomly flipped, zoomed ±10 %, shifted ±6 % and turned ±10°.

    generator: on the CPU, so that the random numbers are the same on every device.
    """
    count, device = len(images), images.device
    random_numbers = torch.rand((5, count), generator=generator).to(device)
    flip = torch.where(random_numbers[0] < 0.5, -1.0, 1.0)
    zoom, turn = 1 + 0.1 * (2 * random_numbers[1] - 1), math.radians(10) * (2 * random_numbers[2] - 1)
    shift = 0.12 * (2 * random_numbers[3:] - 1)  # of a half image
    cosine, sine = torch.cos(turn) * zoom, torch.sin(turn) * zoom
    rows = [cosine * flip, -sine, shift[0], sine * flip, cosine, shift[1]]
    grid = F.affine_grid(torch.stack(rows, 1).view(count, 2, 3), [count, 1, size, size], align_corners=False)
    pixels = images[:, None].float() / 255
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)


@torch.no_grad()
def predict(
    model: nn.Module,
    images: Tensor,
    *,
    size: int = 40,
    device: str = "cpu",
    batch: int = 512,
    answer: Answer = PLAIN,
) -> Tensor:
    """Run uint8 images (image, height, width) through the model: logits (image, class) on the CPU."""
    model.eval()
    batches = (prepare(images[at : at + batch].to(device), size) for at in range(0, len(images), batch))
    return torch.cat([answer.run(model, pixels).cpu() for pixels in batches])


def fit(
    model: nn.Module,
    train: Split,
    validation: Split,
    *,
    epochs: int,
    device: str = "cpu",
    seed: int = 0,
    batch_size: int = 128,
    learning_rate: float = 0.05,
    label_smoothing: float = 0.0,
    size: int = 40,
    checkpoint: Path | None = None,
    on_epoch: Callable[[Record], None] | None = None,
    answer: Answer = PLAIN,
) -> list[Record]:
    """Train `model` in place and return one record per epoch; the model ends with the weights of its best epoch.

    answer: how logits are read from the model's output. learning_rate: the peak of the cycle. on_epoch: called with
    each new record, after its checkpoint is written. The global random state is restored.
    """
    settings = {
        "epochs": epochs,
        "seed": seed,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "label_smoothing": label_smoothing,
        "size": size,
        "data": fingerprint(*train, *validation),
    }
    cuda = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        run = _Run(model.to(device), len(train[0]), settings, answer)
        if checkpoint and checkpoint.exists():
            run.load(checkpoint, device)
        for _ in range(len(run.records), epochs):
            run.epoch(train, validation, device)
            if checkpoint:
                run.save(checkpoint, device)
            if on_epoch:
                on_epoch(run.records[-1])
        model.load_state_dict(run.best)
    return run.records


def one_cycle(steps: int, rise: float = 0.25) -> Callable[[int], float]:
    """The share of the peak rate at each step: it rises linearly for `rise` of the steps, then falls as a cosine to 0.

    Torch's own OneCycleLR divides by zero in runs of a few steps.
    """

    def share(step: int) -> float:
        done = min(1.0, (step + 0.5) / steps)
        return done / rise if done < rise else 0.5 + 0.5 * math.cos(math.pi * (done - rise) / (1 - rise))

    return share


def fingerprint(*tensors: Tensor) -> str:
    """SHA-256 of the tensors' bytes and shapes."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()


class _Run:
    """The state of a training run between two epochs; the checkpoint holds all of it."""

    def __init__(self, model: nn.Module, images: int, settings: dict, answer: Answer) -> None:
        self.model, self.settings, self.answer = model, settings, answer
        peak = settings["learning_rate"]
        self.optimizer = torch.optim.SGD(model.parameters(), peak, momentum=0.9, weight_decay=5e-4, nesterov=True)
        steps = settings["epochs"] * math.ceil(images / settings["batch_size"])
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, one_cycle(steps))
        self.generator = torch.Generator().manual_seed(settings["seed"])
        self.records: list[Record] = []
        self.best = deepcopy(model.state_dict())
        self.best_accuracy = -1.0

    def epoch(self, train: Split, validation: Split, device: str) -> None:
        """Train one epoch, evaluate on the validation images, and add a record."""
        began = time.perf_counter()
        images, labels = train
        order = torch.randperm(len(images), generator=self.generator)
        self.model.train()
        total = torch.zeros((), device=device)
        for chosen in order.split(self.settings["batch_size"]):
            pixels = augment(images[chosen].to(device), self.settings["size"], self.generator)
            loss = F.cross_entropy(
                self.answer.logits(self.model(pixels)),
                labels[chosen].to(device),
                label_smoothing=self.settings["label_smoothing"],
            )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            total += loss.detach() * len(chosen)
        if not math.isfinite(train_loss := float(total) / len(images)):
            raise ValueError(f"training diverged in epoch {len(self.records) + 1}; use a lower learning_rate")
        logits = predict(self.model, validation[0], size=self.settings["size"], device=device, answer=self.answer)
        accuracy = float((logits.argmax(1) == validation[1].cpu()).double().mean())
        self.records.append(
            {
                "epoch": len(self.records) + 1,
                "train_loss": train_loss,
                "validation_loss": float(F.cross_entropy(logits, validation[1].cpu())),
                "validation_accuracy": accuracy,
                "seconds": time.perf_counter() - began,
            }
        )
        if accuracy > self.best_accuracy:
            self.best, self.best_accuracy = deepcopy(self.model.state_dict()), accuracy

    def save(self, path: Path, device: str) -> None:
        """Write the state to `path`. A reader never sees half a file."""
        state = {
            "settings": self.settings,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "epoch": len(self.records),
            "records": self.records,
            "best": self.best,
            "best_accuracy": self.best_accuracy,
            "generator": self.generator.get_state(),
            "random": torch.get_rng_state(),
            "device_random": torch.cuda.get_rng_state(device) if torch.device(device).type == "cuda" else None,
        }
        with replacing(path) as unfinished:
            torch.save(state, unfinished)

    def load(self, path: Path, device: str) -> None:
        """Restore a checkpoint. Raises ValueError if its settings or data differ."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        if different := [key for key, value in self.settings.items() if state["settings"].get(key) != value]:
            raise ValueError(
                f"{path} was written with another {', '.join(different)}; "
                "continue with the same settings and images, or remove the file"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.records, self.best, self.best_accuracy = state["records"], state["best"], state["best_accuracy"]
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["random"])
        if state["device_random"] is not None and torch.device(device).type == "cuda":
            torch.cuda.set_rng_state(state["device_random"], device)
