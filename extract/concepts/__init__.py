"""Concept sets: the words that a neuron can be labelled with.

read("facial_expressions")      # a set that ships with dissectdb
read("general:textures,colours")   # two categories of one that has categories
read("wordfreq:20000")          # the commonest English words, by the package wordfreq
read("my/concepts.txt")         # UTF-8, one concept per line; blank lines and lines that start with # are skipped
read(["dog", "cat"])            # a list, as a study may have it
read("my/concepts.toml")        # [concepts] with concept = ["class", …], the classes that it stands for, or
                                # [categories] with category = ["concept", …]; a table [provenance] may name its maker
                                # and is ignored

A repeated word is left out and logged. Words that differ in case are different words.
"""

from __future__ import annotations

import logging
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dissectdb.did_you_mean import choices
from dissectdb.extract.concepts import common_words
from dissectdb.extract.study import StudyError
from dissectdb.extract.study.text_files import MEGABYTE, one_line, read_text, without_endless_keys
from dissectdb.progress import REPEATED

FOLDER = Path(__file__).parent
MAX_BYTES = 4 * MEGABYTE  # of a concept file: about 300,000 concepts, and CLIP embeds each of them
MAX_CHARACTERS = 1000  # of a concept
EXAMPLES = 5  # words that a note lists
OF_STUDY = "the study's list of concepts"
log = logging.getLogger("dissectdb")


@dataclass(frozen=True)
class ConceptList:
    """A concept file.

    classes_of: concept → the classes that it stands for. entries: how many words the file has, with repeats. kept:
    the indices of the words that are not repeats. categories: category → how many words it has; category_of: concept →
    its category, the first of several. Both are {} if there are none.
    """

    classes_of: dict[str, tuple[str, ...]]
    entries: int
    kept: tuple[int, ...]
    repeated: tuple[str, ...]  # the words that were left out, once per repeat
    comments: int = 0  # lines of a .txt that begin with #
    categories: dict[str, int] = field(default_factory=dict)
    category_of: dict[str, str] = field(default_factory=dict)


def shipped() -> list[str]:
    """The names of the concept sets that ship with dissectdb."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read(source: str | Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Concept → the classes that it stands for, in order. Logs words that are left out. Raises StudyError."""
    return read_list(source).classes_of


def read_list(source: str | Sequence[str]) -> ConceptList:
    """Read a concept set, with the index of each word in its file; log repeats, comments and words that differ in case.

    Raises StudyError.
    """
    concept_list = load(source)
    source = source if isinstance(source, str) else OF_STUDY
    if concept_list.repeated:
        log.info("%s: %s", source, _repeats_note(concept_list.repeated))
    if concept_list.comments:
        log.info("%s: lines that begin with # are comments, not concepts: %s", source, f"{concept_list.comments:,}")
    if alike := _differ_in_case(concept_list.classes_of):
        log.warning("%s: %s", source, _case_note(alike), extra={REPEATED: False})
    return concept_list


def load(source: str | Sequence[str]) -> ConceptList:
    """Read a concept set like read_list, but without logging. Raises StudyError."""
    if not isinstance(source, str):
        return _refuse_few(OF_STUDY, _from_words(OF_STUDY, enumerate(source)))
    if source.startswith(common_words.PREFIX):
        return _without_repeats(Path(source), [(word, ()) for word in common_words.read(source)])
    path, wanted = Path(source), ""
    if "/" not in source and "." not in source:
        name, _, wanted = source.partition(":")
        if name not in shipped():
            near = choices(name, shipped())
            raise StudyError(f"no concept set {name!r} comes with dissectdb; {near}, or name a file")
        path = FOLDER / f"{name}.toml"
    suffix = path.suffix.lower()
    if suffix not in (".txt", ".toml"):
        raise StudyError(f"{path}: a concept file ends in .txt (one per line) or .toml (with their classes)")
    try:
        text = read_text(path, MAX_BYTES)
        concept_list = _from_toml(path, text, wanted) if suffix == ".toml" else _from_lines(path, text)
    except StudyError:
        raise
    except FileNotFoundError:
        raise StudyError(f"{path}: no such concept file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise StudyError(f"{path}: not a readable concept file: {one_line(error)}") from error
    return _refuse_few(path, concept_list)


def _refuse_few(where: Path | str, concept_list: ConceptList) -> ConceptList:
    if (count := len(concept_list.classes_of)) < 2:
        raise StudyError(f"{where}: holds {count} concept(s); a label needs at least two to choose from")
    return concept_list


def _from_lines(path: Path, text: str) -> ConceptList:
    lines = [line.strip() for line in text.split("\n")]
    words = [(number, line) for number, line in enumerate(lines, start=1) if line and not line.startswith("#")]
    return replace(_from_words(path, words), comments=sum(line.startswith("#") for line in lines))


def _from_words(where: Path | str, words: Iterable[tuple[int, str]]) -> ConceptList:
    """words: each with its line in the file, or its index in the list."""
    concepts: list[tuple[str, tuple[str, ...]]] = []
    for number, word in words:
        _refuse_control(f"{where}:{number}", word.strip())
        concepts.append((word.strip(), ()))
    return _without_repeats(where, concepts)


def _from_toml(path: Path, text: str, wanted: str = "") -> ConceptList:
    """wanted: the names of the categories to take, with commas; "" for all."""
    try:
        tables = tomllib.loads(without_endless_keys(text))
    except tomllib.TOMLDecodeError as error:
        keys = Counter(line.partition("=")[0].strip() for line in text.split("\n") if "=" in line)
        [(key, times)] = keys.most_common(1) or [("", 0)]
        if "overwrite" in str(error) and times > 1:
            raise StudyError(
                f"{path}: {one_line(key, 100)} appears {times} times, but TOML allows a key once; keep one line"
            ) from error
        raise
    table = tables.pop("concepts", None)
    if isinstance(tables.get("provenance"), dict):
        del tables["provenance"]
    if table is None and isinstance(tables.get("categories"), dict) and len(tables) == 1:
        return _from_categories(path, tables["categories"], wanted)
    if wanted:
        raise StudyError(f"the concept set {path.stem} has no categories; take all of it: {path.stem!r}")
    if not isinstance(table, dict) or tables:
        lost = f"; {', '.join(map(repr, tables))} is not in it" if tables else ""
        raise StudyError(
            f'{path}: needs one table, [concepts], with lines such as "Smile" = ["happy"], or [categories], with lines '
            f'such as textures = ["woven"]{lost}'
        )
    concepts = []
    for concept, classes in table.items():
        if not isinstance(classes, list) or not all(isinstance(name, str) and name.strip() for name in classes):
            raise StudyError(f"{path}: {concept!r} needs a list of class names, [] if it stands for none")
        if not concept.strip():
            raise StudyError(f"{path}: a concept is empty")
        _refuse_control(str(path), concept.strip())
        concepts.append((concept.strip(), tuple(dict.fromkeys(name.strip() for name in classes))))
    return _without_repeats(path, concepts)


def _from_categories(path: Path, categories: dict[str, object], wanted: str) -> ConceptList:
    names = [name.strip() for name in wanted.split(",")] if wanted else list(categories)
    if unknown := [name for name in names if name not in categories]:
        near = choices(unknown[0], categories)
        raise StudyError(f"the concept set {path.stem} has no category {unknown[0]!r}; {near}")
    chosen = {name: _words_of_category(path, name, categories[name]) for name in names}
    concept_list = _without_repeats(path, [(word, ()) for words in chosen.values() for word in words])
    category_of = {word: name for name, words in reversed(chosen.items()) for word in words}
    return replace(
        concept_list,
        categories={name: len(words) for name, words in chosen.items()},
        category_of={word: category_of[word] for word in concept_list.classes_of},
    )


def _words_of_category(path: Path, name: str, words: object) -> list[str]:
    if not isinstance(words, list) or not all(isinstance(word, str) and word.strip() for word in words):
        raise StudyError(f'{path}: the category {name!r} needs a list of concepts, such as ["woven", "knitted"]')
    for word in words:
        _refuse_control(str(path), word.strip())
    return [word.strip() for word in words]


def _without_repeats(path: Path | str, entries: Iterable[tuple[str, tuple[str, ...]]]) -> ConceptList:
    """The words in the order of the file, each once. Raises StudyError if a repeat has other classes."""
    first: dict[str, tuple[str, tuple[str, ...]]] = {}
    kept_indices, repeated, count = [], [], 0
    for index, (concept, classes) in enumerate(entries):
        count += 1
        key = same_word(concept)
        if key not in first:
            first[key] = (concept, classes)
            kept_indices.append(index)
            continue
        if set(first[key][1]) != set(classes):
            both = " and for ".join(
                ", ".join(map(repr, class_names)) or "no class" for class_names in (first[key][1], classes)
            )
            raise StudyError(f"{path}: {concept!r} appears twice, for {both}; keep one of the two")
        repeated.append(concept)
    return ConceptList(dict(first.values()), count, tuple(kept_indices), tuple(repeated))


def same_word(concept: str) -> str:
    """A key that is equal for words that differ only in how accents are encoded."""
    return unicodedata.normalize("NFC", concept)


def _repeats_note(repeated: tuple[str, ...]) -> str:
    """2 words are repeats and were left out: 'shed', 'cat'."""
    times = Counter(repeated)
    shown = ", ".join(f"{word!r}{f' ({n} times)' if n > 1 else ''}" for word, n in times.most_common(EXAMPLES))
    more = f" and {len(times) - EXAMPLES:,} more" if len(times) > EXAMPLES else ""
    what = "1 word is a repeat and was" if len(repeated) == 1 else f"{len(repeated):,} words are repeats and were"
    return f"{what} left out: {shown}{more}"


def _differ_in_case(concepts: Iterable[str]) -> list[list[str]]:
    """The groups of words that differ in case only."""
    groups: dict[str, list[str]] = {}
    for concept in concepts:
        groups.setdefault(same_word(concept).casefold(), []).append(concept)
    return [group for group in groups.values() if len(group) > 1]


def _case_note(alike: list[list[str]]) -> str:
    shown = "; ".join(", ".join(map(repr, group)) for group in alike[:EXAMPLES])
    more = f" and {len(alike) - EXAMPLES:,} more such groups" if len(alike) > EXAMPLES else ""
    return (
        f"these words differ in case only: {shown}{more}. They are kept as different concepts; a CLIP whose tokenizer "
        "turns text into lower case gives them equal scores, and the first of them becomes the label"
    )


def _refuse_control(location: str, concept: str) -> None:
    """Raises StudyError for a very long concept, and for control characters, a sign of another file format."""
    if len(concept) > MAX_CHARACTERS:
        raise StudyError(f"{location}: {concept[:40]!r} … has {len(concept):,} characters; a concept is a few words")
    if any(unicodedata.category(letter) == "Cc" for letter in concept):
        raise StudyError(f"{location}: {concept!r} holds a control character")
