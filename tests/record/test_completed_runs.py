"""A run with nothing to do is known by the sizes and times of its files; anything that changed is found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dissectdb import ROOT, Warehouse
from tests.support.worlds import World

IDLE = "nothing is stale"
LOADING = "loading the network"

AGAIN = """
import sys
from dissectdb import Study, pipeline
study, warehouse = Study.load(sys.argv[1]), sys.argv[2]
assert not pipeline.extract(study, warehouse).computed
done = pipeline.modify(study, warehouse)
assert done.checkpoint.is_file()
print(done.edit_id, sorted({"torch", "open_clip", "torchvision"} & set(sys.modules)))
"""

EDIT = """
import sys
from dissectdb import Study, pipeline
print(pipeline.modify(Study.load(sys.argv[1]), sys.argv[2]).edit_id, "open_clip" in sys.modules)
"""

OWN_WEIGHTS = """
    torch.manual_seed(0)
    net = Net(classes)
    net.lin.bias.data = torch.load(__file__.replace("net.py", "own.pt"))
    return net
"""


def changed_byte(path: Path) -> None:
    """Change the last byte of a file, which keeps its size."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def an_image(world: World) -> Path:
    return sorted((world.folder / "images").rglob("*.png"))[-1]


def a_byte_of_an_image(world: World) -> None:
    """Its size stays, and its time of modification is set back; the time of change of its entry is not."""
    before = an_image(world).stat()
    changed_byte(an_image(world))
    os.utime(an_image(world), ns=(before.st_atime_ns, before.st_mtime_ns))


def an_image_less(world: World) -> None:
    an_image(world).unlink()


def an_empty_folder_of_images_more(world: World) -> None:
    (world.folder / "images" / "train" / "square").mkdir()
    (world.folder / "images" / "train" / "square" / "1.png").write_bytes(an_image(world).read_bytes() + b"more")


def a_concept(world: World) -> None:
    world.change("round\n", "curly\n", "looks.txt")


def the_code_of_the_network(world: World) -> None:
    world.change("F.relu(self.lin(seen))", "F.gelu(self.lin(seen))", "net.py")


def a_module_of_the_network(world: World) -> None:
    world.change("WIDTH = 8", "WIDTH = 8.5", "sizes.py")


def a_key_of_the_study(world: World) -> None:
    world.change("softmax_scale = 40.0", "softmax_scale = 41.0")


def a_layer_that_lost_its_labels(world: World) -> None:
    with Warehouse(world.warehouse) as opened:
        opened.discard({"labelled_layers": "layer_id = (select min(layer_id) from labelled_layers)"}, {})


def an_embedding_in_the_warehouse(world: World) -> None:
    with Warehouse(world.warehouse) as opened:
        opened.discard({"concept_embeddings": "concept_id = (select min(concept_id) from concept_embeddings)"}, {})


CHANGES = [
    a_byte_of_an_image,
    an_image_less,
    an_empty_folder_of_images_more,
    a_concept,
    the_code_of_the_network,
    a_module_of_the_network,
    a_key_of_the_study,
    a_layer_that_lost_its_labels,
    an_embedding_in_the_warehouse,
]


@pytest.fixture
def helped(new_world: World) -> World:
    """An extracted world whose network imports a module beside it."""
    (new_world.folder / "sizes.py").write_text("WIDTH = 8\n", encoding="utf-8")
    new_world.change("from torch import nn\n", "from torch import nn\n\nimport sizes\n", "net.py")
    assert new_world.extract().code == 0
    assert IDLE in new_world.extract("--dry-run").out
    return new_world


def test_a_known_run_loads_no_model(edited_world: World) -> None:
    assert edited_world.extract().code == 0
    first = edited_world.modify()
    assert first.code == 0
    [chosen] = edited_world.rows("select distinct edit_id from edit_choices")
    arguments = [sys.executable, "-c", AGAIN, str(edited_world.study), str(edited_world.warehouse)]
    again = subprocess.run(arguments, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (again.returncode, again.stdout.strip()) == (0, f"{chosen['edit_id']} []"), again.stderr


def test_an_edit_of_an_extracted_network_loads_no_clip_unless_its_file_changed(edited_world: World) -> None:
    assert edited_world.extract().code == 0
    arguments = [sys.executable, "-c", EDIT, str(edited_world.study), str(edited_world.warehouse)]

    def edit() -> list[str]:
        done = subprocess.run(arguments, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    first, loaded = edit()
    assert loaded == "False"
    [weights] = edited_world.folder.glob("*.safetensors")
    os.utime(weights)
    assert edit() == [first, "True"]


def test_what_is_printed_is_the_same_but_for_the_loading(world: World) -> None:
    read, known = world.extract("--rehash"), world.extract()
    assert LOADING in read.err
    assert known.out == read.out
    assert known.err == "".join(line for line in read.err.splitlines(keepends=True) if line in known.err)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_is_found(change: Callable[[World], None], helped: World) -> None:
    change(helped)
    again = helped.extract("--dry-run")
    assert LOADING in again.err
    assert IDLE not in again.out


IMPORTING = (
    "from torch import nn\n\ntry:\n    import parts.act\nexcept ImportError:\n    import act_elsewhere as parts\n"
)


@pytest.mark.parametrize(
    "new",
    ["act_elsewhere.py", "parts/act.py", "parts.py", "elsewhere/parts.py", "another_path"],
)
def test_a_module_that_hides_another_is_found(new: str, new_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network's file and the module that it imported stay as they are."""
    for folder in ("elsewhere", "other"):
        (new_world.folder / folder).mkdir()
        (new_world.folder / folder / "act_elsewhere.py").write_text(f"# {folder}\n", encoding="utf-8")
    new_world.change("from torch import nn\n", IMPORTING, "net.py")
    monkeypatch.syspath_prepend(str(new_world.folder / "elsewhere"))
    assert new_world.extract().code == 0
    assert LOADING not in new_world.extract("--dry-run").err
    (new_world.folder / "notes.py").write_text("", encoding="utf-8")
    assert LOADING not in new_world.extract("--dry-run").err  # no import leads there
    if new == "another_path":
        monkeypatch.syspath_prepend(str(new_world.folder / "other"))
    else:
        (new_world.folder / new).parent.mkdir(exist_ok=True)
        (new_world.folder / new).write_text("act = None\n", encoding="utf-8")
    again = new_world.extract("--dry-run")
    assert LOADING in again.err
    assert IDLE not in again.out


def test_a_file_that_was_only_touched_is_read_and_is_as_it_was(world: World) -> None:
    assert world.extract().code == 0
    an_image(world).touch()
    again = world.extract()
    assert LOADING in again.err
    assert IDLE in again.out
    assert LOADING not in world.extract().err


def test_another_study_in_the_warehouse_is_noticed_once(world: World) -> None:
    assert world.extract().code == 0
    assert world.extract("--set", "network.layers=['head']", "--set", "edits=[]").code == 0
    assert LOADING in world.extract().err
    assert LOADING not in world.extract().err


def test_a_deleted_checkpoint_is_saved_again(edited_world: World) -> None:
    assert edited_world.extract().code == 0
    assert edited_world.modify().code == 0
    [checkpoint] = (edited_world.folder / "edits").iterdir()
    checkpoint.unlink()
    assert edited_world.modify().code == 0
    assert checkpoint.is_file()


def test_weights_that_the_function_loads_itself_are_read_each_time(new_world: World) -> None:
    torch.manual_seed(0)
    torch.save(torch.randn(8), new_world.folder / "own.pt")
    new_world.change('weights = "net.pt"\n', "")
    new_world.change("    return Net(classes)\n", OWN_WEIGHTS, "net.py")
    for _ in range(2):
        done = new_world.extract()
        assert done.code == 0, done.err
        assert LOADING in done.err
