"""One neuron as a card for a notebook: its label, how sure that is, the best concepts, and the best images.

card = card_of(warehouse, "layer4", 12)
card.label["concept"], card.sentence      # and in a notebook it draws itself
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from markupsafe import Markup

from dissectdb.did_you_mean import choices
from dissectdb.reports import regions
from dissectdb.reports.page import HERE, environment
from dissectdb.reports.parts import image_name, top_picture
from dissectdb.reports.questions import Store, load
from dissectdb.reports.regions import Row
from dissectdb.reports.words import number, p_value, plain, share

QUESTIONS = load("card")


@dataclass(frozen=True)
class NeuronCard:
    """What a warehouse says of one neuron. label: its row of neuron_concepts. concepts, images: the best, best first.

    It draws itself in a notebook, and prints as a few lines of text.
    """

    label: Row
    concepts: list[Row]
    images: list[Row]

    @property
    def sentence(self) -> str:
        """How sure the label is, in words."""
        return " ".join(_sentences(self.label))

    def __repr__(self) -> str:
        scores = ", ".join(f"{plain(row['concept'])} {number(row['similarity'])}" for row in self.concepts)
        head = f"{plain(self.label['layer'])}, unit {self.label['unit']}: {plain(self.label['concept'])}"
        files = "" if self.label["dead"] else ", ".join(image_name(row) for row in self.images)
        return f"{head}\n{self.sentence}\nscores: {scores or 'none'}\nbest images: {files or 'none'}"

    def _repr_html_(self) -> str:
        pictures = [] if self.label["dead"] else [top_picture(row) for row in self.images]
        return (
            environment()
            .get_template("card.html.jinja")
            .render(
                label=self.label,
                sentence=self.sentence,
                concepts=self.concepts,
                pictures=pictures,
                looks=regions.control(f"look-{uuid4().hex}") if any(it.drawing for it in pictures) else None,
                style=Markup((HERE / "card.css").read_text(encoding="utf-8") + regions.STYLE.read_text("utf-8")),
            )
        )


def card_of(warehouse: Store, layer: str, unit: int) -> NeuronCard:
    """The card of a neuron, in the shown dissection. Raises LookupError if it has no such neuron."""
    values: dict[str, Any] = {"module": layer, "unit": unit}
    rows = {name: question.ask(warehouse.rows, values).to_dicts() for name, question in QUESTIONS.items()}
    if not rows["card_label"]:
        raise LookupError(_absent(warehouse, layer, unit))
    return NeuronCard(rows["card_label"][0], rows["card_concepts"], rows["card_images"])


def _absent(warehouse: Store, layer: str, unit: int) -> str:
    units = warehouse.rows("select layer, count(*) as units from neuron_concepts group by layer order by layer")
    sizes: dict[str, int] = dict(units.iter_rows())
    if layer not in sizes:
        return f"no layer {layer!r}; {choices(layer, list(sizes))}"
    return f"{layer} has no unit {unit}; it has {sizes[layer]:,}, from 0"


def _sentences(row: Row) -> list[str]:
    """Sentences on a label: score and tests, accuracy, checks."""
    if row["dead"]:
        return ["It is dead: it gives every image the same value, and has no label."]
    if row["tied"]:
        return [
            "Its highest values are equal on too many images, so that it has no label: only their order would decide."
        ]
    if row["sparse"]:
        return [f"It fires on {row['images_fired']:,} images, which are too few for a label."]
    if row["concept"] is None:
        return ["Every concept has the same score, so that it has no label."]
    tested = f", z {number(row['z'])}, q {p_value(row['q'])}" if row["q"] is not None else ""
    second = f", before {plain(row['runner_up'])} by {number(row['margin'])}" if row["runner_up"] is not None else ""
    accepted = "The label counts as interpretable." if row["interpretable"] else "The label is not interpretable."
    sentences = [f"Score {number(row['similarity'])}{second}{tested}. {accepted}"]
    if row["split_half_agrees"] is not None:
        sentences.append(
            f"The halves of the images {'agree' if row['split_half_agrees'] else 'disagree'} on the label."
        )
    if row["bootstrap_share"] is not None:
        sentences.append(f"{share(row['bootstrap_share'])} of resamples give it too.")
    if row["accuracy"] is not None:
        sentences.append(f"{share(row['accuracy'])} of its best images are of the label's classes.")
    return sentences


def summary_of(warehouse: Store, file: str, views: int) -> str:
    """A warehouse in a notebook: what is labelled in each layer, as HTML. views: how many there are to read."""
    layers = warehouse.rows("select * from layer_summary order by position, layer").to_dicts()
    return (
        environment()
        .get_template("summary.html.jinja")
        .render(layers=layers, file=file, views=views, style=Markup((HERE / "card.css").read_text(encoding="utf-8")))
    )
