"""Files that mean harm: each is answered in a line and its exit code, soon, in little memory, and nothing changes."""

# ruff: noqa: E501
from __future__ import annotations

import gzip
import io
import os
import pickle
import signal
import sqlite3
import struct
import subprocess
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import PIL.Image
import pytest
import torch
from safetensors.torch import save_file
from worlds import World, command, draw

from extract import concepts
from extract.images import open_source
from extract.study import Dataset, StudyError
from warehouse import Warehouse

pytest_plugins = ["world_fixtures"]

SECONDS = 60  # the slowest takes 6 on an idle machine
MEGABYTES = 400  # more than before


class TooLong(Exception):
    """Something took more than SECONDS."""


def _memory(kind: str) -> int:
    """Megabytes that this process has (VmRSS), or had at most (VmHWM) since `within_bounds` began."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind)]
    return int(line.split()[1]) // 1024


@contextmanager
def within_bounds() -> Iterator[None]:
    """What runs in it ends soon, and takes little memory where the system tells."""

    def too_long(*_: object) -> None:
        raise TooLong

    old = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    before = None
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before = _memory("VmRSS")
    except OSError:
        pass
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
    if before is not None:
        assert _memory("VmHWM") - before < MEGABYTES


def refused(world: World, *arguments: object, says: tuple[str, ...], code: int = 2) -> None:
    """The command fails with this code and one readable line that says all of it, soon; no file is changed."""
    before, rows = state(world.folder), world.tables() if world.warehouse.exists() else {}
    with within_bounds():
        done = command(*arguments)
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    message = done.err[done.err.index("dissectdb: ") :]  # progress may stand before it
    lines = message.splitlines()
    assert len(lines) == (
        21 if lines[-1].endswith("19980 more") else 1
    )  # a study has a line for each of its first mistakes
    assert all(line.isprintable() and len(line) < 1500 for line in lines)
    for text in says:
        assert text in message
    after = state(world.folder)
    kept = str(world.warehouse)  # a run that only opened it for writing may have packed it
    assert after | {kept: None} == before | {kept: None}
    assert after.get(kept) == before.get(kept) or world.tables() == rows


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file of a folder with its size and time of change; to hash sparse files would take long."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if "__pycache__" not in path.parts and not path.is_dir():
            about = path.lstat()
            found[os.fsencode(path).decode(errors="replace")] = (about.st_size, about.st_mtime_ns)
    return found


def sparse(path: Path, size: int) -> None:
    """A file of zeros that takes no room."""
    with path.open("wb") as file:
        file.truncate(size)


# ---------------------------------------------------------------- files of weights and tensors


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


Maker = Callable[[Path, Path], None]  # writes a file; the folder beside it is made only by code that ran


def trapped(old: bool) -> Maker:
    return lambda path, sprung: torch.save({"params": Trap(sprung)}, path, _use_new_zipfile_serialization=not old)


def plain_pickle(path: Path, sprung: Path) -> None:
    path.write_bytes(pickle.dumps({"params": Trap(sprung)}, protocol=5))


def exec_pickle(path: Path, sprung: Path) -> None:
    path.write_bytes(b"cbuiltins\nexec\n(Vimport os; os.mkdir('%s')\ntR." % os.fsencode(sprung))


def getattr_chain(path: Path, sprung: Path) -> None:
    """Allowed modules only, by their attributes: torch.serialization.os.mkdir."""
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
def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(world: World, name: str) -> None:
    (world.folder / name).unlink()
    os.mkfifo(world.folder / name)
    refused(world, "extract", world.study, says=(name,))


ARRAYS_STUDY = """
[arrays]
path = "features.safetensors"
name = "net"
[[concept_sets]]
name = "looks"
source = "looks.txt"
[[dissections]]
concepts = "looks"
top_k = 5
"""


def arrays_world(folder: Path, **changes: torch.Tensor) -> World:
    (folder / "study.toml").write_text('warehouse = "warehouse.duckdb"\n' + ARRAYS_STUDY)
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


@pytest.mark.parametrize("what", ARRAYS)
def test_arrays_that_mean_harm_are_refused(tmp_path: Path, what: str) -> None:
    world = arrays_world(tmp_path)
    assert world.extract().code == 0
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


# ---------------------------------------------------------------- images and the folders that they lie in


def png(width: int, height: int, *chunks: tuple[bytes, bytes], depth: int = 8, pixels: bytes = b"\0" * 1000) -> bytes:
    """A PNG that says it is so large, whatever it holds."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)), *chunks]
    parts += [(b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    checked = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(checked)


def encoded(format: str, mode: str = "L", **options: object) -> bytes:
    file = io.BytesIO()
    image = PIL.Image.fromarray(draw("ring", 1))
    (image if mode == "L" else image.convert(mode)).save(file, format, **options)
    return file.getvalue()


def endless_exif() -> bytes:
    """Facts about a photo that say they are four thousand million."""
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0" + b"\xff\xff\xff\xff" + b"\x08\0\0\0" + b"\x08\0\0\0"


def looping_exif() -> bytes:
    """Facts about a photo whose next page is the first one."""
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0"


def looping_tiff() -> bytes:
    return b"II*\0\x08\0\0\0\x01\0\x00\x01\x03\0\x01\0\0\0\x10\0\0\0\x08\0\0\0"


def gigantic_tiff() -> bytes:
    """Width and height of 2³¹ − 1, one strip."""
    entries = [
        (256, 4, 1, 2**31 - 1),
        (257, 4, 1, 2**31 - 1),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (279, 4, 1, 2**31 - 1),
    ]
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + b"\0\0\0\0"


def text_bomb() -> bytes:
    """A PNG with a text of 200 MB, packed."""
    return png(16, 16, (b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * (200 << 20))))


def colour_bomb() -> bytes:
    return png(16, 16, (b"iCCP", b"profile\0\0" + zlib.compress(b"x" * (200 << 20))))


def much_text() -> bytes:
    """A thousand packed texts of 900 KB, each below Pillow's limit."""
    text = zlib.compress(b"x" * 900_000)
    return png(16, 16, *[(b"zTXt", b"k%d\0\0" % number + text) for number in range(1000)])


def animated(format: str) -> bytes:
    file = io.BytesIO()
    frames = [PIL.Image.fromarray(draw("ring", 50 + number)) for number in range(30)]
    frames[0].save(file, format, save_all=True, append_images=frames[1:])
    return file.getvalue()


def truncated_in_the_middle() -> bytes:
    content = encoded("JPEG")
    return content[: len(content) // 2]


IMAGES: dict[str, tuple[Callable[[], bytes], str, str | None]] = {  # how, the file's name, its defect
    "a PNG of 100,000 by 100,000": (lambda: png(100_000, 100_000), "x.png", "unreadable"),
    "a PNG of 2³¹ − 1 squared": (lambda: png(2**31 - 1, 2**31 - 1), "x.png", "unreadable"),
    "a PNG of no width": (lambda: png(0, 16), "x.png", "unreadable"),
    "a PNG just below the limit without pixels": (lambda: png(9_000, 9_900), "x.png", "unreadable"),
    "a PNG with too many pixels": (lambda: png(16, 16, pixels=b"\0" * 10_000_000), "x.png", "blank"),
    "a PNG with a bomb of a text": (text_bomb, "x.png", "unreadable"),
    "a PNG with a bomb of a colour profile": (colour_bomb, "x.png", "unreadable"),
    "a PNG with a thousand large texts": (much_text, "x.png", "unreadable"),
    "a BMP of a gigantic size": (
        lambda: b"BM" + struct.pack("<IHHIIiiHHIIiiII", 99, 0, 0, 54, 40, 2**31 - 1, -(2**31), 1, 24, 0, 0, 0, 0, 0, 0),
        "x.bmp", "unreadable"),
    "a TIFF of a gigantic size": (gigantic_tiff, "x.tif", "unreadable"),
    "a TIFF whose pages go round": (looping_tiff, "x.tif", "unreadable"),
    "a GIF of 65,535 squared": (lambda: b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b";", "x.gif",
        "unreadable"),
    "a WebP that is only a header": (
        lambda: b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0" + b"\xff" * 6 + b"\0" * 8, "x.webp", "unreadable"),
    "facts without end": (lambda: encoded("JPEG", exif=endless_exif()), "x.jpg", None),
    "facts that go round": (lambda: encoded("JPEG", exif=looping_exif()), "x.jpg", None),
    "nothing": (lambda: b"", "x.png", "unreadable"),
    "one byte": (lambda: b"\x89", "x.png", "unreadable"),
    "half of a JPEG": (truncated_in_the_middle, "x.jpg", "unreadable"),
    "text called PNG": (lambda: b"hello", "x.png", "unreadable"),
    "a page with a script called JPEG": (lambda: b"<svg onload='x()'/>", "x.jpg", "unreadable"),
    "PostScript called PNG": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "x.png", "unreadable"),
    "a zip called GIF": (lambda: b"PK\x05\x06" + b"\0" * 18, "x.gif", "unreadable"),
    "a JPEG called PNG": (lambda: encoded("JPEG"), "x.png", None),
    "an animated GIF": (lambda: animated("GIF"), "x.gif", None),
    "an animated WebP": (lambda: animated("WEBP"), "x.webp", None),
    "an animated PNG": (lambda: animated("PNG"), "x.png", None),
    "16 bits a pixel": (lambda: encoded("PNG", "I;16"), "x.png", "blank"),
    "32 bits a pixel": (lambda: encoded("TIFF", "I"), "x.tif", "unreadable"),
    "fractions as pixels": (lambda: encoded("TIFF", "F"), "x.tif", "unreadable"),
    "four inks": (lambda: encoded("JPEG", "CMYK"), "x.jpg", None),
    "a palette": (lambda: encoded("PNG", "P"), "x.png", None),
    "black and white": (lambda: encoded("PNG", "1"), "x.png", None),
    "transparency": (lambda: encoded("PNG", "RGBA"), "x.png", None),
}  # fmt: skip


def dataset(folder: Path) -> Path:
    """Two sound images of two classes."""
    for name in ("disc", "ring"):
        (folder / "images" / name).mkdir(parents=True)
        PIL.Image.fromarray(draw(name, 0)).save(folder / "images" / name / "good.png")
    return folder / "images"


def scan(path: Path, kind: str = "folder") -> dict[str, str | None]:
    """The defect of each image by its file, in bounded time and memory."""
    with within_bounds():
        source = open_source(Dataset(name="set", kind=kind, path=path))
        source.fingerprint()
        found = list(source.scan())
    assert len({image.path for image in found}) == len(found)
    return {image.path: image.defect for image in found}


@pytest.mark.filterwarnings("ignore")  # Pillow's own words about what is odd in a file
@pytest.mark.parametrize("what", IMAGES)
def test_an_image_that_means_harm_is_a_defect_and_the_others_are_read(tmp_path: Path, what: str) -> None:
    make, name, defect = IMAGES[what]
    folder = dataset(tmp_path)
    (folder / "ring" / name).write_bytes(make())
    defects = scan(folder)
    assert defects.pop("ring/good.png") is None
    assert defects.pop("disc/good.png") is None
    [found] = defects.values()
    assert (found or "").partition(":")[0] == (defect or "")


@pytest.mark.filterwarnings("ignore")
def test_a_run_over_images_that_mean_harm_ends_well(new_world: World) -> None:
    for place, (make, name, _) in enumerate(IMAGES.values()):
        (new_world.folder / "images" / "train" / "ring" / f"{place}-{name}").write_bytes(make())
    with within_bounds():
        assert new_world.extract().code == 0
    unreadable = new_world.rows("select count(*) as n from images where defect like 'unreadable%'")[0]["n"]
    assert unreadable == 1 + sum(defect == "unreadable" for _, _, defect in IMAGES.values())
    assert new_world.run("check").code == 0


ODD_NAMES = [
    b"line\nbreak.png", b"'quote'.png", b'"double".png', b"'; drop table images; --.png", b"\xff\xfe.png",
    b"\xed\xa0\x80.png", b"\x1b[2J.png", b"$(touch x).png", b"%s%n.png", b"-rf.png", b" .png", b"a\\b.png",
    "\u202egnp.png".encode(), b"x" * 250 + b".png", b"<script>.png", b"*?.png",
]  # fmt: skip


def test_files_and_classes_of_any_name_are_images(new_world: World) -> None:
    for place, name in enumerate(ODD_NAMES):
        ring = os.fsencode(new_world.folder / "images" / "train" / "ring")
        PIL.Image.fromarray(draw("ring", 500 + place)).save(new_world.folder / "odd.png")
        os.rename(new_world.folder / "odd.png", ring + b"/" + name)
        odd_class = os.path.dirname(ring) + b"/" + name.removesuffix(b".png") + b"_class"
        if len(name) < 200:
            os.mkdir(odd_class)
            for number in range(2):
                PIL.Image.fromarray(draw("disc", 900 + 2 * place + number)).save(new_world.folder / "odd.png")
                os.rename(new_world.folder / "odd.png", odd_class + b"/%d.png" % number)
    (new_world.folder / "shapes.toml").write_text('[concepts]\n"bar" = []\n"disc" = []\n')
    with within_bounds():
        done = new_world.extract()
        assert done.code == 0, done.err
        assert new_world.run("status").code == 0
        assert new_world.run("check").code == 0
        assert new_world.run("report", "-o", new_world.folder / "report.html").code == 0
    assert not {path for path in new_world.folder.rglob("x") if path.is_file()}
    assert "<script>.png" not in (new_world.folder / "report.html").read_text(encoding="utf-8")
    counted = new_world.rows("select count(*) as n, count(distinct path) as paths from images")[0]
    assert counted["n"] == counted["paths"]


@pytest.mark.parametrize("target", ["/etc/passwd", "/dev/zero", "/proc/self/mem", "../..", "/"])
@pytest.mark.parametrize("name", ["link.png", "link"])
def test_a_link_out_of_the_dataset_is_refused(world: World, name: str, target: str) -> None:
    (world.folder / "images" / "train" / "ring" / name).symlink_to(target)
    if name == "link" and not Path(target).is_dir() and target != "../..":
        assert world.extract("--dry-run").code == 0  # it has no name of an image, so that nobody reads it
        return
    says = ("links out of the dataset", "put a copy") if target != "../.." or name == "link" else ("",)
    if target == "../..":  # the dataset itself: not walked twice
        assert world.extract("--dry-run").code == 0
        return
    refused(world, "extract", world.study, says=says)


def test_links_that_go_round_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    folder = dataset(tmp_path)
    (folder / "ring" / "up").symlink_to("..")
    os.mkfifo(folder / "ring" / "pipe.png")
    (folder / "ring" / "pipe-link.png").symlink_to("pipe.png")
    with suppress(PermissionError):  # only root makes devices
        os.mknod(folder / "ring" / "zero.png", 0o600 | 0o020000, os.makedev(1, 5))
    found = scan(folder)
    assert {path for path, defect in found.items() if defect is None} == {"disc/good.png", "ring/good.png"}


def test_links_that_only_lead_to_each_other_are_refused(world: World) -> None:
    (world.folder / "images" / "train" / "ring" / "a.png").symlink_to("b.png")
    (world.folder / "images" / "train" / "ring" / "b.png").symlink_to("a.png")
    refused(world, "extract", world.study, says=("a.png: cannot be read: Too many levels of symbolic links",))


def test_a_folder_nested_without_end_is_walked_or_refused(tmp_path: Path) -> None:
    folder = dataset(tmp_path)
    inside = os.open(folder / "ring", os.O_RDONLY)
    for _ in range(1200):  # deeper than a path can be long
        os.mkdir("d", dir_fd=inside)
        deeper = os.open("d", os.O_RDONLY, dir_fd=inside)
        os.close(inside)
        inside = deeper
    os.close(inside)
    try:
        with pytest.raises(StudyError, match=r"nested too deeply|File name too long") as error:
            scan(folder)
    finally:
        subprocess.run(["rm", "-rf", str(folder / "ring" / "d")], check=True)  # too deep for Python
    assert str(error.value).isprintable()


@pytest.mark.parametrize("kind", ["folder", "fer2013"])
@pytest.mark.parametrize("target", ["pipe", "/dev/zero", "/dev/null"])
def test_a_dataset_that_is_a_pipe_or_a_device_is_refused(world: World, kind: str, target: str) -> None:
    path = world.folder / target
    if target == "pipe":
        os.mkfifo(path)
    refused(
        world,
        "extract",
        world.study,
        "--set",
        f"dataset.path={path}",
        "--set",
        f"dataset.kind={kind}",
        says=(str(path),),
    )


# ---------------------------------------------------------------- FER2013

HEAD = b"emotion,pixels,Usage\n"
GOOD = b"3," + b" ".join(b"%d" % (number % 251) for number in range(2304)) + b",Training\n"
CSVS: dict[str, tuple[bytes, int]] = {  # the file, and how many defects it has beside a good line
    "a field without end": (HEAD + GOOD + b"1," + b"1 " * 3_000_000 + b",Training\n", 1),
    "a quoted field without end": (HEAD + GOOD + b'1,"' + b"1 " * 3_000_000 + b'",Training\n', 1),
    "a quote left open": (HEAD + GOOD + b'1,"1 2 3,Training\n', 1),
    "NULs": (HEAD + GOOD + b"1,\0\0\0,Training\n\0\n", 2),
    "a line of commas": (HEAD + GOOD + b"," * 500_000 + b"\n", 1),
    "too few and too many numbers": (HEAD + GOOD + GOOD.replace(b"3,0 ", b"3,", 1) + GOOD.replace(b"3,0 ", b"3,0 0 ", 1), 2),
    "numbers without end": (HEAD + GOOD + GOOD.replace(b"3,0 ", b"3," + b"9" * 10_000 + b" ", 1), 1),
    "numbers below 0 and with fractions": (
        HEAD + GOOD + GOOD.replace(b"3,0 ", b"3,-1 ", 1) + GOOD.replace(b"3,0 ", b"3,1e9 ", 1), 2),
    "digits of another alphabet": (HEAD + GOOD + GOOD.replace(b"3,0 ", "3,٣ ".encode(), 1), 1),
    "a class without end": (HEAD + GOOD + b"9" * 100_000 + GOOD[1:], 1),
    "letters of no alphabet": (HEAD + GOOD + b"\xff\xfe,\xff,\xff\n", 1),
    "a million empty lines": (HEAD + b"\n" * 1_000_000 + GOOD, 0),
    "line ends of other systems": (HEAD.replace(b"\n", b"\r\n") + GOOD.replace(b"\n", b"\r\n"), 0),
}  # fmt: skip


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("what", CSVS)
def test_a_line_that_means_harm_is_a_defect_and_the_others_are_read(tmp_path: Path, what: str, packed: bool) -> None:
    content, bad = CSVS[what]
    (tmp_path / "fer.csv").write_bytes(gzip.compress(content, 1) if packed else content)
    defects = list(scan(tmp_path / "fer.csv", "fer2013").values())
    assert defects.count(None) == 1
    assert len(defects) == bad + 1


BAD_CSVS = {
    "no header": (GOOD, "first line must name"),
    "a header without end": (b"x" * 5_000_000, "first line must name"),
    "a gigabyte of zeros": (None, "first line must name"),
    "nothing": (b"", "first line must name"),
    "half of a gzip": (gzip.compress(HEAD + GOOD * 50)[:300], "fer.csv: cannot be read to its end"),
    "a gzip of garbage": (b"\x1f\x8b" + b"\xff" * 100, "cannot be read to its end"),
    "a gzip bomb": (gzip.compress(b"\0" * 300_000_000, 9), "first line must name"),
    "only a header": (HEAD, "no readable image"),
}


@pytest.mark.parametrize("what", BAD_CSVS)
def test_a_csv_of_which_nothing_can_be_read_is_refused(world: World, what: str) -> None:
    content, reason = BAD_CSVS[what]
    path = world.folder / "fer.csv"
    sparse(path, 1 << 30) if content is None else path.write_bytes(content)
    flags = ("--set", f"dataset.path={path}", "--set", "dataset.kind=fer2013")
    refused(world, "extract", world.study, *flags, says=("fer.csv", reason))


# ---------------------------------------------------------------- studies

STUDIES: dict[str, tuple[str, str, str]] = {  # what is replaced, by what, and what is said
    "an unknown key": ("[dataset]", "[dataset]\nnmae = 1", "dataset.nmae is no setting"),
    "a key with escape codes": ("[dataset]", '[dataset]\n"\\u001b[2J\\n" = 1', "is no setting"),
    "a key of ten thousand letters": ("[dataset]", f"[dataset]\n{'k' * 10_000} = 1", "kkkk"),
    "a text of ten megabytes": ('name = "shapes"\nkind', f'name = "{"x" * 10_000_000}"\nkind', "has more than 1 MB"),
    "a key of a hundred thousand parts": ("[dataset]", f"[dataset]\n{'a.' * 100_000}a = 1", "more than 100 parts"),
    "a table of a hundred thousand parts": ("[dataset]", f"[{'a.' * 100_000}a]\n[dataset]", "more than 100 parts"),
    "a quoted key of many parts": ("[dataset]", "[dataset]\n" + '"a" . ' * 10_000 + "a = 1", "more than 100 parts"),
    "twenty thousand mistakes": ("[dataset]", "".join(f"k{n} = 1\n" for n in range(20_000)) + "[dataset]", "19980 more"),
    "lists nested 1,000 deep": ("[dataset]", f"[dataset]\nseed = {'[' * 1000}{']' * 1000}", "not a readable TOML file"),
    "tables nested 1,000 deep": ("[dataset]", f"[dataset]\nseed = {'{a = ' * 1000}1{'}' * 1000}", "not a readable TOML"),
    "tables nested by their keys": (
        "[dataset]", "[dataset]\nseed = " + ("{" + "a." * 90 + "a = ") * 100 + "1" + "}" * 100, "dataset.seed"),
    "arguments nested by their keys": (
        'weights = "net.pt"', 'weights = "net.pt"\narguments = ' + ("{" + "a." * 90 + "a = ") * 100 + "1" + "}" * 100, ""),
    "1e400": ('kind = "folder"', 'kind = "folder"\nvalidation_share = 1e400', "must be a finite number, not inf"),
    "NaN": ('kind = "folder"', 'kind = "folder"\nvalidation_share = nan', "dataset.validation_share"),
    "10 to the 30": ('kind = "folder"', f'kind = "folder"\nimages = {10**30}', "dataset.images"),
    "a number of 5,000 digits": ('kind = "folder"', f'kind = "folder"\nimages = {"9" * 5000}', "not a readable TOML file"),
    "a number of 100,000 hexadecimal digits": (
        'kind = "folder"', f'kind = "folder"\nimages = 0x{"f" * 100_000}', "dataset.images"),
    "such a number as an argument": (
        'weights = "net.pt"', f'weights = "net.pt"\narguments = {{ classes = 0x{"f" * 100_000} }}', ""),
    "such a number as a name": (
        'name = "shapes"\nkind', f'name = 0x{"f" * 100_000}\nkind', "dataset.name: must be text"),
    "a date as an argument": ('weights = "net.pt"', 'weights = "net.pt"\narguments = { classes = 2026-01-01 }', ""),
    "infinity as an argument": ('weights = "net.pt"', 'weights = "net.pt"\narguments = { classes = inf }', ""),
    "two thousand million outputs": ('weights = "net.pt"', 'weights = "net.pt"\narguments = { classes = 2000000000000 }', ""),
    "NUL in the file": ("[dataset]", "\0[dataset]", "not a readable TOML file"),
    "NUL in a path": ('path = "images"', 'path = "ima\\u0000ges"', "is no path"),
    "NUL in an architecture": ('"net.py:make"', '"net\\u0000.py:make"', "is no name"),
    "NUL in the path of the weights": ('"net.pt"', '"net\\u0000.pt"', "is no path"),
    "NUL in a source": ('"looks.txt"', '"looks\\u0000.txt"', "is no name"),
    "NUL in the name of a layer": ('["conv1"', '["conv1\\u0000"', "is no name"),
    "a path of a megabyte": ('path = "images"', f'path = "{"x" * 900_000}"', "is no path"),
    "a path of many folders": ('path = "images"', f'path = "{"x/" * 4000}"', "is no path"),
    "a template that asks for more": ('["{}", "a', '["{0.__class__}", "a', "must hold {} once"),
    "half of a surrogate pair": ('name = "shapes"\nkind', 'name = "\\ud800"\nkind', "not a readable TOML file"),
    "letters after the end": ('images_neurons = 2', "images_neurons = 2\n\x1a\x00", "not a readable TOML file"),
}  # fmt: skip


@pytest.mark.parametrize("what", STUDIES)
def test_a_study_that_means_harm_is_refused(world: World, what: str) -> None:
    old, new, reason = STUDIES[what]
    world.change(old, new)
    refused(world, "extract", world.study, says=("dissectdb: ", reason))


@pytest.mark.parametrize(
    "what", ["a pipe", "a device", "a folder", "a gigabyte of zeros", "letters of no alphabet", "a pickle"]
)
def test_a_study_that_is_no_text_is_refused(world: World, what: str) -> None:
    world.study.unlink()
    if what == "a pipe":
        os.mkfifo(world.study)
    elif what == "a device":
        world.study.symlink_to("/dev/zero")
    elif what == "a folder":
        world.study.mkdir()
    elif what == "a gigabyte of zeros":
        sparse(world.study, 1 << 30)
    else:
        world.study.write_bytes(b"\xff\xfe\0" if what.startswith("l") else pickle.dumps(Trap(world.folder / "sprung")))
    refused(world, "extract", world.study, says=("study.toml: not a readable TOML file",))
    assert not (world.folder / "sprung").exists()


# ---------------------------------------------------------------- concepts

CONCEPTS: dict[str, tuple[str, bytes, str]] = {
    "NUL": ("x.txt", b"a\0b\nc\n", "control character"),
    "UTF-16": ("x.txt", "bright\ndark\n".encode("utf-16"), "not a readable concept file"),
    "UTF-16 without a mark": ("x.txt", "bright\ndark\n".encode("utf-16-le"), "control character"),
    "letters of no alphabet": ("x.txt", b"a\n\xff\xfe\xfd\n", "not a readable concept file"),
    "escape codes": ("x.txt", b"a\n\x1b[2Jb\n", "control character"),
    "a word without end": ("x.txt", b"a\n" + b"x" * 3_000_000, "a concept is a few words"),
    "a million lines": ("x.txt", b"".join(b"word%d\n" % number for number in range(1_000_000)), "has more than 4 MB"),
    "half a million empty lines": ("x.txt", b"\n" * 500_000, "holds 0 concept"),
    "the same word half a million times": ("x.txt", b"a\n" * 500_000, "is on line 1 already"),
    "ten megabytes in a text": ("x.toml", b'[concepts]\n"a" = ["' + b"x" * 10_000_000 + b'"]', "has more than 4 MB"),
    "a key of many parts": ("x.toml", b"[concepts]\n" + b"a." * 100_000 + b"a = []", "more than 100 parts"),
    "lists nested 1,000 deep": (
        "x.toml",
        b"[concepts]\na = " + b"[" * 1000 + b"]" * 1000,
        "not a readable concept file",
    ),
    "an endless number": ("x.toml", b"[concepts]\na = [" + b"9" * 5000 + b"]", "not a readable concept file"),
    "a number instead of classes": ("x.toml", b"[concepts]\na = 0x" + b"f" * 5000, "needs a list of class names"),
    "escape codes in TOML": ("x.toml", b'[concepts]\n"\\u001b[2J" = []\nb = []', "control character"),
    "other tables": ("x.toml", b'[concepts]\na = []\nb = []\n["\\u001b[2J\\n"]\nx = 1', "is not in it"),
    "another kind of file": ("x.pkl", b"a\nb\n", "ends in .txt"),
}


@pytest.mark.parametrize("what", CONCEPTS)
def test_concepts_that_mean_harm_are_refused(world: World, what: str) -> None:
    name, content, reason = CONCEPTS[what]
    (world.folder / name).write_bytes(content)
    world.change('"looks.txt"', f'"{name}"')
    refused(world, "extract", world.study, says=(name, reason))


@pytest.mark.parametrize("suffix", [".txt", ".toml"])
@pytest.mark.parametrize("what", ["a gigabyte", "a pipe", "a device", "a link that goes round"])
def test_concept_files_that_cannot_be_read_are_refused_at_once(tmp_path: Path, suffix: str, what: str) -> None:
    path = tmp_path / f"concepts{suffix}"
    if what == "a gigabyte":
        sparse(path, 1 << 30)
    elif what == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if what == "a device" else path.name)
    with within_bounds(), pytest.raises(StudyError) as error:
        concepts.read(str(path))
    assert str(error.value).startswith(f"{path}: ")
    assert str(error.value).isprintable()
    if what == "a gigabyte":
        assert "has more than 4 MB" in str(error.value)


def test_the_largest_concept_file_is_read_soon(tmp_path: Path) -> None:
    path = tmp_path / "concepts.txt"
    path.write_text("".join(f"{number:x}\n" for number in range(600_000)))
    with within_bounds():
        assert len(concepts.read(str(path))) == 600_000


# ---------------------------------------------------------------- warehouses

READING = {
    "query": ("query", "select * from layer_summary"),
    "status": ("status",),
    "check": ("check",),
    "report": ("report", "-o", "report.html"),
    "build": ("build", "--dry-run"),
}


def sqlite(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("create table layers (layer text)")
    connection.close()


def other_duckdb(path: Path) -> None:
    duckdb.connect(str(path)).execute("create table mine (x integer)").close()


WAREHOUSES: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("my diary\n" * 5000),
    "nothing": lambda path: path.touch(),
    "a cut one": lambda path: (Warehouse(path).close(), os.truncate(path, 20_000)),
    "a header of garbage": lambda path: (Warehouse(path).close(), damage(path, 8192)),
    "a folder": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
    "a link that goes round": lambda path: path.symlink_to(path.name),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a pickle": lambda path: path.write_bytes(pickle.dumps(Trap(path.with_name("sprung")))),
    "another DuckDB file": other_duckdb,
}


def damage(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xa5" * 2000)


@pytest.mark.parametrize("asked", READING)
@pytest.mark.parametrize("what", WAREHOUSES)
def test_what_is_no_warehouse_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, asked: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.duckdb"
    WAREHOUSES[what](path)
    before = state(tmp_path)
    with within_bounds():
        done = command(*READING[asked], "-w", path)
    assert done.code == 3, done.err
    assert done.err.startswith("dissectdb: ")
    assert done.err.count("\n") == 1
    assert str(path) in done.err
    assert state(tmp_path) == before


# What somebody may put into a warehouse in the place of what is ours, to have a file read.
PLANTED = {
    "a view of ours": ["drop view layer_summary", "create view layer_summary as select content from read_text('SECRET')"],
    "a view over a folder": ["drop view layer_summary", "create view layer_summary as from glob('FOLDER/*')"],
    "a view over a CSV": ["drop view layer_summary", "create view layer_summary as from read_csv('SECRET')"],
    "a view over a file by its name": ["drop view layer_summary", "create view layer_summary as from 'SECRET'"],
    "a macro of ours": ["create or replace macro nd_dot(a, b) as (select content from read_text('SECRET'))"],
    "a macro for a function": ["create macro lower(x) as (select content from read_text('SECRET'))",
        "drop view layer_summary", "create view layer_summary as select lower('a') as layer"],
}  # fmt: skip


@pytest.mark.parametrize("asked", ["query", "status", "build"])
@pytest.mark.parametrize("what", PLANTED)
def test_a_warehouse_of_somebody_else_reads_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, asked: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path, secret = tmp_path / "w.duckdb", tmp_path / "secret.csv"
    secret.write_text("word\nhunter2\n")
    Warehouse(path).close()
    with duckdb.connect(str(path)) as connection:
        for statement in PLANTED[what]:
            connection.execute(statement.replace("SECRET", str(secret)).replace("FOLDER", str(tmp_path)))
    before = state(tmp_path)
    with within_bounds():
        done = command(*READING[asked], "-w", path)
    assert "hunter2" not in done.out + done.err
    assert "secret.csv" not in done.out
    assert done.code in (0, 1, 2, 3)
    assert state(tmp_path) == before


@pytest.mark.parametrize("asked", READING)
def test_the_schema_version_of_somebody_else_reads_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path, secret = tmp_path / "w.duckdb", tmp_path / "secret.csv"
    secret.write_text("word\nhunter2\n")
    Warehouse(path).close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("create schema other; create table other.warehouse_info as from main.warehouse_info")
        connection.execute("drop table main.warehouse_info")
        query = f"select 'schema_version' as key, content as value from read_text('{secret}')"
        connection.execute(f"create view warehouse_info as {query}")
    done = command(*READING[asked], "-w", path)
    assert done.code == 3
    assert "hunter2" not in done.out + done.err


def test_an_sqlite_file_is_refused_without_a_download(tmp_path: Path) -> None:
    sqlite(tmp_path / "w.duckdb")
    done = command("status", "-w", tmp_path / "w.duckdb")
    assert done.code == 3
    assert "download" not in done.err


@pytest.mark.parametrize("asked", ["check", "report"])
def test_a_view_of_somebody_else_that_fails_is_a_line(tmp_path: Path, asked: str) -> None:
    path = tmp_path / "w.duckdb"
    Warehouse(path).close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("drop view layer_summary; create view layer_summary as from read_text('/etc/hostname')")
    done = command(*READING[asked][:1], *(("-o", tmp_path / "r.html") if asked == "report" else ()), "-w", path)
    assert done.code in (1, 3)
    assert done.err.startswith("dissectdb: ")
