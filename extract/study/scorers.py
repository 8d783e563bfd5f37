"""The scorers that a study may name: what each reads, its defaults, and what it costs. Imports no torch.

SCORERS["wpmi"].defaults                         # settings whose default is not that of a Dissection
SCORERS["cos"].reads_activations                 # False: the stored top images of each neuron are enough
SCORERS["pearson"].view_seconds(settings, size)  # about how long its views take

To add a scorer, declare it here and add its functions, under the same name, to the table of extract/scoring/scorers.py.
A scorer without a view in sql/views/similarity leaves out view_seconds and is always computed by the kernel.
Formulas: docs/methods.md, section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pydantic_core import PydanticKnownError

# How many products the views compute in about one second on two cores.
TOP_PRODUCTS = 1e7  # of a top image and a concept
ALL_PRODUCTS = 1e7  # of an activation and a concept
RANK_PRODUCTS = 1e6  # of a reordered image and a concept


class ListSettings(Protocol):
    """The settings that decide how many top images of a neuron a scorer reads."""

    @property
    def top_k(self) -> int: ...

    @property
    def rank_fraction(self) -> float: ...


@dataclass(frozen=True)
class Size:
    """The size of a dissection: sound images of the probing set, neurons of all layers, concepts."""

    images: int
    neurons: int
    concepts: int


ListImages = Callable[[ListSettings, int], int]
ViewSeconds = Callable[[ListSettings, Size], float]


@dataclass(frozen=True, kw_only=True)
class ScorerDeclaration:
    """What the study file, the plan and the reports need to know of a scorer.

    settings: the hyper-parameters in its formula.
    defaults: settings whose default is not that of a Dissection. fixed: those that must keep it; why_fixed: the reason.
    list_images: how many top images of a neuron it reads, from settings and the number of images; None: it reads all.
    reads_activations: False if the 256 stored top images of each neuron are enough.
    permutes: it compares with random orders of the top images, which are stored in rank_permutations.
    view_seconds: about how long its views take on two cores; None: it has no view.
    """

    settings: tuple[str, ...] = ()
    defaults: Mapping[str, object] = field(default_factory=dict)
    fixed: tuple[str, ...] = ()
    why_fixed: str = ""
    list_images: ListImages | None = None
    reads_activations: bool = True
    permutes: bool = False
    view_seconds: ViewSeconds | None = None

    @property
    def labels_by_top_k(self) -> bool:
        """Whether it labels a neuron by its top_k images."""
        return self.list_images is _top_k

    def refuse_changes(self, scorer: str, settings: object) -> None:
        """Raise ValueError if `settings` change a setting that the scorer fixes."""
        if any(getattr(settings, name) != self.defaults[name] for name in self.fixed):
            values = " and ".join(f"{name} = {self.defaults[name]}" for name in self.fixed)
            raise ValueError(f"{scorer} needs {values}: {self.why_fixed}")


def known_scorer(name: object) -> object:
    """`name` itself. Raises the same error as a Literal of the scorers' names if there is no such scorer."""
    names = list(SCORERS)
    if name not in names:
        expected = f"{', '.join(map(repr, names[:-1]))} or {names[-1]!r}"
        raise PydanticKnownError("literal_error", {"expected": expected})
    return name


def _top_k(settings: ListSettings, images: int) -> int:
    return settings.top_k


def _share_of_images(settings: ListSettings, images: int) -> int:
    return int(settings.rank_fraction * images)


def _seconds_of_lists(settings: ListSettings, size: Size) -> float:
    """Seconds for the scores, or for the moments of their null if these take longer."""
    return max(size.neurons * size.concepts, size.images * size.concepts) * settings.top_k / TOP_PRODUCTS


def _seconds_of_activations(settings: ListSettings, size: Size) -> float:
    return size.neurons * size.concepts * size.images / ALL_PRODUCTS


def _seconds_of_orders(settings: ListSettings, size: Size) -> float:
    return size.neurons * size.concepts * settings.rank_fraction * size.images / RANK_PRODUCTS


SCORERS: dict[str, ScorerDeclaration] = {
    "soft_wpmi": ScorerDeclaration(
        # log-likelihood of the top images under a concept, less that of the layer; later ranks weigh less
        settings=("softmax_scale", "prior_weight", "p_first", "p_last", "include_dead"),
        list_images=_top_k,
        reads_activations=False,
        view_seconds=_seconds_of_lists,
    ),
    "wpmi": ScorerDeclaration(
        # soft_wpmi with every top image at full weight
        settings=("softmax_scale", "prior_weight", "p_first", "p_last", "include_dead"),
        defaults={"top_k": 28, "softmax_scale": 2.0, "prior_weight": 0.6, "p_first": 1.0, "p_last": 1.0},
        fixed=("p_first", "p_last"),
        why_fixed="it gives every image full weight; for other values choose soft_wpmi",
        list_images=_top_k,
        reads_activations=False,
        view_seconds=_seconds_of_lists,
    ),
    "cos": ScorerDeclaration(
        # cosine of activations and CLIP similarities over all images
        view_seconds=_seconds_of_activations,
    ),
    "cos_cubed": ScorerDeclaration(
        # cosine of centred, cubed activations and similarities over all images
        view_seconds=_seconds_of_activations,
    ),
    "rank_reorder": ScorerDeclaration(
        # how little the top activations change places when their images are sorted by a concept
        settings=("rank_fraction", "rank_power", "rank_scale"),
        list_images=_share_of_images,
        permutes=True,
        view_seconds=_seconds_of_orders,
    ),
    "pearson": ScorerDeclaration(
        # correlation of activations and concept probabilities over all images
        settings=("softmax_scale",),
        view_seconds=_seconds_of_activations,
    ),
    "presence": ScorerDeclaration(
        # correlation of activations and concept presences over all images; does not depend on the other concepts
        view_seconds=_seconds_of_activations,
    ),
}
