"""The command init: asks for what is missing, and writes a first study."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

QUESTIONS = {  # flag → what is asked on a terminal
    "--images": "Images (a folder, CSV, Parquet file, tar, torchvision:NAME or FILE.py:FUNCTION)",
    "--network": "Network (torchvision:NAME, timm:NAME, hf:NAME or FILE.py:FUNCTION)",
    "--weights": "Weights (a checkpoint, pretrained or random)",
    "--concepts": "Concepts (a text file with one per line, or a set that ships)",
}


def init(
    images: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="A folder, CSV, Parquet file, tar, torchvision:NAME or FILE.py:FUNCTION"),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="torchvision:NAME, timm:NAME, hf:NAME, vggnet or FILE.py:FUNCTION"),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A checkpoint, pretrained or random; FILE.py and hf: may do without"),
    ] = None,
    concepts: Annotated[
        str | None, typer.Option(metavar="FILE", help="Words, one per line, or the name of a set that ships")
    ] = None,
    clip: Annotated[
        str, typer.Option(metavar="NAME/WEIGHTS", help="Of open_clip; or dissectdb-face-rn, which ships, for faces")
    ] = "ViT-B-32/openai",
    root: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER", help="Of torchvision's files, or of a manifest's paths. Default: the manifest's"
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The study file")] = Path("study.toml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file")] = False,
) -> None:
    """Write a commented study from what the images, the network and its checkpoint say; asks for what is not named.

    Example: dissectdb init --images photos --network torchvision:resnet50 --weights pretrained --concepts words.txt
    """
    from dissectdb import first_study
    from dissectdb.commands import next_steps, stages

    first_study.refuse_existing(output, force)
    images, network = _asked("--images", images), _asked("--network", network)
    if weights is None and first_study.needs_weights(network):
        is_library = network.startswith(first_study.LIBRARIES)
        weights = _asked("--weights", None, "pretrained" if is_library else None)
    concepts = _asked("--concepts", concepts)
    study = first_study.find(
        first_study.Wanted(
            images=images, network=network, weights=weights, concepts=concepts, clip=clip, root=root, output=output
        )
    )
    study.write(force=force)
    for sentence in study.assumed:
        stages.say(sentence)
    print(f"study: {output.resolve()}")
    next_steps.show(f"dissectdb extract {shlex.quote(next_steps.shown(output))}")


def _asked(flag: str, value: str | None, default: str | None = None) -> str:
    """The value of a flag; if it is not given, the answer on a terminal. Elsewhere it raises BadParameter."""
    if value is not None:
        return value
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"is missing: {QUESTIONS[flag]}", param_hint=flag)
    answer: str = typer.prompt(QUESTIONS[flag], default=default, err=True)
    return answer
