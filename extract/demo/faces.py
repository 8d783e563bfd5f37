"""Faces whose truth is known: seven emotions, 25 concepts, any number of images, from a seed.

    faces = draw(6000, seed=0)
    faces.pixels    # uint8 (face, 48, 48)
    faces.emotions  # int64 (face,), positions in CLASSES
    faces.truth     # bool (face, 25), columns as CONCEPTS
    faces.controls  # float32 (face, control), columns as CONTROLS

Face i of a seed is the same face however many are drawn: `draw(10, 0, start=5)` is `draw(15, 0)` without its
first 5.

Each emotion moves the action units that EMFACS gives it (Ekman & Friesen, EMFACS-7: Emotional Facial Action
Coding System, 1983; the prototypes and variants of Ekman, Friesen & Hager, Facial Action Coding System:
Investigator's Guide, 2002, table 10-1): happy 6+12, sad 1+4+15 (17), surprise 1+2+5+26, fear 1+2+4+5+20+26,
anger 4+5+7+23, disgust 9+15+16 (10, 17). Which of them move, and how far, differs from face to face; many
faces mix two emotions and have habits of their own, so the classes overlap as they do in photographs. The
truth is read from the controls after all that, never from the emotion: a face shows "Smile" when its lip
corners are pulled far enough to be seen.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dissectdb.extract.demo.render import ACTION_UNITS, CONTROLS, IDENTITY, LIGHT, POSE, SIZE, face_parts, render

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
CONCEPTS = tuple(
    tomllib.loads((Path(__file__).parent.parent / "concepts" / "facial_expressions.toml").read_text("utf-8"))[
        "concepts"
    ]
)
# Of CLASSES: happy is frequent, disgust rare, as in FER2013.
SHARES = (0.14, 0.08, 0.14, 0.22, 0.15, 0.13, 0.14)

# For each emotion: action unit → (how often it moves, least and greatest intensity when it does).
PROFILES: dict[str, dict[str, tuple[float, float, float]]] = {
    "angry": {
        "au4": (0.95, 0.45, 1.0), "au5": (0.40, 0.3, 0.7), "au7": (0.80, 0.4, 1.0),
        "au23": (0.65, 0.4, 1.0), "au24": (0.50, 0.4, 1.0), "au38": (0.50, 0.4, 1.0),
        "au17": (0.30, 0.3, 0.7), "au10": (0.20, 0.3, 0.6), "au25": (0.25, 0.2, 0.8),
        "au26": (0.15, 0.2, 0.5), "au9": (0.15, 0.3, 0.6), "tension": (0.75, 0.4, 1.0),
    },
    "disgust": {
        "au9": (0.90, 0.5, 1.0), "au10": (0.70, 0.4, 1.0), "au4": (0.50, 0.3, 0.6),
        "au15": (0.50, 0.3, 0.8), "au16": (0.40, 0.3, 0.8), "au17": (0.50, 0.3, 0.8),
        "au7": (0.55, 0.3, 0.8), "au25": (0.40, 0.2, 0.6), "au24": (0.25, 0.4, 0.9),
        "au38": (0.45, 0.4, 1.0), "au43": (0.08, 0.8, 1.0), "tension": (0.50, 0.4, 0.9),
    },
    "fear": {
        "au1": (0.90, 0.45, 1.0), "au2": (0.65, 0.3, 0.8), "au4": (0.70, 0.3, 0.7),
        "au5": (0.80, 0.4, 1.0), "au7": (0.35, 0.2, 0.5), "au20": (0.80, 0.4, 1.0),
        "au25": (0.75, 0.3, 0.9), "au26": (0.50, 0.2, 0.7), "au38": (0.20, 0.4, 0.8),
        "au43": (0.06, 0.9, 1.0), "tears": (0.08, 0.5, 0.9), "tension": (0.65, 0.4, 1.0),
    },
    "happy": {
        "au6": (0.80, 0.4, 1.0), "au12": (0.97, 0.45, 1.0), "au25": (0.70, 0.3, 1.0),
        "au26": (0.25, 0.15, 0.5), "au7": (0.12, 0.2, 0.5), "au10": (0.08, 0.2, 0.5),
        "au43": (0.05, 0.9, 1.0), "chin_lift": (0.10, 0.4, 0.9),
    },
    "sad": {
        "au1": (0.85, 0.4, 1.0), "au4": (0.60, 0.2, 0.7), "au15": (0.85, 0.4, 1.0),
        "au17": (0.45, 0.3, 0.8), "au41": (0.60, 0.4, 1.0), "au43": (0.15, 0.9, 1.0),
        "au7": (0.15, 0.2, 0.6), "au24": (0.10, 0.3, 0.7), "tears": (0.40, 0.45, 1.0),
    },
    "surprise": {
        "au1": (0.90, 0.5, 1.0), "au2": (0.95, 0.5, 1.0), "au5": (0.85, 0.4, 1.0),
        "au25": (0.90, 0.4, 1.0), "au26": (0.85, 0.25, 1.0), "chin_lift": (0.45, 0.4, 1.0),
    },
    "neutral": {
        "au41": (0.15, 0.2, 0.6), "au43": (0.10, 0.9, 1.0), "au12": (0.10, 0.2, 0.4),
        "au15": (0.12, 0.2, 0.4), "au25": (0.12, 0.2, 0.4), "chin_lift": (0.35, 0.4, 1.0),
    },
}  # fmt: skip
HABITS = {  # how often any face shows a unit for no reason, and how strongly at most
    "au1": (0.07, 0.7), "au2": (0.09, 0.8), "au4": (0.08, 0.6), "au5": (0.05, 0.6),
    "au7": (0.07, 0.6), "au12": (0.08, 0.6), "au15": (0.07, 0.6), "au23": (0.05, 0.7),
    "au24": (0.05, 0.8), "au25": (0.10, 0.7), "au26": (0.06, 0.5), "au38": (0.06, 0.8),
    "au43": (0.03, 1.0), "tears": (0.02, 1.0), "tension": (0.05, 0.8), "chin_lift": (0.06, 0.8),
}  # fmt: skip

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Faces:
    """Images and all that is true of them; arrays in the same order, one entry a face."""

    pixels: NDArray[np.uint8]  # (face, 48, 48)
    emotions: NDArray[np.int64]  # (face,), positions in CLASSES
    truth: NDArray[np.bool_]  # (face, 25), columns as CONCEPTS
    controls: Floats  # (face, control), columns as CONTROLS

    def __len__(self) -> int:
        return len(self.pixels)


def draw(count: int, seed: int, start: int = 0) -> Faces:
    """`count` faces of `seed`, from face `start` on; each depends on its seed and number alone."""
    if count < 0 or start < 0 or seed < 0:
        raise ValueError(f"draw({count}, {seed}, start={start}): all three must be 0 or more")
    uniforms = np.empty((count, DRAWS), np.float32)
    grain = np.empty((count, SIZE, SIZE), np.float32)
    for row in range(count):
        generator = np.random.default_rng((seed, start + row))
        generator.random(dtype=np.float32, out=uniforms[row])
        generator.standard_normal(dtype=np.float32, out=grain[row])
    emotions, controls, sigma = _controls(uniforms)
    pictures = render(controls) + sigma[:, None, None] * grain
    pixels = (pictures.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return Faces(pixels, emotions, concept_truth(controls), controls)


# The layout of one face's uniform numbers: 8 for the mixture, 4 an action unit, 3 for every other control.
_MIXTURE, _PER_UNIT, _PER_TRAIT = 8, 4, 3
DRAWS = _MIXTURE + _PER_UNIT * len(ACTION_UNITS) + _PER_TRAIT * (len(CONTROLS) - len(ACTION_UNITS))


def _controls(uniforms: Floats) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Emotions (face,), controls (face, control), noise sigma (face,) of uniform numbers (face, draw)."""
    bounds = np.cumsum(np.array(SHARES[:-1], np.float32))
    emotions = np.searchsorted(bounds, uniforms[:, 0], side="right").astype(np.int64)
    other = (emotions + 1 + (uniforms[:, 1] * 6).astype(np.int64)) % 7
    is_mixed = uniforms[:, 2] < 0.42
    share = np.where(is_mixed, 0.20 + 0.55 * uniforms[:, 3], 0)[:, None].astype(np.float32)
    vigour = (0.62 + 0.50 * uniforms[:, 4])[:, None].astype(np.float32)
    end = _MIXTURE + _PER_UNIT * len(ACTION_UNITS)
    unit = uniforms[:, _MIXTURE:end].reshape(len(uniforms), len(ACTION_UNITS), _PER_UNIT)
    often, low, high = _profile_arrays()
    own, second = (
        (unit[:, :, 0] < often[e]) * (low[e] + (high[e] - low[e]) * unit[:, :, 1]) for e in (emotions, other)
    )
    moved = np.maximum(own * (1 - 0.6 * share), second * share) * vigour
    habit_often, habit_most = _habit_arrays()
    habit = (unit[:, :, 2] < habit_often) * habit_most * (0.4 + 0.6 * unit[:, :, 3])
    flutter = 0.10 * unit[:, :, 3] ** 2 * (habit_most < 1)  # nobody's face is at exact rest
    units = _settle(np.maximum(np.maximum(moved, habit), flutter).clip(0, 1))
    rest = uniforms[:, end:].reshape(len(uniforms), len(CONTROLS) - len(ACTION_UNITS), _PER_TRAIT)
    traits = rest.mean(axis=2) * 2 - 1  # three uniforms: a bell without tails
    traits = _style(traits * 1.35, rest[:, :, 0])
    sigma = (0.004 + 0.020 * uniforms[:, 5] ** 2).astype(np.float32)
    return emotions, np.concatenate([units, traits], axis=1).astype(np.float32), sigma


def _profile_arrays() -> tuple[Floats, Floats, Floats]:
    """PROFILES as three tables (emotion, action unit): how often, least, greatest."""
    table = np.zeros((3, len(CLASSES), len(ACTION_UNITS)), np.float32)
    short = [name.split("_", 1)[0] if name.startswith("au") else name for name in ACTION_UNITS]
    for row, emotion in enumerate(CLASSES):
        for unit, values in PROFILES[emotion].items():
            table[:, row, short.index(unit)] = values
    return table[0], table[1], table[2]


def _habit_arrays() -> tuple[Floats, Floats]:
    """HABITS as two rows (action unit,): how often, greatest."""
    short = [name.split("_", 1)[0] if name.startswith("au") else name for name in ACTION_UNITS]
    often, most = np.array([HABITS.get(unit, (0.0, 0.0)) for unit in short], np.float32).T
    return often, most


def _settle(units: Floats) -> Floats:
    """Take back what a face cannot do at once: a pressed mouth is shut, closed lids are not raised."""
    units = units.copy()
    column = {name.split("_", 1)[0]: units[:, at] for at, name in enumerate(ACTION_UNITS)}  # views into `units`
    pressed = column["au24"] > 0.3
    column["au25"][pressed] *= 0.05
    column["au26"][pressed] *= 0.3
    column["au24"][~pressed] *= 0.5
    column["au43"][:] = np.where(column["au43"] > 0.45, 1.0, 0.0)
    column["au5"][column["au43"] > 0] = 0
    column["au41"][column["au5"] > 0.3] = 0
    column["au5"][:] *= 1 - 0.5 * column["au7"]
    weaker = np.minimum(column["au12"], column["au15"])  # the two pull the same corner
    column["au12"] -= weaker * (column["au12"] <= column["au15"]) * 0.9
    column["au15"] -= weaker * (column["au12"] > column["au15"]) * 0.9
    return units


def _style(traits: Floats, chance: Floats) -> Floats:
    """Traits that are a choice rather than a bell: beard, glasses, hair; light from anywhere."""
    traits = traits.clip(-1, 1)
    names = (POSE + IDENTITY + LIGHT).index
    for name in ("skin", "hair_shade", "light_x", "light_y", "backdrop", "parting"):
        traits[:, names(name)] = chance[:, names(name)] * 2 - 1
    beard, glasses, length = names("beard"), names("glasses"), names("hair_length")
    long = chance[:, length] > 0.58
    traits[:, length] = np.where(long, 0.5 + 1.1 * (chance[:, length] - 0.58), 0)
    bearded = (chance[:, beard] > 0.83) & ~long
    traits[:, beard] = np.where(bearded, 0.35 + 3.5 * (chance[:, beard] - 0.83), 0)
    traits[:, glasses] = chance[:, glasses] > 0.90
    # Hair is as dark as the skin or darker, or it is grey.
    shade, skin = names("hair_shade"), names("skin")
    traits[:, shade] = np.where(chance[:, shade] > 0.92, 2.2, traits[:, shade] * 0.9 + 0.5 * traits[:, skin])
    return traits


def concept_truth(controls: Floats) -> NDArray[np.bool_]:
    """Which concepts (face, 25) faces with these controls show, in the order of CONCEPTS."""
    p = face_parts(controls)
    brow = (p.inner_brow + p.outer_brow) / 2
    brow_moves = np.maximum.reduce([p.au1, p.au2, p.au4, 0.8 * p.au9])
    pressed = np.maximum.reduce([p.au23, p.au24, p.tension])
    mouth_moves = np.maximum.reduce([pressed, p.au20, p.au10, p.au16, p.au15, p.au26])
    lid_moves = np.maximum.reduce([p.au5, p.au7, 0.8 * p.au6, p.au41, p.au43])
    seen = {
        "Furrowed Brows": p.au4 > 0.42,
        "Raised Brows": brow > 0.30,
        "Lowered Brows": brow < -0.25,
        "Drooping Brows": p.inner_brow - p.outer_brow > 0.42,
        "Relaxed Brows": brow_moves < 0.20,
        "Wide Open Eyes": p.aperture > 1.32,
        "Narrowed Eyes": (p.aperture > 0.12) & (p.aperture < 0.66),
        "Twinkling or Crinkled Eyes": p.au6 > 0.40,
        "Tearful Eyes": p.tears > 0.25,
        "Closed Eyes": p.aperture <= 0.12,
        "Relaxed Eyes": lid_moves < 0.22,
        "Tense Mouth and Jaw": pressed > 0.50,
        "Relaxed Mouth and Jaw": mouth_moves < 0.22,
        "Smile": p.au12 > 0.32,
        "Frown": (p.au15 > 0.30) & (p.au4 + p.au1 > 0.30),
        "Downturned Mouth": p.au15 > 0.32,
        "Slightly Open Mouth": (p.lips_gap > 0.028) & (p.lips_gap < 0.12),
        "Wide Open Mouth": p.lips_gap > 0.17,
        "Slight Chin Raise": p.tilt_back > 0.35,
        "Slightly Dropped Jaw": (p.au26 > 0.18) & (p.au26 < 0.55),
        "Flared Nostrils": p.au38 > 0.32,
        "Tightened Facial Muscles": p.tension > 0.35,
        "Compressed Lips": p.au24 > 0.35,
        "Elevated Upper Eyelids": p.au5 > 0.32,
        "Relaxed Facial Muscles": np.maximum(brow_moves, np.maximum(mouth_moves, 0.7 * lid_moves)) < 0.25,
    }
    if missing := [concept for concept in CONCEPTS if concept not in seen]:
        raise LookupError(f"no control says when a face shows {', '.join(missing)}")
    return np.stack([seen[concept][:, 0, 0] for concept in CONCEPTS], axis=1)
