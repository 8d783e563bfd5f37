"""Write a first study from what is found: the kind of images, the checkpoint's head, preprocessing, layers.

study = first_study.find(Wanted(images="photos", network="torchvision:resnet50", weights="pretrained", …))
study.assumed            # sentences on what was concluded, to be checked by the user
study.write(force=False)
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dissectdb.clip_names import WHOLE, clip_keys
from dissectdb.output import replacing

if TYPE_CHECKING:
    from dissectdb.extract.images.first_look import FoundImages
    from dissectdb.extract.models.first_look import FoundNetwork

CLIP = "ViT-B-32/openai"
LIBRARIES = ("torchvision:", "timm:")  # whose networks may have weights = "pretrained"; hf: has it by itself
SHORT = 72  # characters of a note that stands behind its key
TOP_SHARE, LEAST = 5, 10  # listed images: a fifth of the images, but 10 of them or more
TOP_K = 100  # top images of a large set
SCORER = "presence"  # of a dissection that names none
TEMPLATES = ["{}", "a photo of {}"]
HEAD = """\
Written by dissectdb init, for {network}. Next:

    dissectdb extract {study} --dry-run
    dissectdb extract {study}

docs/study.md and studies/fer2013.toml explain all keys. A path is relative to this file's folder.
"""
OF_GROUPS = """\
Images that belong together, such as frames of a film or crops of a photograph, make labels look surer than they are,
unless [dataset] says by their paths which do:
group_pattern = "(.*)_frame"
"""
OF_EDITS = """\
An edit scales a layer's weights by its labels, and modify measures the result (docs/edits.md):
[[edits]]
name = "first"
rule = "calibrated"
factor = 1.5
"""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the user names. root: of torchvision's files, or of a manifest's paths. output: the study file."""

    images: str
    network: str
    concepts: str
    weights: str | None = None
    clip: str = CLIP
    root: str | None = None
    output: Path = Path("study.toml")


@dataclass
class FirstStudy:
    """A study that is not yet written. assumed: sentences on what was concluded."""

    path: Path
    text: str
    assumed: list[str] = field(default_factory=list)

    def write(self, *, force: bool = False) -> None:
        """Write the file, whole or not at all, once it loads as a study. Raises StudyError, OutputError."""
        from dissectdb.extract.study import Study

        refuse_existing(self.path, force)
        with replacing(self.path) as unfinished:
            unfinished.write_text(self.text, encoding="utf-8")
            Study.load(unfinished)


def refuse_existing(path: Path, force: bool) -> None:
    """Raises StudyError if a study cannot be written to this path. Call it before anything slow."""
    from dissectdb.extract.study import StudyError

    if path.is_dir():
        raise StudyError(f"{path}: is a folder; name a file, such as -o {path / 'study.toml'}")
    if path.exists() and not force:
        raise StudyError(f"{path} exists already; --force overwrites it, -o names another file")
    if not path.parent.is_dir():
        raise StudyError(f"{path}: there is no folder {path.parent}; make it first")


def find(wanted: Wanted) -> FirstStudy:
    """Look at everything that the user names. Raises StudyError; writes nothing."""
    from dissectdb.extract import concepts
    from dissectdb.extract.images import first_look as images
    from dissectdb.extract.models import first_look as models

    number = len(concepts.read(wanted.concepts))
    _refuse_unknown_clip(wanted.clip)
    found_images = images.look(wanted.images, wanted.root)
    found_network = models.look(wanted.network, _weights(wanted.weights), found_images.classes)
    study = FirstStudy(wanted.output, "")
    study.text = _text(wanted, found_images, found_network, study.assumed)
    study.assumed.append(f"concept_sets: {wanted.concepts} has {number:,} concepts")
    return study


def needs_weights(network: str) -> bool:
    """Whether a network is random without weights: all but a user's own function, and hf:, which has pretrained."""
    return not (network.rpartition(":")[0].endswith(".py") or network.startswith("hf:"))


def _weights(given: str | None) -> Path | str | None:
    return given if given in (None, "pretrained", "random") else Path(given)


def _refuse_unknown_clip(clip: str) -> None:
    """Raises StudyError for a CLIP that open_clip does not have; loads no weights."""
    from dissectdb.extract.models.clip import refuse_unknown
    from dissectdb.extract.study import Clip, StudyError

    keys = clip_keys(clip)
    if keys["architecture"] in ("", ".", "..", "~") or Path(clip).exists():
        raise StudyError(
            f"--clip {clip}: is a file; write the architecture of its weights before it, as in ViT-B-32/{clip}"
        )
    if "weights" not in keys and not clip.startswith(WHOLE):
        raise StudyError(f"--clip {clip}: name its weights too, as in {CLIP}: a pretrained tag of open_clip, or a file")
    refuse_unknown(Clip.model_validate(keys))


# ---------------------------------------------------------------- the text


def _text(wanted: Wanted, images: FoundImages, network: FoundNetwork, assumed: list[str]) -> str:
    """The study file. assumed: takes the sentences on what was concluded."""
    import tomlkit  # here, because only this command writes comments

    beside = wanted.output.absolute().parent
    doc = tomlkit.document()
    for line in HEAD.format(network=wanted.network, study=wanted.output).splitlines():
        doc.add(tomlkit.comment(line))
    doc.add(tomlkit.nl())
    _add(doc, {"warehouse": f"{wanted.output.stem}.duckdb"}, {"warehouse": "where everything goes"})
    dataset, notes = _dataset(images, beside)
    assumed += [f"dataset.{key}: {note}" for key, note in notes.items()]
    doc.add("dataset", _table(dataset, notes))

    keys, notes = _network(wanted, network, beside)
    assumed += [f"network.{key}: {note}" for key, note in notes.items() if key != "layers"]  # extract/models logs them
    prepared = keys.pop("input", None)
    table = _table(keys, notes)
    if prepared is not None:
        table.add("input", _table(prepared, {next(iter(prepared)): notes["input"]}))
    else:
        table.add(tomlkit.comment(f"[network.input] is {notes['input']}"))
    doc.add("network", table)

    doc.add("clip", _table(*_clip(wanted.clip, beside)))
    if wanted.clip == CLIP:
        assumed.append(f"clip: {CLIP}; --clip names another")
    concept_set, notes = _concept_set(wanted.concepts, beside)
    doc.add("concept_sets", _one_of_several(concept_set, notes))
    labelling_images = images.counts.get(str(dataset["probing_split"]), sum(images.counts.values()))  # of "all", all
    top_k = fitting_top_k(labelling_images, TOP_K)
    few_images = told_of_few(top_k or TOP_K, TOP_K, SCORER)
    assumed += [f"dissections[0].top_k: {few_images}"] if top_k else []
    labelling = {"concepts": concept_set["name"], **({"top_k": top_k} if top_k else {})}
    doc.add("dissections", _one_of_several(labelling, {"top_k": few_images}))
    hints = "\n".join(([OF_GROUPS] if dataset["kind"] == "folder" else []) + ([OF_EDITS] if images.classes else []))
    return "\n".join([tomlkit.dumps(doc).rstrip("\n"), "", *(f"# {line}".rstrip() for line in hints.splitlines()), ""])


def _table(keys: Mapping[str, Any], notes: Mapping[str, str]) -> Any:
    import tomlkit

    table = tomlkit.table()
    _add(table, keys, notes)
    return table


def _one_of_several(keys: Mapping[str, Any], notes: Mapping[str, str]) -> Any:
    """A table that others of its name may follow, as in [[concept_sets]]."""
    import tomlkit

    tables = tomlkit.aot()
    tables.append(_table(keys, notes))
    return tables


def _add(table: Any, keys: Mapping[str, Any], notes: Mapping[str, str]) -> None:
    """Add keys to a table, with notes behind them, or above them if they are long."""
    import tomlkit

    for key, value in keys.items():
        item = tomlkit.item(value) if not isinstance(value, dict) else _inline(value)
        if len(note := notes.get(key, "")) > SHORT:
            table.add(tomlkit.comment(note))
        elif note:
            item.comment(note)
        table.add(key, item)


def _inline(value: Mapping[str, Any]) -> Any:
    import tomlkit

    table = tomlkit.inline_table()
    table.update(value)
    return table


def _placed(path: str, beside: Path) -> str:
    """A path as a study in the folder `beside` says it: relative if it lies in there, else in full."""
    full = Path(os.path.abspath(Path(path).expanduser()))
    return full.relative_to(beside).as_posix() if full.is_relative_to(beside) else str(full)


def _marked(path: str) -> str:
    """A path where a name may stand too: a name has neither a dot nor a slash."""
    return path if "/" in path or "." in path else f"./{path}"


def _dataset(images: FoundImages, beside: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The keys of [dataset], and notes on what was concluded."""
    keys = dict(images.keys)
    path, notes = str(keys["path"]), {"kind": images.why}
    if not path.startswith("torchvision:"):
        file, colon, function = path.rpartition(":") if keys["kind"] == "python" else (path, "", "")
        keys["path"] = _placed(file, beside) + colon + function
    if "root" in keys:
        keys["root"] = _placed(keys["root"], beside)
    if "arguments" in keys:
        keys["arguments"] = {"root": _placed(keys["arguments"]["root"], beside)}
    which = "sound images" if images.are_sound else "images, by their names"
    if images.only_label:
        split, counts = "all", f"{sum(images.counts.values()):,}"
    else:
        split = "train" if images.counts.get("train") else max(images.counts, key=lambda name: images.counts[name])
        counts = ", ".join(f"{count:,} {name}" for name, count in images.counts.items())
    notes["probing_split"] = f"the images that label the neurons; there are {counts} {which}"
    stem = Path(path.rpartition(":")[0] if keys["kind"] == "python" and ".py:" in path else path).name
    name = path.rpartition(":")[2] if path.startswith("torchvision:") else re.split(r"[.{]", stem)[0].strip("-_ ")
    return {"name": name or "images", **keys, "probing_split": split}, notes


def _network(wanted: Wanted, found: FoundNetwork, beside: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The keys of [network], and notes on what was concluded."""
    architecture = wanted.network
    file, _, function = architecture.rpartition(":")
    name = function or architecture
    if file.endswith(".py"):
        architecture = f"{_placed(file, beside)}:{function}"
    elif file == "hf" and Path(function).is_dir():
        architecture, name = f"hf:{_placed(function, beside)}", Path(function).name
    keys: dict[str, Any] = {"name": name, "architecture": architecture}
    weights = _weights(wanted.weights)
    keys |= (
        {} if weights is None else {"weights": _placed(str(weights), beside) if isinstance(weights, Path) else weights}
    )
    order = ("arguments", "weights", "classes", "layers", "input")
    merged = {**keys, **found.keys}
    keys = {key: merged[key] for key in ("name", "architecture", *order) if key in merged}
    return keys, found.assumed


def _clip(clip: str, beside: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The keys of [clip], and notes on them."""
    keys = {
        key: _placed(value, beside) if key != "architecture" and ("/" in value or "." in value) else value
        for key, value in clip_keys(clip).items()
    }
    notes = {"architecture": "compares images and concepts", "weights": "a pretrained tag of open_clip, or a file"}
    return keys, notes


def _concept_set(source: str, beside: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The keys of [[concept_sets]], and notes on them."""
    from dissectdb.extract import concepts

    place = source if source in concepts.shipped() else _marked(_placed(source, beside))
    notes = {"source": "the words that a label is chosen from", "templates": "prompts; their embeddings are averaged"}
    return {"name": Path(source).stem, "source": place, "templates": TEMPLATES}, notes


def told_of_few(top_k: int, usual: int, scorer: str) -> str:
    """What fewer top images of a neuron mean: by most scorers, all images of the split label it."""
    from dissectdb.extract.study.scorers import SCORERS

    declaration = SCORERS[scorer]
    labelling = (
        "all images of the split label it"
        if declaration.list_images is None
        else "rank_fraction says how many label it"
    )
    labelling = "they label it" if declaration.labels_by_top_k else labelling
    return f"top_images lists {top_k} images of a neuron, not {usual}, because the set is small; {labelling}"


def fitting_top_k(images: int, usual: int) -> int | None:
    """How many top images of a neuron are listed for a small set; None: as usual. images: sound ones of the split."""
    number = max(min(LEAST, images), images // TOP_SHARE)
    return None if number >= usual else number
