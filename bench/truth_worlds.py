"""Worlds whose truth is known: networks that look at drawn faces, and planted neurons.

for world in worlds(small=False):
    for probe in world.probes():      # one for each seed
        probe.layers                  # [activations (image, neuron), …]
        probe.world                   # embeddings of images and concepts, and which image shows which concept

The drawn faces are the demo's, and so are its VGGNet and its CLIP. The other networks are trained on further faces of
the same kind, each in about half a minute.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from bench.made import World, embeddings
from bench.planted import Plan, activate, plan, shares
from dissectdb import ROOT
from dissectdb.extract.demo import faces
from dissectdb.extract.models import clip as clips
from dissectdb.extract.models import networks
from dissectdb.extract.models.hooks import find_taps, record
from dissectdb.extract.models.vggnet import VGGNet
from dissectdb.extract.study import Layer, Study
from dissectdb.extract.training.fit import prepare

DEMO = ROOT / "studies" / "demo.toml"
FACES, LESSONS, LESSONS_SEED, SIZE = 3600, 5000, 101, 40
AT_ONCE = 256
VGG_LAYERS = ("conv1b", "conv2b", "conv3b", "conv4b", "lin1", "lin2")
RES_LAYERS = ("maxpool", "layer1", "layer2", "layer3", "layer4", "fc")
VIT_LAYERS = ("vit.blocks.0", "vit.blocks.1.mlp.act", "vit.blocks.1", "vit.blocks.2", "vit.head")
Trained = tuple[nn.Module, Sequence[str]]  # a network and the layers that are looked at


@dataclass(frozen=True)
class Probe:
    """What a scorer sees of one seed, and the truth. planned: what was planted in the neurons of the only layer."""

    layers: list[np.ndarray]
    world: World
    planned: Plan | None = None


@dataclass(frozen=True)
class KnownWorld:
    """A name, whether the world served to choose the default scorer, and its probes, one for each seed."""

    name: str
    chosen: bool
    probes: Callable[[], Iterator[Probe]]


def worlds(small: bool) -> list[KnownWorld]:
    """All worlds, those that served to choose first. small: fewer and smaller ones."""
    if small:
        quick = partial(drawn, count=400, lessons=400)
        return [
            KnownWorld("VGGNet on emotions, faces 0", True, partial(quick, demo_vggnet, [0])),
            KnownWorld("planted, 600 × 25", True, partial(planted, 600, 25, [0, 1], each=20)),
            KnownWorld("ViT on emotions, faces 0", False, partial(quick, vit, [0])),
            KnownWorld("planted, 500 × 7", False, partial(planted, 500, 7, [0], each=20)),
        ]
    return [
        KnownWorld("VGGNet on emotions, faces 0, 7", True, partial(drawn, demo_vggnet, [0, 7])),
        KnownWorld("ResNet on emotions, faces 0, 7", True, partial(drawn, resnet_on_emotions, [0, 7])),
        KnownWorld("ResNet on attributes, faces 0, 7", True, partial(drawn, resnet_on_attributes, [0, 7])),
        KnownWorld("planted, 10,000 × 100", True, partial(planted, 10_000, 100, [0, 1, 2])),
        KnownWorld("planted, 600 × 25", True, partial(planted, 600, 25, [0, 1, 2])),
        KnownWorld("VGGNet on emotions, faces 1, 2, 3", False, partial(drawn, demo_vggnet, [1, 2, 3])),
        KnownWorld("ViT on emotions, faces 1, 2", False, partial(drawn, vit, [1, 2])),
        KnownWorld("untrained VGGNet, faces 1, 2", False, partial(drawn, untrained_vggnet, [1, 2])),
        KnownWorld("planted, 500 × 100", False, partial(planted, 500, 100, [0, 1, 2])),
        KnownWorld("planted, 10,000 × 7", False, partial(planted, 10_000, 7, [0, 1, 2])),
        KnownWorld("planted, 10,000 × 400", False, partial(planted, 10_000, 400, [0, 1], each=50)),
        KnownWorld("planted, 10,000 × 1,000", False, partial(planted, 10_000, 1000, [0, 1], each=50)),
        KnownWorld("planted, 30,000 × 100", False, partial(planted, 30_000, 100, [0, 1], each=50)),
        KnownWorld("weakly planted, 10,000 × 100", False, partial(planted, 10_000, 100, [0, 1], boost=2, lean=0.03)),
        KnownWorld("strongly planted, 10,000 × 100", False, partial(planted, 10_000, 100, [0, 1], lean=0.1)),
    ]


def planted(
    images: int, concepts: int, seeds: Sequence[int], each: int = 100, boost: float = 3.0, lean: float = 0.05
) -> Iterator[Probe]:
    """Neurons of bench.planted: `each` of every frequency, and as many mixed ones; no noise."""
    for seed in seeds:
        world = embeddings(images, concepts, seed, shares=shares(concepts), lean=lean)
        planned = plan(concepts, each, 0, seed)
        yield Probe([activate(planned, world, boost, seed)], world, planned)


# ---------------------------------------------------------------- drawn faces


def drawn(
    network: Callable[[int], Trained], seeds: Sequence[int], count: int = FACES, lessons: int = LESSONS
) -> Iterator[Probe]:
    """A network that looks at `count` drawn faces of each seed. `lessons`: how many other faces train it."""
    model, layers = network(lessons)
    for seed in seeds:
        inputs, world = drawn_world(count, seed)
        yield Probe(look(model, layers, inputs), world)


@cache
def drawn_world(count: int, seed: int) -> tuple[Tensor, World]:
    """A network's inputs (image, 1, 40, 40), and the embeddings and truth of the same faces."""
    shown = faces.draw(count, seed)
    clip, concepts = demo_clip()
    device = torch.device("cpu")
    parts = np.array_split(shown.pixels, -(-count // AT_ONCE))
    images = torch.cat([clip.embed_images(clip.recipe.apply(list(part), device)) for part in parts])
    return prepare(torch.from_numpy(shown.pixels), SIZE), World(images.numpy(), concepts.numpy(), shown.truth)


@cache
def demo_clip() -> tuple[clips.Clip, Tensor]:
    """The demo's CLIP, and its embeddings of the 25 concepts in the study's templates."""
    study = Study.load(DEMO)
    assert study.clip is not None
    clip = clips.load(study.clip, torch.device("cpu"))
    return clip, clip.embed_concepts(faces.CONCEPTS, study.concept_sets[0].templates)


@torch.no_grad()
def look(model: nn.Module, layers: Sequence[str], inputs: Tensor) -> list[np.ndarray]:
    """The activations (image, neuron) of each layer."""
    model.eval()
    taps = find_taps(model, [Layer(name=name) for name in layers], inputs.shape[1:])
    seen: dict[str, list[Tensor]] = {tap.name: [] for tap in taps}
    for part in inputs.split(AT_ONCE):
        with record(model, taps) as outputs:
            model(part)
        for name, values in outputs.items():
            seen[name].append(values)
    return [torch.cat(parts).numpy() for parts in seen.values()]


# ---------------------------------------------------------------- networks


def demo_vggnet(lessons: int) -> Trained:
    """The network that ships with the demo."""
    network = Study.load(DEMO).network
    assert network is not None
    return networks.load(network).model, VGG_LAYERS


def untrained_vggnet(lessons: int) -> Trained:
    """The same architecture with its initial weights."""
    network = Study.load(DEMO).network
    assert network is not None
    torch.manual_seed(0)
    return VGGNet(**network.arguments), VGG_LAYERS


@cache
def resnet_on_emotions(lessons: int) -> Trained:
    """A ResNet that tells seven emotions apart."""
    return train(partial(resnet, len(faces.CLASSES)), lessons, emotions=True, epochs=6), RES_LAYERS


@cache
def resnet_on_attributes(lessons: int) -> Trained:
    """The same for the 25 concepts themselves, each yes or no."""
    return train(partial(resnet, len(faces.CONCEPTS)), lessons, emotions=False, epochs=6), RES_LAYERS


@cache
def vit(lessons: int) -> Trained:
    """A vision transformer of three blocks that tells seven emotions apart."""
    return train(transformer, lessons, emotions=True, epochs=16, peak=1e-3), VIT_LAYERS


def transformer() -> nn.Module:
    """timm's vision transformer, small. It learns next to nothing unless each pixel is standardised first."""
    size: dict[str, Any] = {"patch_size": 8, "embed_dim": 64, "depth": 3, "num_heads": 4, "mlp_ratio": 2}
    tokens = VisionTransformer(SIZE, in_chans=1, num_classes=len(faces.CLASSES), global_pool="avg", **size)
    standardise = (nn.Flatten(), nn.BatchNorm1d(SIZE * SIZE, affine=False), nn.Unflatten(1, (1, SIZE, SIZE)))
    return nn.Sequential(OrderedDict(pixels=nn.Sequential(*standardise), vit=tokens))


def resnet(outputs: int) -> nn.Module:
    """timm's ResNet, with one block in each of four narrow stages."""
    stages: dict[str, Any] = {"block": BasicBlock, "layers": (1, 1, 1, 1), "channels": (24, 48, 96, 192)}
    return ResNet(num_classes=outputs, in_chans=1, stem_type="deep", stem_width=8, **stages)


def train(
    build: Callable[[], nn.Module], lessons: int, *, emotions: bool, epochs: int, peak: float = 2e-3, batch: int = 64
) -> nn.Module:
    """A new network that learnt the emotions or the concepts of `lessons` drawn faces. peak: learning rate."""
    taught, inputs = lesson_faces(lessons)
    target = torch.from_numpy(taught.emotions) if emotions else torch.from_numpy(taught.truth).float()
    torch.manual_seed(0)
    model = build().train()
    optimizer = torch.optim.AdamW(model.parameters())
    steps = epochs * -(-lessons // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=peak, total_steps=steps)
    for _ in range(epochs):
        for chosen in torch.randperm(lessons).split(batch):
            outputs = model(inputs[chosen])
            of_emotions, of_concepts = F.cross_entropy, F.binary_cross_entropy_with_logits
            loss = (of_emotions if emotions else of_concepts)(outputs, target[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model


@cache
def lesson_faces(count: int) -> tuple[faces.Faces, Tensor]:
    """Faces that no world shows, and a network's inputs of them."""
    taught = faces.draw(count, LESSONS_SEED)
    return taught, prepare(torch.from_numpy(taught.pixels), SIZE)
