"""Make a concept set with a language model: new concepts for some classes, or the classes of given concepts.

made = generate(endpoint, ["angry", "happy"], number=25, about="faces")
made = label(endpoint, ["Smile", "Frown"], ["angry", "happy"], about="faces")
as_toml(made)     # the text of a file that dissectdb.extract.concepts reads

A model's words are written to files, prompts and terminals. So they must be short and printable, and are escaped.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field

from dissectdb.did_you_mean import choices
from dissectdb.extract.concepts import _from_toml, chat, same_word
from dissectdb.extract.concepts.chat import Endpoint, EndpointError
from dissectdb.extract.study import StudyError

MAX_CHARACTERS = 100  # of a concept; CLIP reads about 70 words
MAX_CONCEPTS = 2000  # in an answer

GENERATE = """\
A vision network sorts images into classes. The images show: {about}
The classes, as JSON: {classes}

Name {number} visual concepts that help to tell these classes apart. A concept is one to five words for something \
that can be seen in a single image: a part, a shape, a texture, a colour, a pose. Name no concept twice, not even in \
other words, and use no class name as a concept. For each concept list the classes that it stands for: at least one, \
several where it is typical of several, spelled exactly as above.

{shape}"""

LABEL = """\
A vision network sorts images into classes. The images show: {about}
The classes, as JSON: {classes}
Visual concepts, as JSON: {concepts}

For each of these {number} concepts list the classes that it stands for: those whose images show it more often than \
the images of the other classes. List several where it is typical of several, and none where it tells nothing. Answer \
with every concept once, in this order, and with no other; spell concepts and classes exactly as above.

{shape}"""

SHAPE = 'Answer with JSON only, of this shape: {"concepts": [{"concept": "…", "classes": ["…"]}]}'


class Labelled(BaseModel):
    """A concept and the classes that it stands for, in a model's answer."""

    concept: str = Field(max_length=10 * MAX_CHARACTERS)
    classes: list[str]


class Answer(BaseModel):
    """A model's answer: concepts with their classes."""

    concepts: list[Labelled] = Field(max_length=MAX_CONCEPTS)


@dataclass(frozen=True)
class Made:
    """A concept set, and who made it, how and when."""

    concepts: dict[str, tuple[str, ...]]
    provenance: dict[str, str | datetime.date]


def generate(endpoint: Endpoint, classes: Sequence[str], number: int, about: str) -> Made:
    """Ask for a concept set. Raises EndpointError."""
    prompt = generate_prompt(classes, number, about)
    answer = chat.ask(endpoint, prompt, schema(classes), Answer)
    return Made(accepted(endpoint.model, answer, classes), provenance(endpoint, prompt))


def label(endpoint: Endpoint, concepts: Sequence[str], classes: Sequence[str], about: str) -> Made:
    """Ask which classes each of these concepts stands for; keep their order. Raises EndpointError."""
    prompt = label_prompt(concepts, classes, about)
    answered = accepted(endpoint.model, chat.ask(endpoint, prompt, schema(classes), Answer), classes)
    meant = _matcher(concepts)
    asked = {answer: meant(answer) for answer in answered}
    if twice := [concept for concept, n in Counter(filter(None, asked.values())).items() if n > 1]:
        raise EndpointError(f"{endpoint.model} gave the same concept twice: {twice[0]!r}")
    by_name = {concept: answered[answer] for answer, concept in asked.items() if concept is not None}
    dropped = [concept for concept in concepts if concept not in by_name]
    added = [answer for answer, concept in asked.items() if concept is None]
    lists = [f"{what} {_listed(names)}" for what, names in (("dropped", dropped), ("added", added)) if names]
    if lists:
        raise EndpointError(f"{endpoint.model} {' and '.join(lists)}; it was asked for the given concepts, each once")
    return Made({concept: by_name[concept] for concept in concepts}, provenance(endpoint, prompt))


def class_names(text: str) -> tuple[str, ...]:
    """The classes of --classes angry,happy. Raises StudyError."""
    names = [name.strip() for name in text.split(",")]
    if bad := [name for name in names if not _is_plain(name)]:
        raise StudyError(f"--classes: {bad[0]!r} is not a class name; write them as angry,happy,sad")
    if twice := {name for name in names if list(map(same_word, names)).count(same_word(name)) > 1}:
        raise StudyError(f"--classes: {', '.join(sorted(twice))} appears twice")
    if len(names) < 2:
        raise StudyError("--classes: at least two are needed; write them as angry,happy,sad")
    return tuple(names)


def generate_prompt(classes: Sequence[str], number: int, about: str) -> str:
    """The prompt for a new concept set."""
    return GENERATE.format(about=_sentence(about), classes=_json(classes), number=number, shape=SHAPE)


def label_prompt(concepts: Sequence[str], classes: Sequence[str], about: str) -> str:
    """The prompt for the classes of given concepts."""
    return LABEL.format(
        about=_sentence(about),
        classes=_json(classes),
        concepts=_json(concepts),
        number=len(concepts),
        shape=SHAPE,
    )


def schema(classes: Sequence[str]) -> dict[str, object]:
    """The JSON schema of an Answer about these classes, in the subset that strict endpoints take."""
    concept = {
        "type": "object",
        "properties": {
            "concept": {"type": "string"},
            "classes": {"type": "array", "items": {"type": "string", "enum": list(classes)}},
        },
        "required": ["concept", "classes"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"concepts": {"type": "array", "items": concept}},
        "required": ["concepts"],
        "additionalProperties": False,
    }


def accepted(model: str, answer: Answer, classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Concept → its classes, in the order of the answer. Raises EndpointError if it is not a valid concept set."""
    concepts: dict[str, tuple[str, ...]] = {}
    seen: set[str] = set()
    meant = _matcher(classes)
    for labelled in answer.concepts:
        concept = labelled.concept.strip()
        if not _is_plain(concept):
            shown = ascii(concept if len(concept) <= MAX_CHARACTERS else f"{concept[:MAX_CHARACTERS]}…")
            raise EndpointError(f"{model} answered {shown}, which is not a concept: empty, too long, or not plain text")
        if same_word(concept) in seen:
            raise EndpointError(f"{model} gave the same concept twice: {concept!r}")
        if unknown := [name for name in labelled.classes if meant(name) is None]:
            raise EndpointError(
                f"{model} gave {concept!r} the class {chat.brief(repr(unknown[0]))}; {choices(unknown[0], classes)}"
            )
        seen.add(same_word(concept))
        concepts[concept] = tuple(dict.fromkeys(filter(None, map(meant, labelled.classes))))
    if len(concepts) < 2:
        raise EndpointError(f"{model} answered {len(concepts)} concept(s); a set needs at least two")
    return concepts


def _matcher(names: Sequence[str]) -> Callable[[str], str | None]:
    """A function: a model's word, in any case → the name that it means; None if there is no such name, or several."""
    exact = {same_word(name): name for name in names}
    folded: dict[str, list[str]] = {}
    for name in names:
        folded.setdefault(same_word(name).casefold(), []).append(name)

    def meant(answer: str) -> str | None:
        word = same_word(answer.strip())
        alike = folded.get(word.casefold(), [])
        return exact.get(word) or (alike[0] if len(alike) == 1 else None)

    return meant


def provenance(endpoint: Endpoint, prompt: str) -> dict[str, str | datetime.date]:
    """Who made a set, how and when. It holds the endpoint's host, but not its full address and never the key."""
    try:
        version = importlib.metadata.version("dissectdb")
    except importlib.metadata.PackageNotFoundError:
        version = "not installed"
    today = datetime.datetime.now(datetime.UTC).date()
    return {
        "model": endpoint.model,
        "endpoint": endpoint.host,
        "date": today,
        "dissectdb": version,
        "prompt": prompt,
    }


def check_output(path: Path, force: bool) -> None:
    """Raises StudyError if a set cannot be written to this path. Call it before the model is asked."""
    if path.suffix.lower() != ".toml":
        raise StudyError(f"{path}: a concept set with classes is a .toml file")
    if not path.parent.is_dir():
        raise StudyError(f"{path}: there is no folder {path.parent}; make it first")
    if path.is_dir() or (path.exists() and not force):
        raise StudyError(f"{path} exists already{'' if path.is_dir() else '; --force overwrites it'}")


def as_toml(made: Made) -> str:
    """A concept set as the text of a TOML file. Checks that it reads back unchanged."""
    lines = ["# A language model made this set: read it before you believe it.", "", "[concepts]"]
    lines += [
        f"{_quoted(concept)} = [{', '.join(map(_quoted, classes))}]" for concept, classes in made.concepts.items()
    ]
    lines += ["", "[provenance]"]
    for key, value in made.provenance.items():
        lines.append(f"{key} = {_quoted(value) if isinstance(value, str) else value.isoformat()}")
    text = "\n".join([*lines, ""])
    if (
        _from_toml(Path("concepts.toml"), text).classes_of != made.concepts
        or tomllib.loads(text)["provenance"] != made.provenance
    ):
        raise AssertionError("a concept set does not read back as it was written")
    return text


def _quoted(text: str) -> str:
    """Text as a TOML string, over several lines if it has them. JSON's escapes are valid in TOML, except for DEL."""
    escaped = json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
    if "\n" not in text:
        return escaped
    lines = [json.dumps(line, ensure_ascii=False)[1:-1].replace("\x7f", "\\u007F") for line in text.split("\n")]
    return '"""\n' + "\n".join(lines) + '"""'


def _json(words: Sequence[str]) -> str:
    return json.dumps(list(words), ensure_ascii=False)


def _sentence(about: str) -> str:
    """--about as one line, so that it cannot imitate another part of the prompt. Raises StudyError."""
    text = " ".join(about.split())
    if not text or not text.isprintable():
        raise StudyError("--about must be a few plain words on what the images show")
    return text if text.endswith(".") else f"{text}."


def _is_plain(text: str) -> bool:
    """Whether text is short, not empty, and has only visible characters: no control or direction marks."""
    unseen = any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for letter in text)
    return 0 < len(text) <= MAX_CHARACTERS and not unseen


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:5]))
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
