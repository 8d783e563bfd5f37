"""Large sets of images are inspected in processes: the same results, in order, and no process outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import dissectdb
from dissectdb.extract.images import fer2013_source, folder_source, sources, workers
from dissectdb.extract.images.pixel_cache import PixelFile
from dissectdb.extract.study import Dataset, StudyError
from tests.support.image_files import fer2013, line, noise

SCRIPT = """
import select
import sys
from pathlib import Path
print("starts", flush=True)
from dissectdb.extract.images import folder_source, sources
from dissectdb.extract.study import Dataset
folder_source.LARGE = 1
source = sources.open_source(Dataset(name="faces", kind="folder", path=Path(sys.argv[1])))
source.workers = 3
for image in source.scan():
    print(image.position, flush=True)
    # In short steps: a signal that comes just before a system call that waits for ever would not be noticed.
    while len(sys.argv) > 2 and not select.select([sys.stdin], [], [], 0.05)[0]:
        pass
"""


@pytest.fixture
def faces(tmp_path: Path) -> Dataset:
    """60 images of several shapes, with repeats, a blank one, one that is cut off and one that is text."""
    random = np.random.default_rng(0)
    folder = tmp_path / "train" / "a"
    folder.mkdir(parents=True)
    for number in range(60):
        shape = [(8, 9), (90, 80, 3), (48, 48)][number % 3]
        image = PIL.Image.fromarray(random.integers(256, size=shape, dtype=np.uint8))
        image.save(folder / f"{number:02d}.png")
    image.save(folder / "60.png")
    PIL.Image.new("L", (8, 8)).save(folder / "13.png")
    (folder / "20.png").write_bytes((folder / "19.png").read_bytes()[:200])
    (folder / "33.png").write_text("no picture")
    return Dataset(name="faces", kind="folder", path=tmp_path)


def in_processes(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> sources.Source:
    monkeypatch.setattr(folder_source, "LARGE", 1)
    source = sources.open_source(dataset)
    source.workers = 3
    return source


@pytest.mark.parametrize("room", [1 << 30, 30_000, 0])
def test_processes_find_what_threads_find(faces: Dataset, monkeypatch: pytest.MonkeyPatch, room: int):
    inside = sources.open_source(faces)
    inside.workers = 1
    expected = list(inside.scan())
    source = in_processes(faces, monkeypatch)
    source.decoded = PixelFile(room)
    assert list(source.scan()) == expected
    assert [image.defect for image in expected].count(None) == 57
    sound = [image.position for image in expected if image.defect is None]
    assert all(position in source.decoded for position in sound) == (room == 1 << 30)
    for again, decoded in zip(source.read(sound), inside.read(sound), strict=True):
        np.testing.assert_array_equal(again, decoded)


def test_a_process_that_dies_is_one_clear_line(faces: Dataset, monkeypatch: pytest.MonkeyPatch):
    ask = workers.Worker.ask

    def killed(worker: workers.Worker, chunk: list[object]) -> list[tuple[object, ...]]:
        worker.process.kill()
        return ask(worker, chunk)

    monkeypatch.setattr(workers.Worker, "ask", killed)
    with pytest.raises(StudyError, match=r"a process that reads images was ended by signal 9; .* run it again"):
        list(in_processes(faces, monkeypatch).scan())


def test_a_scan_that_is_given_up_ends_its_processes(faces: Dataset, monkeypatch: pytest.MonkeyPatch):
    started = []
    end = workers.Worker.end
    monkeypatch.setattr(workers.Worker, "end", lambda worker: (started.append(worker.process), end(worker)))
    images = in_processes(faces, monkeypatch).scan()
    assert next(images).position == 0
    images.close()
    assert started
    assert all(process.returncode == 0 for process in started)


def script(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    path = tmp_path / "without_a_guard.py"
    path.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, path, tmp_path, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(dissectdb.ROOT)},
    )  # fmt: skip


def test_a_script_without_a_guard_runs_once(faces: Dataset, tmp_path: Path):
    out, errors = script(tmp_path).communicate(timeout=120)
    assert out.split() == ["starts", *map(str, range(61))], errors


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads children from /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_process_outlives_its_parent(faces: Dataset, tmp_path: Path, how: signal.Signals):
    with script(tmp_path, "wait") as parent:
        assert parent.stdout is not None
        assert [parent.stdout.readline() for _ in range(2)] == ["starts\n", "0\n"]
        children = [
            child
            for task in Path(f"/proc/{parent.pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
        assert children
        parent.send_signal(how)
        parent.wait(60)
        deadline = time.monotonic() + 20
        while any(is_running(child) for child in children):
            assert time.monotonic() < deadline, "a process is left"
            time.sleep(0.02)


def is_running(process: str) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z" and os.path.exists(f"/proc/{process}")


@pytest.mark.parametrize("module", ["decoding", "fer2013", "places", "workers"])
def test_what_processes_run_loads_neither_torch_nor_the_study(module: str):
    code = f"import sys, dissectdb.extract.images.{module}\nprint({{'torch', 'polars', 'pydantic'}} & {{*sys.modules}})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_no_more_processes_are_started_than_there_are_cores(faces: Dataset, monkeypatch: pytest.MonkeyPatch):
    started = []
    begin = workers.Worker.__init__
    monkeypatch.setattr(workers.Worker, "__init__", lambda *arguments: (started.append(1), begin(*arguments))[1])
    monkeypatch.setattr(workers, "available_cores", lambda: 2)
    source = in_processes(faces, monkeypatch)
    source.workers = 16
    assert len(list(source.scan())) == 61
    assert len(started) == 2


def test_lines_of_fer2013_are_the_same_in_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usages = ["Training", "", "PublicTest", "none", "", "PrivateTest", "Training"]
    rows = [line(noise(seed % 60), seed % 9, usages[seed // 10]) for seed in range(70)]
    rows[3], rows[13], rows[33] = (
        rows[3][:500],
        f'"{rows[13][:90]}',
        line(np.zeros((48, 48), np.uint8), 1, "PublicTest"),
    )
    inside = fer2013(tmp_path / "f.csv", *rows)
    inside.workers = 1
    expected = list(inside.scan())
    splits = ["train"] * 20 + ["validation"] * 30 + ["test"] * 10 + ["train"] * 10
    assert [image.split for image in expected] == splits
    assert {(image.defect or "none").split(" ")[0] for image in expected} == {"none", "blank", "repeat", "unreadable:"}
    monkeypatch.setattr(fer2013_source, "LARGE", 1)
    source = sources.open_source(Dataset(name="faces", kind="fer2013", path=tmp_path / "f.csv"))
    source.workers = 2
    assert list(source.scan()) == expected
    sound = [image.position for image in expected if image.defect is None]
    assert all(position in source.decoded for position in sound)
    for again, decoded in zip(source.read(sound), inside.read(sound), strict=True):
        np.testing.assert_array_equal(again, decoded)


PRINTING = """
import os
import sys
import warnings
from pathlib import Path
early = open(os.devnull, "rb") if sys.argv[2] == "taken" else None  # it takes the number of a closed stream
from dissectdb.extract.images import folder_source, sources
from dissectdb.extract.images.decoding import pixel_hash
from dissectdb.extract.study import Dataset
folder_source.LARGE = 1
source = sources.open_source(Dataset(name="faces", kind="folder", path=Path(sys.argv[1])))
source.workers = 2
sound = [image for image in source.scan() if image.defect is None]
same = [pixel_hash(pixels) == image.sha256 for image, pixels in zip(sound, source.read([i.position for i in sound]))]
answer = open(sys.argv[3], "w")
answer.write(f"{all(same)} {len(same)} {len(source.decoded.positions)}")
"""


@pytest.mark.parametrize(("closed", "early"), [("2>&-", "free"), ("2>&-", "taken"), ("0>&- 1>&- 2>&-", "free")])
def test_what_is_printed_does_not_get_into_the_pixels_if_a_stream_is_closed(faces, tmp_path, closed, early):
    folder = faces.path / "train" / "a"
    values = np.random.default_rng(1).integers(2, size=(40, 40), dtype=np.uint8)
    palette = PIL.Image.fromarray(values)
    palette.putpalette([0, 0, 0, 255, 255, 255])
    palette.save(folder / "99.png", transparency=b"\x00\x80")  # of which Pillow warns
    script, answer = tmp_path / "script.py", tmp_path / "answer"
    script.write_text(PRINTING)
    command = f'exec "{sys.executable}" -W always "{script}" "{faces.path}" {early} "{answer}" {closed}'
    subprocess.run(["sh", "-c", command], check=True, timeout=120, env=os.environ | {"PYTHONPATH": str(dissectdb.ROOT)})
    assert answer.read_text() == "True 58 58"
