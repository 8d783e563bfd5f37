# ruff: noqa: E501 - SQL of made rows
"""How fast the explorer answers, and how much memory its server takes, on a warehouse of made rows.

python -m bench.explorer --neurons 100000 --images 1000000
python -m bench.explorer --warehouse some.duckdb             # of a warehouse that is there
python -m bench.explorer --job studies/demo.toml             # extract beside 50 clients, and alone

The server is a process of its own, as a user starts it. Clients are threads of this one, with a connection each; each
asks for pages of one kind, every time with other values if the kind has any. A row is one kind of page: the first
answer (of a search: with the time until the embeddings are read), then p50 and p95, and the CPU that the server took
for one, which other programs on the machine change little.
"""

from __future__ import annotations

import argparse
import http.client
import io
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import numpy as np
import PIL.Image

from bench.made import show
from dissectdb.warehouse import Warehouse

HEAD = ("page", "clients", "requests", "first, ms", "p50, ms", "p95, ms", "CPU, ms a request", "refused")
LAYERS, CONCEPTS, CLASSES, BEST, DIMENSIONS = 20, 1000, 50, 64, 128
STORED = 4  # neurons whose activations are stored, for the histograms


def make(path: Path, neurons: int, images: int) -> None:
    """A warehouse of one dissection with its materialised views filled directly: their inputs would be terabytes."""
    with Warehouse(path) as warehouse:
        list(warehouse.build())
        connection = warehouse.connection
        for number, statement in enumerate(filter(str.strip, _statements(neurons, images))):
            started = time.perf_counter()
            connection.execute(statement, {"thumbnail": _thumbnail()} if "$thumbnail" in statement else None)
            print(f"made part {number}, {time.perf_counter() - started:.1f} s", file=sys.stderr)
        connection.execute("checkpoint")


def _thumbnail() -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)
    PIL.Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def _statements(neurons: int, images: int) -> list[str]:
    units = neurons // LAYERS
    vector = (
        f"list_transform(range({DIMENSIONS}), lambda i: cast(sin(k * (i + 1.7)) / {DIMENSIONS / 2} ** 0.5 as float))"
    )
    return f"""
        insert into datasets by name select 1 as dataset_id, 'made' as name, 'made' as source, 'a' as fingerprint;
        insert into splits by name select 1 as split_id, 1 as dataset_id, 'train' as split, 4096 as block_images;
        insert into classes by name select 1 as dataset_id, k as position, 'class ' || k as class from range({CLASSES}) t(k);
        insert into images by name select k as image_id, 1 as split_id, k as position, 'made/' || k || '.png' as path,
            'class ' || k % {CLASSES} as class, k as sha256, 48 as width, 48 as height, $thumbnail as thumbnail
            from range({images}) t(k);
        insert into concept_sets by name select 1 as concept_set_id, 'made' as name, ['{{}}'] as templates, 'a' as fingerprint;
        insert into concepts by name select k as concept_id, 1 as concept_set_id, k as position, 'concept ' || k as concept
            from range({CONCEPTS}) t(k);
        insert into clips by name select 1 as clip_id, 'clip' as name, 'none' as weights, 100 as logit_scale,
            '{{}}' as preprocessing, 'a' as fingerprint;
        insert into image_embeddings select 1, k, {vector} from range({images}) t(k);
        insert into concept_embeddings select 1, k, {vector} from range({CONCEPTS}) t(k);
        insert into networks by name select 1 as network_id, 'made' as name, 'made' as architecture, '{{}}' as preprocessing,
            list_transform(range({CLASSES}), lambda k: 'class ' || k) as classes, 'a' as fingerprint;
        insert into layers by name select k as layer_id, 1 as network_id, 'layer' || k as layer, 'avg' as pooling,
            k as position, k as fingerprint from range({LAYERS}) t(k);
        insert into neurons by name select k as neuron_id, k // {units} as layer_id, k % {units} as unit
            from range({neurons}) t(k);
        insert into predictions select 1, k, 'class ' || (k + (k % 7 = 0)::int) % {CLASSES}, 0.9, 0.3, [0.9]
            from range({images}) t(k);
        insert into dissections by name select 1 as dissection_id, 1 as network_id, 1 as split_id, 1 as clip_id,
            1 as concept_set_id, 'soft_wpmi' as scorer, 'kernel' as engine, 100 as top_k, 10 as softmax_scale,
            0.6 as prior_weight, 0.998 as p_first, 0.97 as p_last, 0.05 as rank_fraction, 3 as rank_power, 1 as rank_scale,
            false as include_dead, 20 as kept_concepts, 1000 as null_draws, 0 as bootstraps, 0 as seed, 'q' as rule, 0 as tau,
            0.05 as q_limit, 10 as accuracy_images, 3 as images_neurons, now()::timestamp as created_at, 'a' as fingerprint;
        insert into kernel_scores select 1, n.k, (n.k * 7 + c.k) % {CONCEPTS}, 5 - c.k / 3, 9 - c.k
            from range({neurons}) n(k), range(20) c(k);
        insert into label_checks by name select 1 as dissection_id, k as neuron_id, (k * 7) % {CONCEPTS} as concept_id,
            2.5 as z_within_class, k % 3 > 0 as split_half_agrees, 0.02 as p_within from range({neurons}) t(k);
        insert into dissected_neurons by name select 1 as dissection_id, k as neuron_id, k // {units} as layer_id,
            false as dead, false as sparse, 256 as images_fired, 100 as null_group from range({neurons}) t(k);
        insert into neuron_statistics by name select 1 as split_id, k as neuron_id, {images} as images, 0 as mean, 1 as sd,
            -4 as lowest, 4 as highest, 256 as distinct_values, 256 as images_fired from range({neurons}) t(k);
        insert into neuron_labels by name select 1 as dissection_id, k as neuron_id, k // {units} as layer_id,
            (k * 7) % {CONCEPTS} as concept_id, 5 - (k % 997) / 300 as similarity, (k * 7 + 1) % {CONCEPTS} as runner_up_id,
            0.3 as margin, 9 - (k % 991) / 100 as z, (k % 991) / 20000 as p, (k % 991) / 10000 as q, true as above_tau,
            k % 991 < 500 as calibrated, k % 991 < 500 as interpretable, false as dead, false as sparse,
            256 as images_fired, 100 as null_group from range({neurons}) t(k);
        insert into judged_neurons by name select 1 as dissection_id, k as neuron_id, (k % 11) / 10 as accuracy
            from range({neurons}) t(k);
        insert into top_activations by name select 1 as split_id, n.k as neuron_id, r.k + 1 as rank,
            (n.k * 7919 + r.k * 104729) % {images} as image_id, 4 - r.k / 50 as value
            from range({neurons}) n(k), range({BEST}) r(k);
        insert into activations select n.k, b.k * 4096 + i.k, 4 * sin(n.k + b.k * 4096 + i.k)
            from range({images // 4096}) b(k), range({STORED}) n(k), range(4096) i(k);
    """.split(";")  # fmt: skip


Ask = Callable[[random.Random], str]


def pages(warehouse: Path) -> dict[str, Ask]:
    """Kind of page → a function that makes the address of one."""
    with Warehouse(warehouse, read_only=True) as opened:
        layers = [tuple(row) for row in opened.rows("select layer, neurons from layer_summary").iter_rows()]
        concepts = opened.rows("select distinct concept from neuron_concepts where concept is not null")[
            "concept"
        ].to_list()
        images = opened.rows("select image_id from images")["image_id"].to_list()
        stored = opened.rows(
            "select distinct layer, unit from (select neuron_id from activations limit 10000000) "
            "join named_neurons using (neuron_id)"
        ).rows()

    def of_neuron(path: str) -> Ask:
        def address(chance: random.Random) -> str:
            layer, units = chance.choice(layers)
            return f"{path}?{urlencode({'layer': layer, 'unit': chance.randrange(units)})}"

        return address

    def of_stored(chance: random.Random) -> str:
        layer, unit = chance.choice(stored)
        return f"/neuron?{urlencode({'layer': layer, 'unit': unit})}"

    def word(chance: random.Random) -> str:
        return quote(chance.choice(concepts).split()[-1][:4])

    count = sum(units for _, units in layers)
    return {
        "overview": lambda chance: "/",
        "neurons": lambda chance: "/neurons",
        "neurons, any page": lambda chance: f"/neurons?page={chance.randrange(1, 1 + -(-count // 50))}",
        "neurons, words": lambda chance: f"/neurons?text={word(chance)}",
        "neurons, sorted by label": lambda chance: f"/neurons?sort=concept&page={chance.randrange(1, 40)}",
        "neurons, filter and sort": lambda chance: f"/neurons?text={word(chance)}&state=robust&q=0.04&sort=z",
        "a neuron": of_neuron("/neuron"),
        **({"a neuron, activations stored": of_stored} if stored else {}),
        "a strip of pictures": of_neuron("/strip"),
        "an image": lambda chance: f"/image?id={chance.choice(images)}",
        "a picture": lambda chance: f"/picture?id={chance.choice(images)}",
        "a concept": lambda chance: f"/concept?name={quote(chance.choice(concepts))}",
        "search, a concept": lambda chance: f"/search?text={quote(chance.choice(concepts))}",
        "SQL": lambda chance: (
            "/sql?q=select+concept,+neurons+from+concept_counts_by_neuron+order+by+neurons+desc+limit+20"
        ),
    }


class Server:
    """`dissectdb serve` in a process of its own."""

    def __init__(self, warehouse: Path, *options: str) -> None:
        command = [sys.executable, "-m", "dissectdb", "serve", "-w", str(warehouse), *options]
        root = str(Path(__file__).resolve().parents[1])
        self.process = subprocess.Popen(
            command, env=os.environ | {"PYTHONPATH": root}, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        address = self.process.stdout.readline().split()[-1]
        self.port = int(address.split(":")[2].split("/")[0])
        self.cookie = f"dissectdb_{self.port}={address.split('token=')[1]}"

    def connection(self) -> http.client.HTTPConnection:
        """A connection of a client."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def get(self, connection: http.client.HTTPConnection, path: str) -> tuple[int, float, bytes]:
        """Status, seconds and content of an answer."""
        started = time.perf_counter()
        connection.request("GET", path, headers={"Cookie": self.cookie})
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, time.perf_counter() - started, content

    def cpu(self) -> float:
        """Seconds of CPU, of the user and the system, that the server has used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> tuple[float, float]:
        """Megabytes that are resident now, and the most that were."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = {line.split(":")[0]: line.split(":")[1] for line in status.splitlines()}
        return int(found["VmRSS"].split()[0]) / 1e3, int(found["VmHWM"].split()[0]) / 1e3

    def stop(self) -> None:
        """End the server."""
        self.process.terminate()
        self.process.wait(30)


def measure(server: Server, kinds: dict[str, Ask], clients: int, requests: int) -> Iterator[tuple[str, ...]]:
    """One row per kind of page. requests: of each client."""
    for kind, ask in kinds.items():
        one, started = server.connection(), time.perf_counter()
        if kind.startswith("search"):
            while b"are being read" in server.get(one, "/search")[2]:  # its embeddings, in the background
                time.sleep(0.2)
        server.get(one, ask(random.Random(-1)))
        first = time.perf_counter() - started
        times: list[float] = []
        refused: list[int] = []

        def work(seed: int, ask: Ask = ask, times: list[float] = times, refused: list[int] = refused) -> None:
            chance, connection = random.Random(seed), server.connection()
            for _ in range(requests):
                status, seconds, _ = server.get(connection, ask(chance))
                times.append(seconds)
                if status != 200:
                    refused.append(status)

        before = server.cpu()
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        cpu = f"{1000 * (server.cpu() - before) / len(times):.0f}"
        p50, p95 = np.quantile(times, [0.5, 0.95])
        numbers = (f"{1000 * seconds:.0f}" for seconds in (first, p50, p95))
        yield kind, str(clients), str(len(times)), *numbers, cpu, str(dict(Counter(refused)) or "none")


def extract(study: Path, warehouse: Path, images: int) -> float:
    """Run a study over its first images; returns the seconds that it took."""
    command = [sys.executable, "-m", "dissectdb", "extract", str(study), "-w", str(warehouse)]
    started = time.perf_counter()
    root = str(Path(__file__).resolve().parents[1])
    environment = os.environ | {"PYTHONPATH": root}
    subprocess.run([*command, "--set", f"dataset.images={images}"], env=environment, check=True, capture_output=True)
    return time.perf_counter() - started


def row_counts(warehouse: Path) -> dict[str, int]:
    """The rows of every table, of views that are stored too."""
    with Warehouse(warehouse, read_only=True, wait=60) as opened:
        names = opened.rows("select table_name from duckdb_tables() order by table_name")["table_name"].to_list()
        return {name: opened.rows(f'select count(*) as n from "{name}"')["n"][0] for name in names}


def beside(study: Path, clients: int, folder: Path, images: tuple[int, int]) -> Iterator[tuple[str, ...]]:
    """A job alone and the same job while clients ask for pages: its seconds, their answers, and rows that differ.

    images: those that the warehouse holds before, and those that it holds afterwards.
    """
    first, more = images
    path, alone = folder / "beside.duckdb", folder / "alone.duckdb"
    extract(study, path, first)
    shutil.copy(path, alone)
    seconds_alone = extract(study, alone, more)
    server, is_over = Server(path), threading.Event()
    kinds = list(pages(path).values())
    answers: list[tuple[int, float]] = []

    def work(seed: int) -> None:
        chance, connection = random.Random(seed), server.connection()
        while not is_over.is_set():
            status, seconds, _ = server.get(connection, chance.choice(kinds)(chance))
            answers.append((status, seconds))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(clients)]
    try:
        for thread in threads:
            thread.start()
        seconds_beside = extract(study, path, more)
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
        server.stop()
    known, found = row_counts(alone), row_counts(path)
    times = [seconds for _, seconds in answers]
    p50, p95 = np.quantile(times, [0.5, 0.95])
    yield (
        f"{seconds_alone:.0f}",
        f"{seconds_beside:.0f}",
        str(len(answers)),
        str(dict(Counter(status for status, _ in answers if status != 200)) or "none"),
        *(f"{seconds:.2f}" for seconds in (p50, p95, max(times))),
        ", ".join(name for name in known if known[name] != found.get(name)) or "none",
    )


BESIDE = (
    "job alone, s",
    "beside the clients, s",
    "answers",
    "refused",
    "p50, s",
    "p95, s",
    "slowest, s",
    "tables that differ",
)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.explorer", description=__doc__.split("\n")[0])
    parser.add_argument("--warehouse", type=Path, help="of a warehouse that is there")
    parser.add_argument("--neurons", type=int, default=100_000)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=40, help="of each kind; the clients share them")
    parser.add_argument("--job", type=Path, metavar="STUDY", help="extract this study beside 50 clients")
    parser.add_argument("--job-images", type=int, nargs=2, default=(300, 900), help="of the study, before and after")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.job:
            title = f"extract {options.job.name} beside 50 clients, load {os.getloadavg()[0]:.1f}"
            show(title, BESIDE, beside(options.job.resolve(), 50, Path(folder), options.job_images))
            return
        path = options.warehouse or Path(folder) / "made.duckdb"
        if options.warehouse is None or not path.exists():
            make(path, options.neurons, options.images)
        server = Server(path)
        try:
            kinds = pages(path)
            for clients in (1, 50):
                each = max(2, options.requests // clients)
                title = f"{path.name}, {path.stat().st_size / 1e9:.1f} GB, load {os.getloadavg()[0]:.1f}"
                show(title, HEAD, measure(server, kinds, clients, each))
                now, most = server.memory()
                print(f"memory of the server: {now:,.0f} MB now, {most:,.0f} MB at most\n")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
