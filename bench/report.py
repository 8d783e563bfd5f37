"""How long the report takes and how large it is.

python -m bench.report WAREHOUSE

Each row is one run of `dissectdb report` in a new process, as a user runs it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.made import show

HEAD = ("report", "seconds", "page, MB", "without thumbnails, MB", "all files, MB", "charts", "most rows of a chart")
WAYS = {
    "as it is": (),
    "no gallery pictures": ("--thumbnails", "0"),
    "--every-neuron": ("--every-neuron",),
    "--charts": ("--charts", "charts"),
}
THUMBNAIL = re.compile(r"(?:data:image/(?:png|jpeg);base64,|(?<=\")(?:iVBOR|/9j/))[A-Za-z0-9+/=]+")


def measure(warehouse: Path) -> Iterator[tuple[str, ...]]:
    """One row per set of options of the report."""
    for name, options in WAYS.items():
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "dissectdb", "report", "--warehouse", str(warehouse.resolve()), *options]
            root = str(Path(__file__).resolve().parents[1])
            start = time.perf_counter()
            subprocess.run(
                command, cwd=folder, env=os.environ | {"PYTHONPATH": root}, check=True, stdout=subprocess.PIPE
            )
            seconds = time.perf_counter() - start
            page = (Path(folder) / "report.html").read_text(encoding="utf-8")
            charts = json.loads(page.split('id="charts">')[1].split("</script>")[0])
            rows = [len(values) for chart in charts.values() for values in chart["datasets"].values()]
            everything = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
            yield (
                name,
                f"{seconds:.1f}",
                f"{len(page.encode()) / 1e6:.2f}",
                f"{len(THUMBNAIL.sub('', page).encode()) / 1e6:.2f}",
                f"{everything / 1e6:.1f}",
                str(len(charts)),
                str(max(rows, default=0)),
            )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__.split("\n")[0])
    parser.add_argument("warehouse", type=Path)
    options = parser.parse_args()
    show(f"{options.warehouse.name}, load {os.getloadavg()[0]:.1f}", HEAD, measure(options.warehouse))


if __name__ == "__main__":
    main()
