"""An installation: the wheel, installed into a fresh environment, is used from a folder with strangers' modules in it.

The environment sees the dependencies of the running interpreter, but neither the checkout nor its copy of dissectdb. A
hook in the environment notes the file of every module of dissectdb that any of its processes loaded.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dissectdb import ROOT
from tests.support.worlds import World

pytestmark = pytest.mark.slow

STRANGERS = ("cli", "extract", "pipeline", "reports", "sql", "studies", "warehouse")
HOOK = """
import atexit, os, sys
def note():
    files = [getattr(module, "__file__", None) for name, module in list(sys.modules.items())
             if name.partition(".")[0] == "dissectdb"]
    with open(os.path.join({folder!r}, str(os.getpid())), "a") as notes:
        notes.writelines(f"{{file}}\\n" for file in files if file)
atexit.register(note)
"""
SMALL = ("--set", "dataset.images=240", "--set", "dissections[0].bootstraps=2")


@dataclass(frozen=True)
class Installation:
    """A virtual environment with dissectdb in it, and a folder to work in."""

    environment: Path
    notes: Path

    @property
    def package(self) -> Path:
        """The folder of the installed package."""
        [folder] = self.environment.glob("lib/python*/site-packages/dissectdb")
        return folder

    def run(self, program: str, *arguments: object, folder: Path) -> str:
        """What a program of the environment prints. All of dissectdb that it loaded is the installed copy."""
        shutil.rmtree(self.notes, ignore_errors=True)
        self.notes.mkdir()
        variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYSPARK_PYTHON")}
        command = [self.environment / "bin" / program, *map(str, arguments)]
        done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        loaded = {line for file in self.notes.iterdir() for line in file.read_text().splitlines()}
        assert loaded, "the hook noted nothing"
        assert [file for file in loaded if not Path(file).is_relative_to(self.package)] == []
        return done.stdout


def pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    own_builder = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    pip("wheel", ROOT, "--no-deps", *own_builder, "--wheel-dir", folder)
    [file] = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installation(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    folder = tmp_path_factory.mktemp("installed").resolve()
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    pip("--python", environment / "bin" / "python", "install", "--no-deps", "--no-index", wheel)
    [packages] = environment.glob("lib/python*/site-packages")
    # Folders that a .pth file names are searched, but their own .pth files (an editable dissectdb) are not read.
    dependencies = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "dependencies.pth").write_text("".join(f"{path}\n" for path in sorted(dependencies)))
    (packages / "note_modules.py").write_text(HOOK.format(folder=str(folder / "notes")))
    (packages / "note_modules.pth").write_text("import note_modules\n")
    return Installation(environment, folder / "notes")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder whose own modules have the names of dissectdb's rooms, and fail when they are imported."""
    for name in STRANGERS:
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('the stranger {name}.py was imported')\n")
    yield tmp_path
    assert not (tmp_path / "__pycache__").exists(), "a stranger's module was imported"


def test_the_wheel_holds_the_package_and_its_metadata_only(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    version = wheel.name.split("-")[1]
    assert {name.partition("/")[0] for name in names} == {"dissectdb", f"dissectdb-{version}.dist-info"}
    inside = {name.removeprefix("dissectdb/") for name in names}
    rooms = ("extract", "warehouse", "reports", "serve", "sql", "studies")
    files = {path.relative_to(ROOT) for room in rooms for path in (ROOT / room).rglob("*") if path.is_file()}
    files |= {path.relative_to(ROOT / "dissectdb") for path in (ROOT / "dissectdb").rglob("*") if path.is_file()}
    needed = {str(path) for path in files if "__pycache__" not in path.parts}
    assert needed - inside == set()
    assert {".sql", ".toml", ".safetensors", ".jinja", ".css", ".js"} <= {Path(name).suffix for name in needed}
    assert f"dissectdb-{version}.dist-info/licenses/LICENSE" in names
    assert not [name for name in inside if name.partition("/")[0] in ("tests", "bench", "cli.py")]


def test_the_demos_first_steps_run_where_strangers_modules_lie(installation: Installation, elsewhere: Path) -> None:
    study, warehouse = installation.package / "studies" / "demo.toml", elsewhere / "demo.duckdb"
    printed = installation.run("dissectdb", "extract", study, "-w", warehouse, *SMALL, folder=elsewhere)
    assert "Layers" in printed
    query = "select count(*) as labels from neuron_concepts where concept is not null"
    printed = installation.run("dissectdb", "query", query, "-w", warehouse, "--format", "csv", folder=elsewhere)
    assert int(printed.split()[1]) > 100
    printed = installation.run("python", "-m", "dissectdb", "report", "-w", warehouse, folder=elsewhere)
    assert printed == f"report: {elsewhere / 'report.html'}\n"
    assert "conv1b" in (elsewhere / "report.html").read_text(encoding="utf-8")
    version = installation.run("dissectdb", "--version", folder=elsewhere)
    assert version.startswith("dissectdb ")


SCRIPT = """
import sys
sys.path.insert(0, "")  # as a notebook has it: its own folder comes first
import dissectdb

study = dissectdb.Study.load("study.toml")
done = dissectdb.pipeline.extract(study, "warehouse.duckdb")
with dissectdb.Warehouse("warehouse.duckdb", read_only=True, dissection=done.dissection_id) as warehouse:
    print(done.computed, warehouse.rows("select * from layer_summary").height)
"""
SPARK = """
from dissectdb.warehouse import spark

if __name__ == "__main__":
    session = spark.local_session(2, "1g")
    print([said for _, _, said in spark.extract(session, "study.toml", "parquet:shards", 2)])
    session.stop()
"""


def test_a_script_extracts_where_strangers_modules_lie(
    installation: Installation, untouched: World, elsewhere: Path
) -> None:
    shutil.copytree(untouched.folder, elsewhere, dirs_exist_ok=True)
    assert installation.run("python", "-c", SCRIPT, folder=elsewhere) == "True 4\n"


@pytest.mark.skipif(
    importlib.util.find_spec("pyspark") is None or not (shutil.which("java") or "JAVA_HOME" in os.environ),
    reason="needs pyspark and Java",
)
def test_the_workers_of_spark_run_the_installed_copy(
    installation: Installation, untouched: World, elsewhere: Path
) -> None:
    shutil.copytree(untouched.folder, elsewhere, dirs_exist_ok=True)
    (elsewhere / "job.py").write_text(SPARK)
    printed = installation.run("python", "job.py", folder=elsewhere)
    assert printed == "['shard 00000-of-00002: parquet:shards', 'shard 00001-of-00002: parquet:shards']\n"
    assert len(list((elsewhere / "shards").rglob("table=extraction_blocks/*.parquet"))) == 2
