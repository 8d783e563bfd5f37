"""What do activation maps cost: seconds of an extraction, and bytes?

python -m bench.maps studies/demo.toml --set dataset.images=1000
python -m bench.maps studies/fer2013.toml --set dataset.path=fer2013.csv --set dataset.images=2000

Runs one shard of the study's extraction, without labels and views, with map_images = 0 and = 16, in turn. CPU seconds
are those of the whole command, with loading the models. Bytes are those of the Parquet files, in which the activations
are compressed better than in a warehouse. Required: under 15 % of both.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from bench.made import percent

REQUIRED = 0.15
MAPS = ("table=activation_maps", "table=map_values")


class Cost(NamedTuple):
    """What a run took. maps: bytes of the tables of maps. files: bytes of all tables."""

    cpu: float
    wall: float
    maps: int
    files: int


def run(study: Path, changes: list[str], map_images: int) -> Cost:
    """Extract one shard in a process of its own, into a folder that is deleted afterwards."""
    options = [option for change in (*changes, f"map_images={map_images}") for option in ("--set", change)]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "dissectdb", "extract", str(study), "--sink", f"parquet:{folder}/shards"]
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([*command, *options], check=True, capture_output=True, env=os.environ)
        after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - started
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        sizes = {path: path.stat().st_size for path in Path(folder).rglob("*.parquet")}
        maps = sum(size for path, size in sizes.items() if any(part in MAPS for part in path.parts))
        return Cost(cpu, wall, maps, sum(sizes.values()))


def main() -> None:
    """Print the table and whether the requirements are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    costs: dict[int, list[Cost]] = {0: [], 16: []}
    print("| map_images | CPU s | wall s | MB of maps | MB |")
    print("|---|---|---|---|---|")
    for _ in range(options.rounds):
        for map_images, of_setting in costs.items():
            of_setting.append(cost := run(options.study, options.changes, map_images))
            sizes = f"{cost.maps / 1e6:.2f} | {cost.files / 1e6:.2f}"
            print(f"| {map_images} | {cost.cpu:.1f} | {cost.wall:.1f} | {sizes} |", flush=True)
    without, with_maps = (statistics.median(cost.cpu for cost in costs[number]) for number in (0, 16))
    time_share = with_maps / without - 1
    byte_share = costs[16][-1].maps / costs[16][-1].files
    for what, share in (("CPU time", time_share), ("bytes", byte_share)):
        verdict = "met" if share < REQUIRED else "not met"
        print(f"{what}: {percent(share)}, required: under {percent(REQUIRED)}: {verdict}")


if __name__ == "__main__":
    main()
