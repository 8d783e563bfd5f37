"""Every file that a network's code runs or reads is part of its fingerprint; what is not the network's is none."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from dissectdb.extract.models import opened_files
from tests.models.test_user_code import answer, load, net, write

BY_LOCATION = """
import importlib.util, os
def _load(path):
    spec = importlib.util.spec_from_file_location("{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
helper = _load(os.path.join(os.path.dirname(__file__), "{path}"))
"""
HERE = "from pathlib import Path\nHERE = Path(__file__).resolve().parent\n"

# how it is loaded → (imports, factor, what runs in forward, the file)
WAYS = {
    "spec_from_file_location": (BY_LOCATION.format(name="helper_1", path="helper.py"), "helper.FACTOR", "pass",
                                "helper.py"),
    "its neighbour's file": (BY_LOCATION.format(name="helper_2", path="../common/h.py"), "helper.FACTOR", "pass",
                             "../common/h.py"),
    "runpy": (HERE + "import runpy\nnames = runpy.run_path(str(HERE / 'helper.py'))", "names['FACTOR']", "pass",
              "helper.py"),
    "exec": (HERE + "exec(open(HERE / 'helper.py').read())", "FACTOR", "pass", "helper.py"),
    "exec in forward": (HERE, "FACTOR", "exec((HERE / 'helper.py').read_text(), globals())", "helper.py"),
    "import_module in forward": ("import importlib", "importlib.import_module('late_helper').FACTOR", "pass",
                                 "late_helper.py"),
    "pydoc in forward": ("import pydoc", "pydoc.locate('parts.late_part').FACTOR", "pass", "parts/late_part.py"),
    "json": (HERE + "import json\nfactor = json.loads((HERE / 'net.json').read_text())['FACTOR']", "factor", "pass",
             "net.json"),
    "json elsewhere": (HERE + "import json\nfactor = json.load(open(HERE.parent / 'configs/net.json'))['FACTOR']",
                       "factor", "pass", "../configs/net.json"),
}  # fmt: skip


def text(file: str, factor: int) -> str:
    return f'{{"FACTOR": {factor}}}' if file.endswith("json") else f"FACTOR = {factor}"


@pytest.mark.parametrize("way", WAYS)
def test_a_change_in_a_file_that_the_code_runs_or_reads_changes_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    imports, factor, running, file = WAYS[way]
    folder = tmp_path / "p/nets"
    write(folder, {"net.py": net(imports, factor, running), file: text(file, 3), "parts/__init__.py": ""})
    path_before = list(sys.path)
    first = load(folder / "net.py")
    monkeypatch.chdir("/")
    assert answer(first) == 4 * 3
    write(folder, {file: text(file, 5)})  # as long, in the same second
    second = load(folder / "net.py")
    assert answer(second) == 4 * 5
    assert first.fingerprint != second.fingerprint
    assert second.code[1].keys() & {file, file.removesuffix(".py").replace("/", ".")}
    write(folder, {file: text(file, 3)})
    assert load(folder / "net.py").fingerprint == first.fingerprint
    elsewhere = tmp_path / "q/other/nets"
    elsewhere.parent.mkdir(parents=True)
    (tmp_path / "p").rename(tmp_path / "q/other/p")
    assert load(tmp_path / "q/other/p/nets/net.py").fingerprint == first.fingerprint
    assert sys.path == path_before


NOTHING = """
import json, linecache, os, tempfile
from pathlib import Path
HERE = Path(__file__).resolve().parent
Path("/proc/self/status").read_text() if os.path.exists("/proc/self/status") else None
Path("/etc/hosts").read_text() if os.path.exists("/etc/hosts") else None
with (HERE / "log.txt").open("a") as log:
    log.write("loaded")
(HERE / "log.txt").read_text()
(HERE / ".hidden.json").read_text()
(HERE / "weights.bin").read_bytes()
(HERE / "cache.json.part").write_text(str(os.getpid()))
(HERE / "cache.json.part").rename(HERE / "cache.json")
(HERE / "cache.json").read_text()
(HERE / "gone.txt").write_text("x")
(HERE / "gone.txt").read_text()
(HERE / "gone.txt").unlink()
with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
    file.write("x = 1"); file.flush()
    Path(file.name).read_text()
Path(json.__file__).read_text()
linecache.getlines(str(HERE.parent / "caller.py"))
"""


def test_what_is_not_the_networks_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "tmp").mkdir()
    folder = tmp_path / "p/nets"
    write(folder, {"net.py": net(NOTHING), ".hidden.json": "{}", "weights.bin": "0" * (opened_files.MAX_BYTES + 1)})
    (tmp_path / "p/caller.py").write_text("warn()")
    network = load(folder / "net.py")
    assert isinstance(network.code, str), network.code


def test_a_helper_that_stays_loaded_counts_at_each_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = BY_LOCATION.replace(
        "helper = ", "import sys\nif 'kept_helper' not in sys.modules:\n    sys.modules['kept_helper'] = "
    )
    text = guard.format(name="kept_helper", path="../common/kept.py") + "helper = sys.modules['kept_helper']\n"
    write(tmp_path / "nets", {"net.py": net(text, "helper.FACTOR"), "../common/kept.py": "FACTOR = 2"})
    monkeypatch.setitem(sys.modules, "kept_helper", None)
    del sys.modules["kept_helper"]
    first, second = load(tmp_path / "nets/net.py"), load(tmp_path / "nets/net.py")
    assert first.fingerprint == second.fingerprint
    assert set(first.code[1]) == {"../common/kept.py"}


def test_files_that_another_thread_opens_are_not_seen(tmp_path: Path) -> None:
    import threading

    (tmp_path / "x.txt").write_text("x")
    opened = opened_files.Opened(tmp_path / "net.py", [tmp_path])
    with opened.watch():
        thread = threading.Thread(target=(tmp_path / "x.txt").read_text, daemon=True)
        thread.start()
        thread.join()
        assert not opened.read
        (tmp_path / "x.txt").read_text()
    os.close(os.open(tmp_path / "net.py", os.O_RDWR | os.O_CREAT))
    assert set(opened.digests([])) == {"x.txt"}


def test_a_module_that_is_missing_while_the_network_runs_is_still_missing(tmp_path: Path) -> None:
    running = (
        "try:\n            importlib.import_module('no_such_module')\n"
        "            found = 1\n        except ModuleNotFoundError:\n            found = 3"
    )
    write(tmp_path, {"net.py": net("import importlib", "found", running)})
    assert answer(load(tmp_path / "net.py")) == 12


def test_the_file_that_a_second_network_imports_is_its_own(tmp_path: Path) -> None:
    for folder, factor in (("a", 2), ("b", 3)):
        text = net("import importlib", "importlib.import_module('same_name').FACTOR")
        write(tmp_path / folder, {"net.py": text, "same_name.py": f"FACTOR = {factor}"})
    assert answer(load(tmp_path / "a/net.py")) == 8
    assert answer(load(tmp_path / "b/net.py")) == 12


def test_weights_that_the_study_names_are_read_once(tmp_path: Path) -> None:
    """A file of weights counts by its tensors alone, however it was written."""
    write(tmp_path, {"net.py": net()})
    torch.save(load(tmp_path / "net.py").model.state_dict(), tmp_path / "w.pt")
    network = load(tmp_path / "net.py", weights=tmp_path / "w.pt")
    assert isinstance(network.code, str)
