"""Draw faces from numbers: pure numpy, a batch at a time.

    controls = np.zeros((1, len(CONTROLS)), np.float32)
    controls[0, CONTROLS.index("au12_lip_corner_puller")] = 1.0
    render(controls)  # (face, 48, 48), values 0 to 1: a smile

Skin, hair, eyes and mouth are painted (albedo) at 96×96 and averaged down; the relief of the face (nose,
cheeks, lips, creases) is a height field at 48×48 that one light shades. So a crease of an action unit is lit
like the nose is.

Coordinates: u to the right of the picture, v down, 1.0 is half a picture (24 pixels), (0, 0) the middle of
the face. The head turns as an ellipsoid does: a texture coordinate is the picture's, moved by its depth. All
names of action units follow the Facial Action Coding System (Ekman, Friesen & Hager, FACS, 2002).
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from dissectdb.extract.demo.relief import shade
from dissectdb.extract.demo.strokes import Array, bump, edge, halve, line, paint

SIZE = 48  # pixels, as in FER2013
FINE = 2 * SIZE  # albedo is painted at this size
CHUNK = 4  # faces at a time: the working set then stays in the processor's cache

ACTION_UNITS = (
    "au1_inner_brow_raiser",
    "au2_outer_brow_raiser",
    "au4_brow_lowerer",
    "au5_upper_lid_raiser",
    "au6_cheek_raiser",
    "au7_lid_tightener",
    "au9_nose_wrinkler",
    "au10_upper_lip_raiser",
    "au12_lip_corner_puller",
    "au15_lip_corner_depressor",
    "au16_lower_lip_depressor",
    "au17_chin_raiser",
    "au20_lip_stretcher",
    "au23_lip_tightener",
    "au24_lip_pressor",
    "au25_lips_part",
    "au26_jaw_drop",  # above 0.6 it is FACS' 27, mouth stretch
    "au38_nostril_dilator",
    "au41_lid_droop",
    "au43_eyes_closed",
    "tears",
    "tension",  # clenched jaw, drawn cheeks (FACS 31 and 21)
    "chin_lift",  # the head tips back (FACS 53)
)  # all 0 to 1
POSE = (
    "gaze_x",
    "gaze_y",
    "yaw",
    "pitch",
    "roll",
    "shift_x",
    "shift_y",
    "zoom",
)  # 0 = straight ahead, -1 to 1
IDENTITY = (  # -1 to 1, 0 the middle of the population
    "face_width", "jaw_width", "eye_spacing", "eye_size", "eye_tilt", "brow_thickness", "brow_height",
    "nose_width", "nose_length", "mouth_width", "lip_fullness", "mouth_height", "skin", "hair_shade",
    "iris_shade", "age", "hairline", "hair_length", "fringe", "parting", "beard", "glasses",
)  # fmt: skip
LIGHT = ("light_x", "light_y", "ambient", "backdrop", "backdrop_tilt")  # -1 to 1
CONTROLS = ACTION_UNITS + POSE + IDENTITY + LIGHT
FIELDS = tuple(name.split("_", 1)[0] if name.startswith("au") else name for name in CONTROLS)


def render(controls: Array) -> Array:
    """Faces (face, 48, 48), 0 black to 1 white, of `controls` (face, control); no noise is added."""
    out = np.empty((len(controls), SIZE, SIZE), np.float32)
    for start in range(0, len(controls), CHUNK):
        out[start : start + CHUNK] = _render_chunk(face_parts(controls[start : start + CHUNK]))
    return out


def face_parts(controls: Array) -> SimpleNamespace:
    """The controls by name, each (face, 1, 1), and what follows: lid heights, lip gap, brow rise."""
    columns = np.ascontiguousarray(controls.T, dtype=np.float32)[:, :, None, None]
    p = SimpleNamespace(**dict(zip(FIELDS, columns, strict=True)))
    p.upper_lid = 0.108 * (1 + 0.85 * p.au5 - 0.36 * p.au7 - 0.66 * p.au41)
    p.lower_lid = 0.062 * (1 + 0.30 * p.au5 - 0.80 * p.au7 - 1.20 * p.au6).clip(-0.2)
    p.upper_lid = p.upper_lid * (1 - p.au43) - p.au43 * 0.055  # a closed lid rests on the lower one
    p.aperture = (p.upper_lid + p.lower_lid) / 0.170  # 1 in an eye at rest
    p.inner_brow = p.au1 - 0.80 * p.au4 - 0.35 * p.au9  # rise, 0 at rest
    p.outer_brow = p.au2 - 0.55 * p.au4 - 0.15 * p.au9 - 0.35 * p.au1 * (1 - p.au2)
    p.lips_gap = (0.085 * p.au25 + 0.33 * p.au26 * (2.5 * p.au25).clip(0, 1)) * (1 - 0.9 * p.au24)
    p.tilt_back = 0.5 * p.pitch + 0.9 * p.chin_lift  # 1: about 17 degrees
    return p


def _render_chunk(p: SimpleNamespace) -> Array:
    """Pose the grid, paint it, light it."""
    steps = ((np.arange(FINE, dtype=np.float32) + 0.5) * (2 / FINE) - 1).astype(np.float32)
    turn, zoom = 0.20 * p.roll, 1 / (0.97 + 0.05 * p.zoom)
    across, down = steps[None, None, :] - 0.06 * p.shift_x, steps[None, :, None] - 0.06 * p.shift_y - 0.02
    cosine, sine = np.cos(turn) * zoom, np.sin(turn) * zoom
    x, y = across * cosine + down * sine, down * cosine - across * sine
    depth = np.sqrt((1 - (x / 0.98) ** 2 - (y / 1.2) ** 2).clip(0.03))
    u = x - 0.18 * p.yaw * depth
    v = y + 0.19 * p.tilt_back * (depth + 0.10)
    outline = _outline(p, x, y)
    canvas = _backdrop_and_head(p, x, y, u, v, outline)
    _paint_brows_and_eyes(p, canvas, u, v)
    _paint_nose_and_mouth(p, canvas, u, v)
    if p.glasses.max() > 0:
        _paint_glasses(p, canvas, u, v)
    light = shade(p, halve(x), halve(y), halve(u), halve(v), halve(outline))
    picture = halve(canvas) * light
    return (picture * (1 / 1.15)).clip(0, 1) ** np.float32(0.68)  # a camera's gamma, roughly


def _outline(p: SimpleNamespace, x: Array, y: Array) -> Array:
    """Signed distance to the head's outline, above 0 inside; the jaw's drop makes the lower half longer."""
    below = y.clip(0)
    low = 0.93 + 0.10 * p.au26 - 0.02 * p.au17 - 0.03 * p.chin_lift
    high = 1.02
    half = 0.725 + 0.055 * p.face_width
    taper = (0.16 - 0.10 * p.jaw_width) * (below / 0.9) ** 2 - 0.04 * p.tension * line(below - 0.5, 0.2)
    squared = (x / (half - taper)) ** 2 + np.where(y > 0, (y / low) ** 2, (y / high) ** 2)
    return (1 - np.sqrt(squared)) * 0.75


def _backdrop_and_head(p: SimpleNamespace, x: Array, y: Array, u: Array, v: Array, outline: Array) -> Array:
    """Everything behind and around the features: backdrop, hair, neck, ears, skin, beard."""
    canvas = (0.40 + 0.30 * p.backdrop) + 0.10 * p.backdrop_tilt * (x + 0.6 * y)
    skin, hair = skin_tone(p), 0.15 + 0.13 * p.hair_shade
    strands = 1 + 0.20 * np.sin(26 * x + 7 * p.parting + 8 * y * x) * np.sin(7 * y + 9 * x + 11 * p.parting)
    fall = 0.80 + 0.07 * p.fringe + 0.16 * p.hair_length * y.clip(0)
    long = edge(1 - np.sqrt((x / fall) ** 2 + (y.clip(-2, 0) / 1.12) ** 2), 0.06) * edge(p.hair_length * 1.5 - y, 0.1)
    paint(canvas, long * (p.hair_length > 0), hair * strands * 0.8)
    neck = edge(0.40 + 0.03 * p.jaw_width - np.abs(x), 0.05) * edge(y - 0.45)
    paint(canvas, neck, skin * (0.55 - 0.12 * p.tension * line(np.abs(x) - 0.17, 0.04)))
    paint(canvas, edge(y - 1.0 - 0.4 * np.abs(x) * 0.3, 0.05), 0.25 + 0.15 * p.fringe)
    ears = edge(1 - np.sqrt(((np.abs(x) - 0.72 - 0.045 * p.face_width) / 0.09) ** 2 + ((y + 0.02) / 0.2) ** 2), 0.2)
    paint(canvas, ears * edge(0.35 - p.hair_length, 0.2), skin * 0.72)
    paint(canvas, edge(outline), skin * (0.80 + 0.20 * edge(outline - 0.05, 0.16)))
    if p.beard.max() > 0:
        chin = np.maximum(edge(v - 0.60, 0.12), edge(0.20 - outline, 0.12) * edge(v - 0.10, 0.25))
        lip = bump(u, v, 0, 0.35, 0.24, 0.05)
        cover = np.maximum(chin, lip) * p.beard.clip(0) * edge(outline)
        paint(canvas, cover * 0.85, hair * strands + 0.06)
    hairline = (
        -0.74
        - 0.10 * p.hairline
        + 0.45 * u * u
        + 1.7 * (np.abs(u) - 0.57).clip(0)
        + 0.16 * p.fringe.clip(0) * (1 + np.sin(3 * u + 6 * p.parting))
    )
    crown = edge(1.02 - np.sqrt((x / (0.80 + 0.05 * p.fringe)) ** 2 + (y / 1.16) ** 2), 0.05)
    thick = edge(p.hairline + 0.78, 0.2)  # far below the middle: bald
    side = edge(0.06 + 0.5 * p.hair_length - y, 0.15)
    paint(canvas, crown * edge(hairline - v, 0.07) * thick * side, hair * strands)
    return canvas


def skin_tone(p: SimpleNamespace) -> Array:
    """Albedo of the skin, 0 to 1."""
    return 0.60 + 0.20 * p.skin


def _paint_brows_and_eyes(p: SimpleNamespace, canvas: Array, u: Array, v: Array) -> None:
    """Both eyes and brows, each in its own window of the picture."""
    rows = slice(8, 66)
    for side, columns in ((-1, slice(0, 60)), (1, slice(36, FINE))):
        window = canvas[:, rows, columns]
        out = side * u[:, rows, columns] - (0.335 + 0.025 * p.eye_spacing)  # grows towards the ear
        down = v[:, rows, columns] + 0.15
        _paint_eye(p, window, out, down, side)
        _paint_brow(p, window, out, down)


def _paint_eye(p: SimpleNamespace, canvas: Array, out: Array, down: Array, side: int) -> None:
    """One eye: socket, white, iris, pupil, glint, lids, lashes, tears. `down` is 0 at the eye's corners."""
    size = 1 + 0.09 * p.eye_size
    skin, half = skin_tone(p), 0.185 * size
    down = down + 0.10 * (0.25 + p.eye_tilt) * out
    arch = 1 - (out / half) ** 2
    arch = np.maximum(arch, -2.0)
    upper, lower = -p.upper_lid * size * arch, p.lower_lid * size * arch
    inside = edge(down - upper, 0.022) * edge(lower - down, 0.022) * edge(arch, 0.1)
    paint(canvas, bump(out, down, -0.02, -0.07, 0.24, 0.13) * 0.22, skin * 0.45)
    bag = (0.10 + 0.08 * p.age + 0.38 * p.au6 + 0.12 * p.au7).clip(0)
    paint(canvas, line(down - 0.045 - 1.3 * lower, 0.025) * (arch > -0.4) * bag, skin * 0.4)
    white = 0.86 - 0.22 * line(down - upper, 0.045) - 0.12 * (out / half) ** 2
    at_x, at_y = side * 0.065 * p.gaze_x, 0.035 * p.gaze_y - 0.022
    distance = np.sqrt((out - at_x) ** 2 + (down - at_y) ** 2)
    iris = 0.20 + 0.15 * p.iris_shade
    paint(white, edge(0.082 * size - distance, 0.025), iris * (0.65 + 4.0 * distance))
    paint(white, edge(0.038 * size - distance, 0.025), np.float32(0.02))
    paint(white, bump(side * out, down, side * at_x - 0.028, at_y - 0.028, 0.022, 0.022), np.float32(1.35))
    white += 0.5 * p.tears * line(down - lower + 0.02, 0.02)  # water stands on the lower lid
    paint(canvas, inside, white)
    lashes = line(down - upper, 0.020 + 0.006 * (1 - p.skin)) * edge(arch + 0.12, 0.2)
    paint(canvas, lashes * 0.88, np.float32(0.05))
    crease = line(down - upper + 0.055 - 0.03 * p.au5, 0.018) * edge(arch, 0.3)
    paint(canvas, crease * (0.40 - 0.25 * p.au5 + 0.15 * p.au41), skin * 0.35)
    paint(canvas, line(down - lower, 0.014) * edge(arch, 0.2) * 0.35, skin * 0.3)
    feet_u, feet_v = out - half - 0.02, down + 0.01  # crow's feet: three rays from the outer corner
    angle, reach = np.arctan2(feet_v, feet_u.clip(1e-3)), np.hypot(feet_u, feet_v)
    rays = np.cos(angle * 4) ** 4 * line(reach - 0.11, 0.07) * (np.abs(angle) < 1.2) * edge(feet_u + 0.01, 0.03)
    paint(canvas, rays * (0.65 * p.au6 + 0.08 * p.age.clip(0)).clip(0, 0.85), skin * 0.18)


def _paint_brow(p: SimpleNamespace, canvas: Array, out: Array, down: Array) -> None:
    """One eyebrow; -1 is its inner end, 1 its outer end."""
    along = (out + 0.055 * p.au4 + 0.01) / 0.225
    inner, outer = ((1 - along) / 2).clip(0, 1), ((1 + along) / 2).clip(0, 1)
    middle = (
        -0.255 - 0.02 * p.brow_height - 0.045 * (1 - (along - 0.25) ** 2).clip(-1)
        - 0.135 * (p.inner_brow * inner * (0.6 + 0.4 * inner) + p.outer_brow * outer)
        - 0.03 * np.maximum(p.inner_brow, 0)
    )  # fmt: skip
    thick = (0.038 + 0.011 * p.brow_thickness) * (1 - 0.45 * outer)
    cover = line(down - middle, thick) * edge(1.03 - np.abs(along), 0.25)
    hair = 0.09 + 0.07 * p.hair_shade
    paint(canvas, cover * (0.86 + 0.1 * p.brow_thickness), np.minimum(hair, skin_tone(p) * 0.45))


def _paint_nose_and_mouth(p: SimpleNamespace, canvas: Array, u: Array, v: Array) -> None:
    """The lower face's colours: nostrils, folds, mouth, tears on the cheeks."""
    rows = slice(40, FINE)
    window, u, v = canvas[:, rows], u[:, rows], v[:, rows]
    skin = skin_tone(p)
    tip, wing = 0.235 + 0.025 * p.nose_length - 0.035 * p.au9, 1 + 0.18 * p.nose_width + 0.40 * p.au38
    un = np.abs(u - 0.10 * p.yaw)  # the nose stands out, so it turns further
    hole = bump(
        un,
        v,
        0.072 * wing,
        tip,
        0.042 * (0.8 + 0.45 * p.au38),
        0.021 * (1 + 0.9 * p.au38 + 0.5 * p.tilt_back),
    )
    paint(window, (hole * 1.5).clip(0, 1) * (0.66 + 0.3 * p.au38), skin * 0.10)
    paint(window, bump(un, v, 0, tip + 0.045, 0.13 * wing, 0.035) * 0.30, skin * 0.4)
    wings = bump(un, v, 0.128 * wing, tip - 0.025, 0.020, 0.05)
    paint(window, wings * (0.35 + 0.3 * p.au38), skin * 0.3)
    if p.tears.max() > 0:
        cheeks = np.abs(u) - 0.36
        streak = edge(v + 0.05, 0.04) * edge(-0.05 + 0.55 * p.tears - v, 0.06)
        wander = cheeks - 0.02 * np.sin(9 * v)
        paint(window, line(wander - 0.035, 0.02) * streak * 0.5 * p.tears, skin * 0.35)
        paint(window, line(wander, 0.022) * streak * 0.85 * (p.tears * 2).clip(0, 1), skin * 0.3 + 0.95)
    _paint_mouth(p, window, u, v)


def _paint_mouth(p: SimpleNamespace, canvas: Array, u: Array, v: Array) -> None:
    """Lips, the dark between them, teeth and tongue."""
    skin, (half, corner, middle) = skin_tone(p), mouth_line(p)
    along = (u - 0.03 * p.yaw) / half
    square = np.minimum(along * along, 1.6)
    arch = np.maximum(1 - square, -0.5)
    centre = middle + corner * square - 0.035 * p.au17 * arch
    top = centre - (0.22 * p.lips_gap + 0.035 * p.au10 * (p.au25 > 0.1)) * arch
    bottom = centre + (0.78 * p.lips_gap + 0.030 * p.au16 * (p.au25 > 0.1)) * arch
    thin = (1 + 0.22 * p.lip_fullness) * (1 - 0.85 * p.au24 - 0.35 * p.au23 - 0.15 * p.au12).clip(0.12)
    bow = 1 - 0.22 * line(along, 0.16)
    upper_lip, lower_lip = 0.066 * thin * bow * arch, 0.085 * thin * arch
    lips = edge(v - top + upper_lip, 0.03) * edge(bottom + lower_lip - v, 0.03) * edge(arch + 0.02, 0.1)
    tone = skin * (0.54 - 0.04 * p.skin) * (1 - 0.16 * edge(centre - v, 0.03))
    tone = tone + 0.10 * bump(along, v, 0.1, bottom + 0.5 * lower_lip, 0.4, 0.022)
    paint(canvas, lips * 0.9, tone)
    hollow = edge(v - top, 0.022) * edge(bottom - v, 0.022) * edge(arch, 0.1)
    shown = edge(0.055 + 0.03 * (p.au12 + p.au10 + p.au20) + top - v, 0.03) * edge(0.80 - np.abs(along), 0.2)
    inner = 0.05 + shown * (0.82 - 0.15 * line(np.sin(along * 9), 0.3) * 0.4) * edge(p.lips_gap - 0.02, 0.04)
    inner = inner + 0.16 * bump(along, v, 0, bottom, 0.55, 0.07) * edge(p.lips_gap - 0.14, 0.1)
    lower_teeth = 0.45 * edge(v - bottom + 0.045, 0.03) * (p.au16 + 0.7 * p.au20 - 0.2).clip(0, 1)
    paint(canvas, hollow, inner + lower_teeth * edge(0.7 - np.abs(along), 0.2))
    seam = line(v - centre, 0.016 + 0.012 * p.au24) * edge(arch + 0.06, 0.12) * edge(0.03 - p.lips_gap, 0.03)
    paint(canvas, seam * 0.85, skin * 0.12)
    ends = bump(np.abs(along), v, 1.0, middle + corner, 0.10, 0.032)
    paint(canvas, ends * (0.45 + 0.25 * np.maximum(p.au12, p.au15)), skin * 0.22)


def mouth_line(p: SimpleNamespace) -> tuple[Array, Array, Array]:
    """Half its width, how far its corners hang below its middle, and the height of its middle."""
    half = 0.245 * (1 + 0.12 * p.mouth_width + 0.26 * p.au12 + 0.24 * p.au20 - 0.10 * p.au23 - 0.14 * p.au26)
    corner = 0.012 - 0.150 * p.au12 + 0.120 * p.au15 + 0.02 * p.au20
    middle = 0.50 + 0.02 * p.mouth_height + 0.03 * p.au12 - 0.03 * p.au10 - 0.02 * p.au15 - 0.02 * p.au17
    return half, corner, middle


def _paint_glasses(p: SimpleNamespace, canvas: Array, u: Array, v: Array) -> None:
    """Dark rims around both eyes, a bridge and temples."""
    across = np.abs(u)
    ring = np.sqrt(((across - 0.335) / 0.25) ** 2 + ((v + 0.12) / 0.19) ** 2) - 1
    bridge = line(v + 0.16, 0.018) * edge(0.10 - across) + line(v + 0.16, 0.02) * edge(across - 0.57) * (across < 0.8)
    paint(canvas, np.minimum(line(ring, 0.09) + bridge, 1) * 0.8 * (p.glasses > 0), np.float32(0.07))
