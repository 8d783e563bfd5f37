"""Concept sets: what a neuron may be said to respond to.

read("facial_expressions")      # a set that ships with dissectdb
read("my/concepts.txt")         # UTF-8, one concept a line; blank lines and lines that start with # do not count
read("my/concepts.toml")        # [concepts] with concept = ["class", …], the classes that it stands for; a table
                                # [provenance] may say who made it, and counts for nothing
"""

from __future__ import annotations

import difflib
import tomllib
import unicodedata
from pathlib import Path

from extract.study import StudyError
from extract.texts import MEGABYTE, one_line, read_text, without_endless_keys

FOLDER = Path(__file__).parent
LARGEST = 4 * MEGABYTE  # of a concept file: some 300,000 concepts, each of which CLIP reads
LONGEST = 1000  # characters of a concept


def shipped() -> list[str]:
    """The names of the sets that ship."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read(source: str) -> dict[str, tuple[str, ...]]:
    """Concept → the classes that it stands for, in the order of the set. Raises StudyError."""
    path = Path(source)
    if "/" not in source and "." not in source:
        if source not in shipped():
            close = difflib.get_close_matches(source, shipped(), n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise StudyError(f"no concept set {source!r} ships; {hint}there is {', '.join(shipped())}, or name a file")
        path = FOLDER / f"{source}.toml"
    suffix = path.suffix.lower()
    if suffix not in (".txt", ".toml"):
        raise StudyError(f"{path}: a concept file ends in .txt (one a line) or .toml (with their classes)")
    try:
        text = read_text(path, LARGEST)
        concepts = _from_toml(path, text) if suffix == ".toml" else _from_lines(path, text)
    except StudyError:
        raise
    except FileNotFoundError:
        raise StudyError(f"{path}: no such concept file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise StudyError(f"{path}: not a readable concept file: {one_line(error)}") from error
    if len(concepts) < 2:
        raise StudyError(f"{path}: holds {len(concepts)} concept(s); a label needs at least two to choose from")
    return concepts


def _from_lines(path: Path, text: str) -> dict[str, tuple[str, ...]]:
    concepts: dict[str, tuple[str, ...]] = {}
    first_lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        concept = line.strip()
        if not concept or concept.startswith("#"):
            continue
        _refuse_control(f"{path}:{number}", concept)
        key = _same(concept)
        if key in first_lines:
            raise StudyError(f"{path}:{number}: {concept!r} is on line {first_lines[key]} already")
        first_lines[key] = number
        concepts[concept] = ()
    return concepts


def _from_toml(path: Path, text: str) -> dict[str, tuple[str, ...]]:
    tables = tomllib.loads(without_endless_keys(text))
    table = tables.pop("concepts", None)
    if isinstance(tables.get("provenance"), dict):
        del tables["provenance"]
    if not isinstance(table, dict) or tables:
        lost = f"; {', '.join(map(repr, tables))} is not in it" if tables else ""
        raise StudyError(f'{path}: needs one table, [concepts], with lines such as "Smile" = ["happy"]{lost}')
    concepts: dict[str, tuple[str, ...]] = {}
    seen: dict[str, str] = {}
    for concept, classes in table.items():
        if not isinstance(classes, list) or not all(isinstance(name, str) and name.strip() for name in classes):
            raise StudyError(f"{path}: {concept!r} needs a list of class names, [] if it stands for none")
        if not concept.strip():
            raise StudyError(f"{path}: a concept is empty")
        _refuse_control(str(path), concept.strip())
        if (twin := seen.setdefault(_same(concept.strip()), concept)) != concept:
            raise StudyError(f"{path}: {concept!r} and {twin!r} are the same concept")
        concepts[concept.strip()] = tuple(dict.fromkeys(name.strip() for name in classes))
    return concepts


def _same(concept: str) -> str:
    """Equal for concepts that differ only in case, or in how their accents are encoded."""
    return unicodedata.normalize("NFC", concept).casefold()


def _refuse_control(place: str, concept: str) -> None:
    """Tabs and NULs are columns or another encoding, not words; nor is what fills a page."""
    if len(concept) > LONGEST:
        raise StudyError(f"{place}: {concept[:40]!r} … has {len(concept):,} characters; a concept is a few words")
    if any(unicodedata.category(letter) == "Cc" for letter in concept):
        raise StudyError(f"{place}: {concept!r} holds a control character")
