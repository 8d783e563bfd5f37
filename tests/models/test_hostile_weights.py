"""Files of weights, tensors and arrays that mean harm: see hostile.py."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.support.hostile import Trap, refused, sparse, within_bounds
from tests.support.studies import arrays_study
from tests.support.worlds import World

# ---------------------------------------------------------------- files of weights and tensors


Maker = Callable[[Path, Path], None]  # writes a file; the folder beside it is made only by code that ran


def trapped(old: bool) -> Maker:
    return lambda path, sprung: torch.save({"params": Trap(sprung)}, path, _use_new_zipfile_serialization=not old)


def plain_pickle(path: Path, sprung: Path) -> None:
    path.write_bytes(pickle.dumps({"params": Trap(sprung)}, protocol=5))


def exec_pickle(path: Path, sprung: Path) -> None:
    path.write_bytes(b"cbuiltins\nexec\n(Vimport os; os.mkdir('%s')\ntR." % os.fsencode(sprung))


def getattr_chain(path: Path, sprung: Path) -> None:
    """Reaches os.mkdir through the attributes of an allowed module: torch.serialization.os.mkdir."""
    path.write_bytes(b"\x80\x04\x8c\x13torch.serialization\x8c\x08os.mkdir\x93\x8c\x01x\x85R.")


def traced(path: Path, sprung: Path) -> None:
    with warnings.catch_warnings(action="ignore"):  # that this is an old way
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)


def rezipped(
    path: Path, changes: dict[str, bytes], more: dict[str, bytes] | None = None, method: int = zipfile.ZIP_STORED
) -> None:
    """A checkpoint of one tensor of four numbers, some of its parts replaced."""
    file = io.BytesIO()
    torch.save(torch.ones(4), file)
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(path, "w", method) as new:
        for part in old.infolist():
            name = part.filename.partition("/")[2]
            content = old.read(part)
            if name == "data.pkl" and "numbers" in changes:
                four = b"K\x04tq\x05"
                assert four in content
                assert b"K\x00K\x04\x85q\x06K\x01\x85" in content
                stored, seen, stride = struct.unpack("<qqq", changes["numbers"])
                content = content.replace(four, long(stored) + four[2:])
                content = content.replace(
                    b"K\x00K\x04\x85q\x06K\x01\x85", b"K\x00" + long(seen) + b"\x85q\x06" + long(stride) + b"\x85"
                )
            new.writestr(part.filename, changes.get(name, content))
        for name, content in (more or {}).items():
            new.writestr(name, content)


def long(number: int) -> bytes:
    """A number as pickle writes large ones."""
    return b"\x8a\x08" + number.to_bytes(8, "little")


def numbers(stored: int, seen: int, stride: int) -> dict[str, bytes]:
    return {"numbers": struct.pack("<qqq", stored, seen, stride)}


def zip_bomb(path: Path, sprung: Path) -> None:
    rezipped(path, {"data/0": b"\0" * (200 << 20)}, method=zipfile.ZIP_DEFLATED)


def pickle_bomb(path: Path, sprung: Path) -> None:
    rezipped(path, {"data.pkl": b"\x80\x02" + b"]0" * (50 << 20) + b"N."}, method=zipfile.ZIP_DEFLATED)


def endless_bytes(path: Path, sprung: Path) -> None:
    path.write_bytes(b"\x80\x02cbuiltins\nbytearray\n" + long(6_000_000_000) + b"\x85R.")


def endless_bytes_in_a_zip(path: Path, sprung: Path) -> None:
    rezipped(path, {"data.pkl": b"\x80\x02cbuiltins\nbytearray\n" + long(6_000_000_000) + b"\x85R."})


def claims_too_much(path: Path, sprung: Path) -> None:
    rezipped(path, numbers(10**9, 10**9, 1))


def stretched(path: Path, sprung: Path) -> None:
    rezipped(path, numbers(4, 10**10, 0))


def climbs_out(path: Path, sprung: Path) -> None:
    rezipped(path, {}, {f"archive/../../{sprung.name}/x": b"x", f"{sprung}/y": b"y"})


def text_of(word: bytes) -> bytes:
    """A text as pickle writes it."""
    return b"X" + struct.pack("<I", len(word)) + word


def called(name: str, argument: bytes, before: bytes = b"") -> Maker:
    """A file that calls a function of a package that is allowed beside weights."""
    module, _, function = name.rpartition(".")
    call = f"c{module}\n{function}\n".encode() + before + argument + (b"\x86R." if before else b"\x85R.")
    return lambda path, sprung: rezipped(path, {"data.pkl": b"\x80\x02" + call})


OBJECTS = b"cnumpy\ndtype\n" + text_of(b"O") + b"\x85R"  # numpy.dtype("O")


def many_names(path: Path, sprung: Path) -> None:
    """Each name of an allowed package costs a search through the whole file."""
    rezipped(path, {"data.pkl": b"\x80\x02" + b"".join(b"cnumpy\nx%d\n" % place for place in range(5000)) + b"."})


def without_values(path: Path, sprung: Path) -> None:
    torch.save({"params": {name: torch.empty(2, device="meta") for name in ("a", "b")}}, path)


def unbalanced(path: Path, sprung: Path) -> None:
    path.write_bytes(b"\x80\x02" + b"(" * 200_000 + b"l" * 200_000 + b".")


def nested_pickle(path: Path, sprung: Path) -> None:
    path.write_bytes(b"\x80\x02]" + b"\x85" * 200_000 + b".")


def a_tar(path: Path, sprung: Path) -> None:
    import tarfile

    with tarfile.open(path, "w") as tar:
        for name in ("storages", "tensors", "pickle", "../../climbed"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())


def half(path: Path, sprung: Path) -> None:
    torch.save({"params": torch.ones(500)}, path)
    path.write_bytes(path.read_bytes()[:-700])


def endless_header(path: Path, sprung: Path) -> None:
    path.write_bytes(struct.pack("<Q", 1 << 62) + b"{}")


WEIGHTS: dict[str, tuple[Maker, str]] = {
    "a pickle in a zip": (trapped(old=False), "could run code"),
    "an old pickle": (trapped(old=True), "could run code"),
    "a plain pickle": (plain_pickle, "it holds more or other things than tensors"),
    "a call of exec": (exec_pickle, "exec"),
    "a call through a module that is allowed": (getattr_chain, "other things than tensors"),
    "a TorchScript program": (traced, "could run code"),
    "a zip bomb": (zip_bomb, "would unpack to 210 MB"),
    "a bomb of a pickle": (pickle_bomb, "would unpack to 105 MB"),
    "bytes without end": (endless_bytes, "bytearray"),
    "bytes without end in a zip": (endless_bytes_in_a_zip, "bytearray"),
    "values that are not there": (claims_too_much, ""),
    "a path out of the archive": (climbs_out, ""),
    "tensors without values": (without_values, ""),
    "marks without end": (unbalanced, ""),
    "a pickle nested without end": (nested_pickle, ""),
    "an old tar": (a_tar, ""),
    "a number that is any object": (called("numpy._core.multiarray.scalar", text_of(b"x"), OBJECTS), ""),
    "memory without end by NumPy": (called("numpy.zeros", long(10**13)), ""),
    "a path that NumPy reads": (called("numpy.load", text_of(b"/etc/passwd")), ""),
    "a call through NumPy": (called("numpy.f2py.os.mkdir", text_of(b"x")), ""),
    "names without end": (many_names, ""),
    "half of a file": (half, ""),
    "nothing": (lambda path, sprung: path.write_bytes(b"") and None, ""),
    "a gigabyte of zeros": (lambda path, sprung: sparse(path, 1 << 30), ""),
}  # fmt: skip


@pytest.mark.parametrize("what", WEIGHTS)
def test_weights_that_mean_harm_are_refused(world: World, what: str) -> None:
    make, reason = WEIGHTS[what]
    sprung = world.folder / "sprung"
    make(world.folder / "net.pt", sprung)
    refused(world, "extract", world.study, says=("net.pt", reason))
    assert not sprung.exists()


@pytest.mark.parametrize("what", WEIGHTS)
def test_weights_of_clip_that_mean_harm_are_refused(world: World, what: str) -> None:
    make, reason = WEIGHTS[what]
    sprung = world.folder / "sprung"
    make(world.folder / "clip.pt", sprung)
    world.change("clip.safetensors", "clip.pt")
    if what == "a TorchScript program":
        reason = "weights are missing: "  # its weights are read without running it; they do not fit
    refused(world, "extract", world.study, says=("clip", "" if reason == "exec" else reason))
    assert not sprung.exists()


@pytest.mark.parametrize("what", [*WEIGHTS, "a tensor stretched"])
def test_tensors_to_convert_that_mean_harm_are_refused(tmp_path: Path, what: str) -> None:
    make, reason = (stretched, "claims 40,000 MB") if what == "a tensor stretched" else WEIGHTS[what]
    world = World(tmp_path)
    torch.save(torch.ones(3, 2), tmp_path / "good.pt")
    good, bad = tmp_path / "good.pt", tmp_path / "bad.pt"
    make(bad, tmp_path / "sprung")
    output = ("-o", tmp_path / "out.safetensors")
    refused(
        world, "convert", "--layer", f"a={bad}", "--images", good, "--texts", good, *output, says=("bad.pt", reason)
    )
    refused(world, "convert", "--layer", f"a={good}", "--images", bad, "--texts", good, *output, says=("bad.pt",))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(3).to_sparse(),
        torch.empty(3, 2, device="meta"),
        torch.zeros(3, 2, dtype=torch.complex64),
        torch.zeros(()),
    ],
    ids=["sparse", "without values", "complex", "a number"],
)
def test_tensors_that_are_no_arrays_are_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    good, bad = tmp_path / "good.pt", tmp_path / "bad.pt"
    torch.save(torch.ones(3, 2), good)
    torch.save(tensor, bad)
    asked = ("convert", "--layer", f"a={bad}", "--images", good, "--texts", good, "-o", tmp_path / "out.safetensors")
    refused(World(tmp_path), *asked, says=("tensor" if tensor.layout != torch.strided else "",))


CLASS_LISTS = {
    "a number without end": b"9" * 5000,
    "a number too large": b"1\n1" + b"0" * 30 + b"\n2",
    "a word without end": b"x" * 1_000_000,
    "letters of no alphabet": b"1\n\xff\xfe\n2",
    "escape codes": b"1\n\x1b[2J\n2",
    "NUL": b"1\0\n2\n3",
}


@pytest.mark.parametrize("what", [*CLASS_LISTS, "a gigabyte of zeros", "a pipe"])
def test_lists_of_classes_that_mean_harm_are_refused(tmp_path: Path, what: str) -> None:
    good, classes = tmp_path / "good.pt", tmp_path / "classes.txt"
    torch.save(torch.ones(3, 2), good)
    if what == "a pipe":
        os.mkfifo(classes)
    elif what == "a gigabyte of zeros":
        sparse(classes, 1 << 30)
    else:
        classes.write_bytes(CLASS_LISTS[what])
    asked = ("convert", "--layer", f"a={good}", "--images", good, "--texts", good, "--classes", classes)
    refused(World(tmp_path), *asked, "-o", tmp_path / "out.safetensors", says=("classes.txt: not a tensor",))


@pytest.mark.parametrize("name", ["net.pt", "clip.safetensors", "tiny-clip.json", "net.py"])
def test_a_pipe_instead_of_a_file_is_refused_and_not_waited_for(world: World, name: str) -> None:
    (world.folder / name).unlink()
    os.mkfifo(world.folder / name)
    refused(world, "extract", world.study, says=(name,))


def arrays_world(folder: Path, **changes: torch.Tensor) -> World:
    (folder / "study.toml").write_text(arrays_study("net", "looks.txt", 5))
    (folder / "looks.txt").write_text("bright\ndark\nround\nstraight\n")
    torch.manual_seed(0)
    tensors = {"image_embedding": torch.randn(20, 4), "concept_embedding": torch.randn(4, 4)}
    save_file(tensors | {"layer/a": torch.randn(20, 3)} | changes, folder / "features.safetensors")
    return World(folder)


def header(length: int | None = None, text: bytes = b"{}", values: bytes = b"") -> Maker:
    size = len(text) if length is None else length
    return lambda path, sprung: path.write_bytes(struct.pack("<Q", size) + text + values) and None


ARRAYS = {
    "a header without end": header(1 << 62),
    "a header longer than the file": header(1000),
    "values that are not there": header(text=b'{"layer/a":{"dtype":"F32","shape":[9,9],"data_offsets":[0,324]}}'),
    "a shape without end": header(text=b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}'),
    "a header nested without end": header(text=b'{"__metadata__":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "values used twice": header(
        text=b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}',
        values=b"1234",
    ),
    "a pickle": plain_pickle,
    "a zip bomb": zip_bomb,
    "a gigabyte of zeros": lambda path, sprung: sparse(path, 1 << 30),
}


@pytest.fixture(scope="module")
def extracted_arrays(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world of arrays that was extracted; only to be copied."""
    world = arrays_world(tmp_path_factory.mktemp("arrays"))
    assert world.extract().code == 0
    return world


@pytest.mark.parametrize("what", ARRAYS)
def test_malicious_arrays_are_refused(tmp_path: Path, extracted_arrays: World, what: str) -> None:
    shutil.copytree(extracted_arrays.folder, tmp_path, dirs_exist_ok=True)
    world = World(tmp_path)
    ARRAYS[what](tmp_path / "features.safetensors", tmp_path / "sprung")
    refused(world, "extract", world.study, says=("features.safetensors",))
    assert not (tmp_path / "sprung").exists()


NAMES = ["9" * 5000, "²", "a\nb", "\x1b[2J", "'; drop table layers; --", "../../up", "x" * 10_000, "é\u202e", "\0"]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:12]))
def test_a_layer_of_any_name_is_extracted_or_refused(tmp_path: Path, name: str) -> None:
    world = arrays_world(tmp_path, **{f"layer/{name}": torch.randn(20, 2)})
    with within_bounds():
        done = world.extract()
    assert done.code in (0, 2), done.err
    if done.code == 0:
        assert name in {row["layer"] for row in world.rows("select layer from layers")}
        with within_bounds():
            assert world.run("report", "--every-neuron", "-o", tmp_path / "pages" / "report.html").code == 0
        assert {path.parent.name for path in tmp_path.rglob("*.html")} == {"pages", "report_layers"}
