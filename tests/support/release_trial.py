"""A release, tried as a stranger would: what dist/ holds, in a fresh environment of each Python that is named.

python -m tests.support.release_trial python3.11 python3.13      # make release builds dist/ before

In an empty folder the wheel runs the demo and more commands, and says for each extra that is not installed what to
install; then the source distribution is installed over it and must put the same files there. Prints a table; exit code
1 if anything failed. An environment is large, because PyTorch is; each is deleted before the next one is made.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dissectdb import ROOT

WAREHOUSE = ("-w", "demo/warehouse.duckdb")
COMMANDS = {  # command → what its output must have in it
    ("demo",): "demo/report.html",
    ("status", *WAREHOUSE): "labels",
    ("query", "SELECT * FROM layer_summary", *WAREHOUSE): "lin2",
    ("report", "-o", "report.html", *WAREHOUSE): "report.html",
    ("check", *WAREHOUSE): "contracts hold",
}
STUDY = """
[dataset]
name = "demo faces"
kind = "demo"
images = 50

[network]
name = "net"
architecture = "hf:microsoft/resnet-18"
weights = "pretrained"
layers = "all"

[clip]
architecture = "ViT-B-32"
weights = "openai"

[[concept_sets]]
name = "words"
source = "wordfreq:20"

[[dissections]]
concepts = "words"
"""
EXTRAS = {  # extra → a command that needs it
    "serve": ("serve", *WAREHOUSE),
    "generate": ("concepts", "generate", "--classes", "happy,sad", "--model", "gpt-4o"),
    "words": ("concepts", "check", "wordfreq:20", "--study", "study.toml"),
    "hf": ("extract", "study.toml", "-w", "new.duckdb", "--set", 'concept_sets[0].source=["dog", "cat"]'),
    "spark": ("build", "--engine", "spark", "--source", "demo", "-w", "new.duckdb"),
}


@dataclass
class Done:
    """A program that ran: its exit code, both its outputs, and its wall time in seconds."""

    code: int
    said: str
    seconds: float


def run(*command: object, folder: Path) -> Done:
    """Run a program in a folder, without what this process has set for its own Python."""
    own = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "DISSECTDB_WAREHOUSE")
    variables = {name: value for name, value in os.environ.items() if name not in own}
    start = time.perf_counter()
    ran = subprocess.run(
        list(map(str, command)), cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return Done(ran.returncode, ran.stdout, time.perf_counter() - start)


def files_of(environment: Path) -> dict[str, str]:
    """The SHA-256 of each file of the installed package, by its path."""
    [package] = environment.glob("lib/python*/site-packages/dissectdb")
    files = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(package)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def trial(python: str, folder: Path) -> Iterator[tuple[str, Done, bool]]:
    """Each step of the trial with one Python: what it is, how it ran, and whether that is right."""
    [wheel], [source] = (ROOT / "dist").glob("*.whl"), (ROOT / "dist").glob("*.tar.gz")
    environment, empty = folder / "environment", folder / "empty"
    empty.mkdir()
    done = run(python, "-m", "venv", environment, folder=folder)
    yield "a fresh environment", done, done.code == 0
    pip = (environment / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check", "install")
    done = run(*pip, wheel, folder=folder)
    yield f"pip install {wheel.name}", done, done.code == 0
    program = environment / "bin" / "dissectdb"
    for command, expected in COMMANDS.items():
        done = run(program, *command, folder=empty)
        yield f"dissectdb {' '.join(command)}", done, done.code == 0 and expected in done.said
    (empty / "study.toml").write_text(STUDY)
    for extra, command in EXTRAS.items():
        done = run(program, *command, folder=empty)
        right = done.code > 0 and f"pip install 'dissectdb[{extra}]'" in done.said
        yield f"dissectdb {' '.join(command)} (without the extra)", done, right
    of_wheel = files_of(environment)
    done = run(*pip, "--force-reinstall", "--no-deps", source, folder=folder)
    yield f"pip install {source.name}", done, done.code == 0 and files_of(environment) == of_wheel
    done = run(program, "--version", folder=empty)
    yield "dissectdb --version", done, done.code == 0 and done.said.split()[1] == wheel.name.split("-")[1]


def main() -> None:
    """Try dist/ with each Python that is named, and print what happened."""
    print("| file | MB |\n|---|---|")
    for path in sorted((ROOT / "dist").iterdir()):
        print(f"| {path.name} | {path.stat().st_size / 1e6:.2f} |")
    failed = []
    for python in sys.argv[1:] or [sys.executable]:
        said = run(python, "-c", "import platform; print(platform.python_version())", folder=ROOT).said.strip()
        print(f"\n| Python {said} | exit code | seconds | as it should be |\n|---|---|---|---|", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            for step, done, right in trial(python, Path(folder).resolve()):
                cell = step.replace("|", "\\|")
                print(f"| {cell} | {done.code} | {done.seconds:.1f} | {'yes' if right else 'NO'} |", flush=True)
                failed += [] if right else [f"{said}: {step}\n{done.said}"]
    sys.exit("\n\n".join(failed) or 0)


if __name__ == "__main__":
    main()
