"""Labels of neurons that other tools wrote, as CSV.

read_labels(Path("descriptions.csv"))              # [Label(layer="layer4", unit=0, text="striped", line=2), …]
read_labels(Path("resnet18-layer4.csv"), "layer4") # a file without a column of layers, or one layer of a file

The header tells which tool wrote a file. Its columns were read in the repositories of the tools: CLIP-Dissect and MILAN
(layer, unit, description), Linear Explanations (unit, weight0, concept0, …), CoSy's collection (INVERT: neuron,
concept; FALCON: group, concept_set_noun_phrases) and Network Dissection (unit, category, label, score). Imports no
torch.
"""

from __future__ import annotations

import ast
import csv
import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dissectdb.extract.study.text_files import MEGABYTE, one_line, read_text

MAX_BYTES = 256 * MEGABYTE
MAX_WEIGHTS = 100  # concepts of one linear explanation
PLAIN = "layer, unit, label"


class LabelFileError(ValueError):
    """A file of labels cannot be read, or names what the warehouse does not have."""

    exit_code = 2


class Label(NamedTuple):
    """A neuron's label in a file. layer: None if the file does not name it. line: where it stands, from 1."""

    layer: str | None
    unit: int
    text: str
    line: int


@dataclass(frozen=True)
class Format:
    """The columns of a kind of file. text: the label of a row, "" if the tool gave none. first_unit: 0, or 1."""

    tool: str
    needs: frozenset[str]
    unit: str
    text: Callable[[Mapping[str, str]], str]
    first_unit: int = 0


def _heaviest(row: Mapping[str, str]) -> str:
    """The concept with the largest weight of a linear explanation, which lists weight0, concept0, weight1, …

    A concept with a negative weight lowers the activation: it does not say where the neuron is active.
    """
    best, most = "", 0.0
    for index in range(MAX_WEIGHTS):
        weight, concept = row.get(f"weight{index}"), row.get(f"concept{index}")
        if weight is None or concept is None:
            break
        if weight.strip() and float(weight) > most:
            best, most = concept, float(weight)
    return best


def _first_phrase(row: Mapping[str, str]) -> str:
    """The first of FALCON's noun phrases, a list of pairs: [('striped fur', 0.2), …]."""
    phrases = ast.literal_eval(row["concept_set_noun_phrases"])
    return str(phrases[0][0]) if phrases else ""


FORMATS = (
    # Before the plain one, which has the columns unit and label too. Network Dissection counts units from 1.
    Format(
        "Network Dissection", frozenset({"unit", "category", "label", "score"}), "unit", lambda row: row["label"], 1
    ),
    Format("dissectdb", frozenset({"unit", "label"}), "unit", lambda row: row["label"]),
    Format("CLIP-Dissect or MILAN", frozenset({"unit", "description"}), "unit", lambda row: row["description"]),
    Format("Linear Explanations", frozenset({"unit", "weight0", "concept0"}), "unit", _heaviest),
    Format("INVERT", frozenset({"neuron", "concept"}), "neuron", lambda row: row["concept"]),
    Format("FALCON", frozenset({"group", "concept_set_noun_phrases"}), "group", _first_phrase),
)
MAY_HAVE_NO_LABEL = {"Linear Explanations", "FALCON"}  # an explanation of no concept is a result, not a slip


def read_labels(path: Path, layer: str | None = None) -> list[Label]:
    """The labels of a file, in its order. Raises LabelFileError with file, line and what to do.

    layer: of a file with a column of layers only the labels of this layer are read; of another file all labels are of
    this layer.
    """
    rows = _read_rows(path)
    if not rows:
        raise LabelFileError(f"{path}: is empty; it needs the columns {PLAIN}")
    header = [" ".join(name.split()).lower() for name in rows[0][1]]
    if repeated := sorted({name for name in header if name and header.count(name) > 1}):
        raise LabelFileError(f"{path}, line 1: the column {repeated[0]} is there twice; delete one")
    found = _format_of(path, header)
    if layer is None and "layer" not in header:
        raise LabelFileError(
            f"{path}, line 1: there is no column layer; add one, or name the layer: --labels {path.stem}@LAYER={path}"
        )
    labels: list[Label] = []
    for line, cells in rows[1:]:
        if len(cells) != len(header):
            raise LabelFileError(f"{path}, line {line}: {len(cells)} cells, but the header has {len(header)} columns")
        label = _label(path, line, dict(zip(header, cells, strict=True)), found, layer)
        if label is not None:
            labels.append(label)
    if not labels:
        of_layer = f" of the layer {layer}" if layer else ""
        raise LabelFileError(f"{path}: there is no label{of_layer}; check the file, or leave it out")
    return labels


def _read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """The lines of a CSV file that are not empty, with their numbers. Raises LabelFileError."""
    try:
        text = read_text(path, MAX_BYTES)
        first = text.split("\n", 1)[0]
        reader = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=first.count), strict=True)
        return [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise LabelFileError(f"{path}, line {line}: is not UTF-8 text; save the file as CSV in UTF-8") from error
    except csv.Error as error:
        raise LabelFileError(f"{path}, line {reader.line_num}: is not CSV: {error}") from error
    except OSError as error:
        raise LabelFileError(f"{path}: {'is a folder' if os.path.isdir(path) else error.strerror or error}") from error
    except ValueError as error:
        raise LabelFileError(f"{path}: {error}") from error


def _format_of(path: Path, header: Sequence[str]) -> Format:
    """The first format whose columns the header has. Raises LabelFileError."""
    for found in FORMATS:
        if found.needs <= set(header):
            return found
    names = one_line(", ".join(name or "(no name)" for name in header))
    tools = ", ".join(found.tool for found in FORMATS if found.tool != "dissectdb")
    raise LabelFileError(
        f"{path}, line 1: the columns are {names}; needed are {PLAIN}, or the columns of a file of {tools}"
    )


def _label(path: Path, line: int, row: Mapping[str, str], found: Format, layer: str | None) -> Label | None:
    """The label of one row; None if it is of another layer, or if the tool found no concept."""
    own_layer = row["layer"].strip() if "layer" in row else layer
    if not own_layer:
        raise LabelFileError(f"{path}, line {line}: the layer is blank; name it")
    if layer is not None and own_layer != layer:
        return None
    number = re.fullmatch(r"\s*(\d{1,9})(\.0+)?\s*", row[found.unit])  # pandas writes 3.0 if a row has no number
    if number is None or int(number[1]) < found.first_unit:
        raise LabelFileError(
            f"{path}, line {line}: the {found.unit} is {one_line(row[found.unit], 40)!r}, not a whole number "
            f"from {found.first_unit} on"
        )
    try:
        text = " ".join(found.text(row).split())
    except (ValueError, SyntaxError, TypeError, IndexError, KeyError, MemoryError, RecursionError) as error:
        raise LabelFileError(f"{path}, line {line}: the label is not as {found.tool} writes it") from error
    unit = int(number[1]) - found.first_unit
    if not text and found.tool not in MAY_HAVE_NO_LABEL:
        raise LabelFileError(
            f"{path}, line {line}: {own_layer} unit {unit} has no label; write one, or delete the line"
        )
    return Label(own_layer, unit, text, line) if text else None
