"""Train the demo's two networks on drawn faces, and measure them on faces that were not used for training.

    python -m dissectdb.extract.demo.make_weights

writes three files beside this one: `dissectdb-face-rn.safetensors` (a small CLIP for open_clip, in half precision),
`vggnet.safetensors` and `figures.json`. The two networks are trained at the same time, each with half of the threads.
Those that ship took 17 minutes on two busy cores (seconds in figures.json). With glibc, MALLOC_MMAP_MAX_=0 and
MALLOC_TRIM_THRESHOLD_=100000000000 make it faster: otherwise memory is returned and requested again at every step.

All randomness is seeded: faces of seed 1000 train, those of 1001 choose the VGGNet's epoch, those of 2000 measure. The
demo's study uses seed 0.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dissectdb.extract.demo.captions import TEMPLATES, TEXTS, auc, prompts
from dissectdb.extract.demo.faces import CLASSES, CONCEPTS, Faces, draw
from dissectdb.extract.demo.train_clip import CLIP_NAME, train_clip
from dissectdb.extract.models.vggnet import VGGNet
from dissectdb.extract.training.fit import fit, predict

HERE = Path(__file__).parent
CHANNELS, HIDDEN = (8, 16, 32, 64), 256  # of the demo's VGGNet
TRAIN_SEED, VALIDATION_SEED, TEST_SEED = 1000, 1001, 2000


def many_faces(count: int, seed: int, block: int = 500) -> Faces:
    """The same faces as draw(count, seed), drawn by two threads."""
    starts = range(0, count, block)
    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(lambda start: draw(min(block, count - start), seed, start), starts))
    names = ("pixels", "emotions", "truth", "controls")
    return Faces(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def as_split(faces: Faces) -> tuple[Tensor, Tensor]:
    """The images and labels, as dissectdb.extract.training.fit.fit takes them."""
    return torch.from_numpy(faces.pixels), torch.from_numpy(faces.emotions)


def make_vggnet(train: Faces, validation: Faces, epochs: int, path: Path) -> float:
    """Train the demo's emotion network and save its best epoch on `validation`; returns the seconds that it took."""
    began = time.perf_counter()
    torch.manual_seed(0)
    model = VGGNet(CHANNELS, HIDDEN)

    def tell(record: dict[str, float]) -> None:
        accuracy, seconds = record["validation_accuracy"], record["seconds"]
        print(f"vggnet epoch {record['epoch']}/{epochs}: accuracy {accuracy:.3f}, {seconds:.0f} s", flush=True)

    fit(model, as_split(train), as_split(validation), epochs=epochs, learning_rate=0.06, on_epoch=tell)
    save_file(model.state_dict(), path)
    return round(time.perf_counter() - began, 1)


def save_clip(model: nn.Module, path: Path) -> None:
    """Save a CLIP in half precision. open_clip loads it as float32."""
    state = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    save_file({name: value.contiguous() for name, value in state.items()}, path)


@torch.no_grad()
def clip_embeddings(
    faces: Faces, texts: tuple[str, ...], templates: tuple[str, ...], weights: Path
) -> tuple[Tensor, Tensor, float]:
    """Unit embeddings (image, width) and (text, width), and the logit scale, by open_clip's own functions."""
    model, _, preprocess = open_clip.create_model_and_transforms(CLIP_NAME, pretrained=str(weights))
    tokenize, _ = open_clip.get_tokenizer(CLIP_NAME), model.eval()
    pictures = torch.stack([preprocess(Image.fromarray(face)) for face in faces.pixels])
    image = torch.cat([model.encode_image(part, normalize=True) for part in pictures.split(256)])
    words = [model.encode_text(tokenize(prompts(text, templates)), normalize=True).mean(0) for text in texts]
    return image, F.normalize(torch.stack(words), dim=1), float(model.logit_scale.exp())


def measure_clip(faces: Faces, weights: Path) -> dict:
    """Figures of the CLIP without training for a task: how well cosines with prompts tell concepts and emotions."""
    image, text, scale = clip_embeddings(faces, TEXTS, TEMPLATES, weights)
    cosines = (image @ text.T).numpy()
    areas = auc(cosines[:, : len(CONCEPTS)], faces.truth)
    named = cosines[:, len(CONCEPTS) :].argmax(1) == faces.emotions
    each = dict(zip(CONCEPTS, np.round(areas, 4).tolist(), strict=True))
    inside = cosines[:, : len(CONCEPTS)]
    return {
        "templates": list(TEMPLATES),
        "concept_auc_mean": round(float(areas.mean()), 4),
        "concept_auc_worst": min(each.items(), key=lambda pair: pair[1]),
        "concept_auc": each,
        "emotion_zero_shot_accuracy": round(float(named.mean()), 4),
        "cosine_mean_where_shown": round(float(inside[faces.truth].mean()), 4),
        "cosine_mean_elsewhere": round(float(inside[~faces.truth].mean()), 4),
        "logit_scale": round(scale, 3),
        "bytes": weights.stat().st_size,
    }


def measure_vggnet(faces: Faces, weights: Path) -> dict:
    """Accuracy of the emotion network, overall and by true class."""
    model = VGGNet(CHANNELS, HIDDEN)
    model.load_state_dict(load_file(weights))
    images, labels = as_split(faces)
    right = (predict(model, images).argmax(1) == labels).double()
    return {
        "channels": list(CHANNELS),
        "hidden": HIDDEN,
        "accuracy": round(float(right.mean()), 4),
        "accuracy_by_class": {name: round(float(right[labels == at].mean()), 4) for at, name in enumerate(CLASSES)},
        "bytes": weights.stat().st_size,
    }


def main() -> None:
    """Draw the faces, train both networks, measure them, and write the files."""
    parser = argparse.ArgumentParser(description="Make the demo's networks.")
    parser.add_argument("--faces", type=int, default=20_000, help="training faces")
    parser.add_argument("--clip-epochs", type=int, default=8)
    parser.add_argument("--vggnet-epochs", type=int, default=12)
    parser.add_argument("--test", type=int, default=4_000, help="held-out faces")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to")
    options = parser.parse_args()
    seconds: dict[str, float] = {}
    began, threads = time.perf_counter(), max(1, torch.get_num_threads() // 2)  # the two are trained at the same time

    def lap(name: str) -> None:
        seconds[name] = round(time.perf_counter() - began - sum(seconds.values()), 1)
        print(f"{name}: {seconds[name]} s", flush=True)

    open_clip.add_model_config(HERE / f"{CLIP_NAME}.json")
    train, test = many_faces(options.faces, TRAIN_SEED), many_faces(options.test, TEST_SEED)
    validation = many_faces(2_000, VALIDATION_SEED)
    lap("drawing")
    vggnet_path, clip_path = options.out / "vggnet.safetensors", options.out / f"{CLIP_NAME}.safetensors"
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (threads,)) as beside:
        vggnet = beside.submit(make_vggnet, train, validation, options.vggnet_epochs, vggnet_path)
        torch.set_num_threads(threads)
        save_clip(train_clip(train, options.clip_epochs), clip_path)
        lap("clip")
        seconds["vggnet"] = vggnet.result()
    figures = {
        "held_out": {"faces": len(test), "seed": TEST_SEED},
        "trained_on": {"faces": len(train), "seed": TRAIN_SEED, "clip_epochs": options.clip_epochs,
                       "vggnet_epochs": options.vggnet_epochs, "vggnet_chosen_on_seed": VALIDATION_SEED},
        "clip": measure_clip(test, clip_path),
        "vggnet": measure_vggnet(test, vggnet_path),
        "truth_share": dict(zip(CONCEPTS, np.round(test.truth.mean(0), 4).tolist(), strict=True)),
        "seconds": seconds,
        "threads": {"clip": threads, "vggnet": threads},
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
                     "open_clip": open_clip.__version__},
    }  # fmt: skip
    (options.out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
