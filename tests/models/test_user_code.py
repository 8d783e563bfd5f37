"""The code of a user's network: its imports work, and its fingerprint covers all of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dissectdb.extract import study
from dissectdb.extract.models import networks
from tests.support.mistakes import mistake
from tests.support.worlds import World

NET = """
import torch
{imports}

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = torch.nn.Linear(16, 2)
        torch.nn.init.constant_(self.lin.weight, 0.25)
        torch.nn.init.constant_(self.lin.bias, 0.0)

    def forward(self, images):
        {running}
        return self.lin(images.flatten(1)) * {factor}

def make():
    return Net()
"""


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def net(imports: str = "", factor: str = "1", running: str = "pass") -> str:
    return NET.format(imports=imports, factor=factor, running=running)


def load(path: Path, function: str = "make", **changes: Any) -> networks.Network:
    values: dict[str, Any] = {"name": "net", "architecture": f"{path}:{function}", "layers": ["lin"]}
    values |= {"input": {"size": 4, "mode": "grey"}}
    return networks.load(study.Network.model_validate(values | changes))


def answer(network: networks.Network) -> float:
    with torch.no_grad():
        return float(network.model(torch.ones(1, 1, 4, 4))[0, 0])


WAYS = {
    "relative": ("net.py", "from .blocks import FACTOR", "FACTOR", "blocks.py"),
    "relative module": ("net.py", "from . import blocks", "blocks.FACTOR", "blocks.py"),
    "absolute": ("net.py", "import blocks", "blocks.FACTOR", "blocks.py"),
    "absolute, of a package": ("net.py", "from parts.blocks import FACTOR", "FACTOR", "parts/blocks.py"),
    "absolute, all names": ("net.py", "import parts.blocks", "parts.blocks.FACTOR", "parts/blocks.py"),
    "two levels up": ("a/b/net.py", "from ..blocks import FACTOR", "FACTOR", "a/blocks.py"),
    "a sibling of the package": ("a/net.py", "from . import x\nfrom tools import FACTOR", "FACTOR", "tools.py"),
    "named like ours": ("net.py", "from extract.networks import FACTOR", "FACTOR", "extract/networks.py"),
    "named like our command": ("net.py", "from cli import FACTOR", "FACTOR", "cli.py"),
    "named like our views": ("net.py", "import sql.views as views", "views.FACTOR", "sql/views.py"),
    "named like Python's": ("net.py", "from code import FACTOR", "FACTOR", "code.py"),
    "by importlib": ("net.py", "import importlib\nblocks = importlib.import_module('blocks')", "blocks.FACTOR",
                     "blocks.py"),
}  # fmt: skip


@pytest.mark.parametrize("with_init", [False, True], ids=["plain", "package"])
@pytest.mark.parametrize("what", WAYS)
def test_a_module_beside_the_network_is_found_and_counts(tmp_path: Path, what: str, with_init: bool) -> None:
    place, imports, factor, module = WAYS[what]
    if what.startswith("a sibling") and not with_init:
        pytest.skip("without __init__.py the folder is no package, and Python does not look above it either")
    write(tmp_path, {f"p/{place}": net(imports, factor), f"p/{module}": "FACTOR = 3", "p/a/x.py": ""})
    if with_init:
        folders = {(tmp_path / "p" / name).parent for name in (place, module, "a/x.py")} - {tmp_path / "p"}
        write(tmp_path, {str(folder.relative_to(tmp_path) / "__init__.py"): "" for folder in folders})
    path_before, ours = list(sys.path), sys.modules["dissectdb.extract.models.networks"]
    first = load(tmp_path / "p" / place)
    assert answer(first) == 4 * 3
    (tmp_path / "p" / module).write_text("FACTOR = 5")  # as long, in the same second
    second = load(tmp_path / "p" / place)
    assert answer(second) == 4 * 5
    assert answer(first) == 4 * 3
    assert first.fingerprint != second.fingerprint
    (tmp_path / "p" / module).write_text("FACTOR = 3")
    assert load(tmp_path / "p" / place).fingerprint == first.fingerprint
    assert sys.path == path_before
    assert sys.modules["dissectdb.extract.models.networks"] is ours
    assert not list(tmp_path.rglob("__pycache__"))


def test_what_is_imported_while_it_runs_counts_and_is_found_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"net.py": net(running="from late import FACTOR", factor="FACTOR"), "late.py": "FACTOR = 2"})
    first = load(tmp_path / "net.py")
    monkeypatch.chdir("/")
    assert answer(first) == 8
    (tmp_path / "late.py").write_text("FACTOR = 3")
    second = load(tmp_path / "net.py")
    assert (answer(first), answer(second)) == (8, 12)
    assert first.fingerprint != second.fingerprint


def test_a_module_of_a_module_counts(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"net.py": net("from a import FACTOR", "FACTOR"), "a.py": "from b import FACTOR", "b.py": "FACTOR = 1"},
    )
    first = load(tmp_path / "net.py").fingerprint
    (tmp_path / "b.py").write_text("FACTOR = 1  # the same")
    assert load(tmp_path / "net.py").fingerprint != first


def test_a_module_on_a_path_that_the_code_adds_counts(tmp_path: Path) -> None:
    imports = "import sys, os\nsys.path.append(os.path.dirname(os.path.dirname(__file__)))\nfrom common import FACTOR"
    write(
        tmp_path,
        {"nets/net.py": net(imports, "FACTOR"), "common.py": "from deep import FACTOR", "deep.py": "FACTOR = 2"},
    )
    first = load(tmp_path / "nets/net.py")
    assert answer(first) == 8
    (tmp_path / "deep.py").write_text("FACTOR = 4")
    assert load(tmp_path / "nets/net.py").fingerprint != first.fingerprint


def test_a_path_that_one_code_adds_is_not_searched_for_another(tmp_path: Path) -> None:
    imports = "import sys\nsys.path.insert(0, '{}')\nfrom common import FACTOR"
    path = list(sys.path)
    for name, factor in (("one", 2), ("two", 7)):
        library = tmp_path / name / "library"
        write(tmp_path / name, {"net.py": net(imports.format(library), "FACTOR + late.FACTOR", "import late")})
        write(library, {"common.py": f"FACTOR = {factor}", "late.py": f"FACTOR = {factor}"})
    one, two = load(tmp_path / "one/net.py"), load(tmp_path / "two/net.py")
    assert [answer(each) for each in (one, two, one)] == [4 * 2 + 2, 4 * 7 + 7, 4 * 2 + 2]
    assert sys.path == path


def test_two_networks_with_modules_of_one_name_live_side_by_side(tmp_path: Path) -> None:
    for name, factor in (("one", 2), ("two", 7)):
        text = net("from blocks import FACTOR", "(FACTOR + extra.FACTOR)", running="import extra")
        write(tmp_path / name, {"net.py": text, "blocks.py": f"FACTOR = {factor}", "extra.py": f"FACTOR = {factor}"})
    one, two = load(tmp_path / "one/net.py"), load(tmp_path / "two/net.py")
    assert [answer(each) for each in (one, two, one)] == [16, 56, 16]
    assert "blocks" not in sys.modules


def test_a_module_that_nothing_imports_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, {"net.py": net(), "train.py": "x = 1"})
    first = load(tmp_path / "net.py").fingerprint
    (tmp_path / "train.py").write_text("x = 2")
    assert load(tmp_path / "net.py").fingerprint == first


def test_a_file_that_imports_nothing_else_has_the_fingerprint_that_it_always_had(tmp_path: Path) -> None:
    write(tmp_path, {"net.py": net("import os\nimport numpy\nimport torchvision")})
    network = load(tmp_path / "net.py")
    assert network.code == f"{networks.fingerprints.of_file(tmp_path / 'net.py')}:make"
    assert load_named("vggnet").code == "vggnet"


def load_named(architecture: str, **arguments: Any) -> networks.Network:
    values: dict[str, Any] = {"name": "net", "architecture": architecture, "layers": ["x"], "weights": "random"}
    small = {"channels": [2, 2, 2, 2], "hidden": 4} if architecture == "vggnet" else arguments
    values |= {"input": {"size": 32}, "arguments": small}
    return networks.load(study.Network.model_validate(values))


def test_the_version_of_an_installed_package_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"net.py": net("import safetensors.torch"), "plain.py": net()})
    loads = {
        "safetensors": lambda: load(tmp_path / "net.py"),
        "torchvision": lambda: load_named("torchvision:resnet18"),
        "nothing": lambda: load(tmp_path / "plain.py"),
    }
    before = {name: each().fingerprint for name, each in loads.items()}
    true = networks.importlib.metadata.version
    monkeypatch.setattr(networks.importlib.metadata, "version", lambda name: "99.1" if name in before else true(name))
    after = {name: each() for name, each in loads.items()}
    assert [name for name in before if after[name].fingerprint != before[name]] == ["safetensors", "torchvision"]
    assert after["torchvision"].code == ["torchvision:resnet18", {}, {"torchvision": "99.1"}]


def test_an_extension_of_the_environment_beside_the_network_is_not_the_users(tmp_path: Path) -> None:
    """A folder without __init__.py does not hide the package of the same name."""
    write(tmp_path, {"net.py": net("import safetensors"), "safetensors/notes.txt": "x", "torch/notes.txt": "x"})
    assert set(load(tmp_path / "net.py").code[2]) == {"safetensors"}


# ---------------------------------------------------------------- no weights at all

RANDOM = "import torch\ndef make():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))\n"


def test_a_network_of_a_library_without_weights_is_refused() -> None:
    for architecture in ("vggnet", "torchvision:resnet18"):
        settings = {"name": "net", "architecture": architecture, "layers": ["x"], "input": {"size": 32}}
        said = mistake(lambda s=settings: networks.load(study.Network.model_validate(s)))
        assert said.startswith(f"network.weights is missing, and {architecture} would be random: name a checkpoint")


def test_a_function_that_returns_other_weights_each_time_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"net.py": RANDOM})
    said = mistake(lambda: load(tmp_path / "net.py"))
    assert "net.py:make is random: 1.weight differs when it is called again; name a checkpoint" in said


def test_a_function_that_loads_its_own_weights_needs_none(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(16, 2).state_dict(), tmp_path / "own.pt")
    own = (
        "import torch, pathlib\n"
        "def make():\n"
        "    lin = torch.nn.Linear(16, 2)\n"
        "    lin.load_state_dict(torch.load(pathlib.Path(__file__).with_name('own.pt')))\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), lin)\n"
    )
    write(tmp_path, {"net.py": own})
    assert load(tmp_path / "net.py").fingerprint == load(tmp_path / "net.py").fingerprint


def test_random_weights_are_those_of_the_seed_and_draw_from_nobody(tmp_path: Path) -> None:
    write(tmp_path, {"net.py": RANDOM})
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    prints = [load(tmp_path / "net.py", weights="random", seed=seed).fingerprint for seed in (0, 3, 3)]
    assert prints[0] != prints[1] == prints[2]
    assert torch.rand(1) == expected
    torch.manual_seed(3)
    drawn = torch.nn.Linear(16, 2)
    assert torch.equal(load(tmp_path / "net.py", weights="random", seed=3).model[1].weight, drawn.weight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, 'seed has an effect only with weights = "random"'),
        ({"weights": "random", "weights_key": "ema"}, "weights_key has an effect only with weights from a file"),
        ({"weights_left_out": ["aux"]}, "weights_left_out has an effect only with weights from a file"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "net.py", **changes)


def test_a_broken_module_beside_the_network_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"net.py": net("import blocks"), "blocks.py": "import nowhere_to_be_found"})
    assert "could not be built: No module named 'nowhere_to_be_found'" in mistake(lambda: load(tmp_path / "net.py"))


def test_the_folder_of_the_process_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"p/net.py": net("from blocks import FACTOR", "FACTOR"), "p/blocks.py": "FACTOR = 2"})
    first = load(tmp_path / "p/net.py").fingerprint
    monkeypatch.chdir(tmp_path)
    assert load(Path("p/net.py")).fingerprint == first
    os.rename(tmp_path / "p", tmp_path / "q")
    assert load(Path("q/net.py")).fingerprint == first


def test_a_change_in_an_imported_module_makes_the_warehouse_stale(world: World) -> None:
    code = (world.folder / "net.py").read_text()
    write(world.folder, {"net.py": "from .parts import make", "parts.py": code})
    assert world.extract().code == 0
    assert "nothing is stale" in (done := world.extract("--dry-run")).out + done.err
    (world.folder / "parts.py").write_text(code + "\n")
    assert "activations conv1" in (done := world.extract("--dry-run")).out + done.err
