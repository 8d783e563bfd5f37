"""Images, folders and CSV files that mean harm: see hostile.py."""

# ruff: noqa: E501
from __future__ import annotations

import gzip
import io
import os
import struct
import subprocess
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageFile
import PIL.PngImagePlugin
import pytest

from dissectdb.extract.images.decoding import inspect_file
from dissectdb.extract.images.sources import open_source
from dissectdb.extract.study import Dataset, StudyError
from tests.support.hostile import refused, sparse, within_bounds
from tests.support.worlds import World, draw

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
    says = ("links out of the dataset", "replace the link by a copy") if target != "../.." or name == "link" else ("",)
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


def test_links_that_only_lead_to_each_other_are_dead_links(tmp_path: Path) -> None:
    folder = dataset(tmp_path)
    (folder / "ring" / "a.png").symlink_to("b.png")
    (folder / "ring" / "b.png").symlink_to("a.png")
    (folder / "ring" / "notes").symlink_to("notes")
    (folder / "itself").symlink_to("itself")
    found = scan(folder)
    assert {path for path, defect in found.items() if defect is None} == {"disc/good.png", "ring/good.png"}
    ways_round = [found[f"ring/{name}.png"] for name in "ab"]
    assert ways_round == ["unreadable: Too many levels of symbolic links"] * 2


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


@pytest.fixture
def settings_of_a_program(monkeypatch):
    monkeypatch.setattr(PIL.ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(PIL.PngImagePlugin, "MAX_TEXT_CHUNK", 10)
    with warnings.catch_warnings(action="error"):
        yield


def test_what_a_program_sets_in_pillow_decides_nothing(settings_of_a_program):
    values = np.random.default_rng(1).integers(2, size=(40, 40), dtype=np.uint8)
    palette = PIL.Image.fromarray(values)
    palette.putpalette([0, 0, 0, 255, 255, 255])
    notes = PIL.PngImagePlugin.PngInfo()
    notes.add_itxt("comment", "a long text " * 50, zip=True)
    file = io.BytesIO()
    palette.save(file, "PNG", transparency=b"\x00\x80", pnginfo=notes)
    facts, pixels = inspect_file(file.getvalue())
    assert (facts.defect, pixels.tolist()) == (None, (np.stack([values] * 3, 2) * 255).tolist())
    facts, pixels = inspect_file(file.getvalue()[:200])
    assert facts.defect.startswith("unreadable: ")
    assert (PIL.ImageFile.LOAD_TRUNCATED_IMAGES, PIL.Image.MAX_IMAGE_PIXELS) == (True, 100)
    with pytest.raises(UserWarning, match="as before"):
        warnings.warn("as before", stacklevel=1)
