"""Compare how fast texts are embedded at their own length and at the length of the model's context.

python -m bench.texts [--clip ViT-B-32] [--prompts 200] [--rounds 3]

The weights are random. The prompts are the concepts that ship, in the templates of studies/fer2013.toml. Both ways
take turns in one process, on the CPU.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace

import open_clip
import torch

from dissectdb.extract import concepts
from dissectdb.extract.models import text_tower
from dissectdb.extract.models.clip import Clip

TEMPLATES = ("{}", "a face with {}", "a photo of a face with {}")
HEAD = ("texts", "tokens each", "texts a second", "CPU seconds")


def made(architecture: str) -> Clip:
    """A CLIP with random weights, on the CPU."""
    torch.manual_seed(0)
    model = open_clip.create_model(architecture).eval()
    return Clip(
        name=architecture,
        weights="random",
        model=model,
        tokenize=open_clip.get_tokenizer(architecture),
        recipe=None,  # type: ignore[arg-type]  # no image is embedded
        logit_scale=1.0,
        logit_bias=None,
        fingerprint="",
        device=torch.device("cpu"),
        precision="float32",
    )


def compare(clip: Clip, names: list[str], rounds: int) -> tuple[list[tuple[str, ...]], float]:
    """Rows of HEAD, and the largest difference between the two ways' embeddings."""
    own = text_tower.of(clip.model, clip.tokenize, clip.device)
    prompts = clip.tokenize([template.replace("{}", name) for name in names for template in TEMPLATES])
    ways = {"padded to the context": replace(own, cuts=False), "at their own length": own}
    spent = {way: [0.0, 0.0] for way in ways}
    embeddings = {}
    for _ in range(rounds):
        for way, tower in ways.items():
            clip.__dict__["text_tower"] = tower  # where a cached property keeps its value
            wall, cpu = time.perf_counter(), time.process_time()
            embeddings[way] = clip.embed_concepts(names, TEMPLATES)
            spent[way][0] += time.perf_counter() - wall
            spent[way][1] += time.process_time() - cpu
    one, other = embeddings.values()
    rows: list[tuple[str, ...]] = [
        (
            way,
            f"{tower.lengths(prompts).double().mean():.1f}",
            f"{rounds * len(prompts) / spent[way][0]:.1f}",
            f"{spent[way][1] / rounds:.1f}",
        )
        for way, tower in ways.items()
    ]
    return rows, float((one - other).abs().max())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.texts", description=__doc__.split("\n")[0])
    parser.add_argument("--clip", default="ViT-B-32", help="an architecture of open_clip")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    from bench.made import show

    known = [name for source in ("facial_expressions", "emotions") for name in concepts.load(source).classes_of]
    names = [f"{known[number % len(known)]}{' and more' * (number // len(known))}" for number in range(options.prompts)]
    names = names[: max(options.prompts // len(TEMPLATES), 1)]
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    rows, difference = compare(made(options.clip), names, options.rounds)
    show(f"{options.clip}, {len(names) * len(TEMPLATES)} prompts of {len(names)} concepts", HEAD, rows)
    print(f"\nLargest difference of two embeddings: {difference:.1e}. Load after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
