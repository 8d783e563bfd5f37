"""The relief of a face and one light on it: nose, cheeks, lips and the creases of the action units.

Heights and coordinates are in half pictures; `p` is what `dissectdb.extract.demo.render.face_parts` yields.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from dissectdb.extract.demo.strokes import Array, bump, edge, line


def shade(p: SimpleNamespace, x: Array, y: Array, u: Array, v: Array, outline: Array) -> Array:
    """How much light each pixel of the face sends back, about 0.3 to 1.3; 1 outside the head."""
    height = 0.62 * np.sqrt((outline + 0.02).clip(1e-4)) + _relief(p, u, v)
    slope_x, slope_y = np.zeros_like(height), np.zeros_like(height)
    slope_x[:, :, 1:-1] = (height[:, :, 2:] - height[:, :, :-2]) * (height.shape[-1] / 4)
    slope_y[:, 1:-1] = (height[:, 2:] - height[:, :-2]) * (height.shape[-1] / 4)
    light_x, light_y = 0.55 * p.light_x, -0.38 + 0.30 * p.light_y
    length = np.sqrt(light_x**2 + light_y**2 + 0.64)
    facing = (0.80 - slope_x * light_x - slope_y * light_y) / (length * np.sqrt(1 + slope_x**2 + slope_y**2))
    ambient = 0.34 + 0.14 * p.ambient
    lit = ambient + (1.15 - ambient) * facing.clip(0) + 0.22 * facing.clip(0) ** 16
    inside = edge(outline, 0.06)
    return 1 + inside * (lit - 1)


def _relief(p: SimpleNamespace, u: Array, v: Array) -> Array:
    """Height of the features over the bare ellipsoid, in half pictures; creases go below it."""
    across, nose = np.abs(u), u - 0.06 * p.yaw
    tip = 0.18 + 0.025 * p.nose_length - 0.035 * p.au9
    wide = 1 + 0.18 * p.nose_width
    bridge = line(nose, 0.095 * wide) * edge(v + 0.30, 0.3) * edge(tip + 0.03 - v, 0.12)
    out = 0.072 * bridge + 0.070 * bump(nose, v, 0, tip, 0.11 * wide, 0.085)
    flare = wide + 0.35 * p.au38
    out += (0.04 + 0.02 * p.au38) * bump(np.abs(nose), v, 0.105 * flare, tip + 0.025, 0.05, 0.05)
    out -= 0.055 * bump(across, v, 0.25, -0.15, 0.16, 0.10)  # sockets
    out += 0.030 * bump(across, v, 0.335, -0.13, 0.13, 0.07)  # eyeballs
    out += (0.035 + 0.02 * p.au4) * bump(across, v, 0.26, -0.36 + 0.07 * p.au4, 0.24, 0.07)  # brow ridge
    lift = 0.5 * (p.au6 + p.au12)
    out += (0.032 + 0.085 * lift) * bump(across, v, 0.40, 0.17 - 0.06 * lift, 0.17, 0.14)  # cheeks
    out += _folds(p, u, v, across)
    out += 0.035 * bump(u, v, 0, 0.80 + 0.06 * p.au26, 0.16, 0.10) * (1 + 0.7 * p.au17)  # chin
    out -= 0.030 * bump(u, v, 0, 0.655 + 0.24 * p.lips_gap, 0.20, 0.05) * (1 + 0.7 * p.au17)
    out += (0.028 - 0.02 * p.au24) * bump(u, v, 0, 0.46, 0.22, 0.035)  # upper lip
    out += (0.035 - 0.03 * p.au24) * bump(u, v, 0, 0.56 + 0.78 * p.lips_gap, 0.20, 0.04)
    out -= 0.012 * bump(u, v, 0, 0.37, 0.03, 0.06)  # philtrum
    out += p.tension * (
        0.060 * bump(across, v, 0.55, 0.46, 0.07, 0.16) - 0.050 * bump(across, v, 0.43, 0.36, 0.06, 0.15)
    )
    return out


def _folds(p: SimpleNamespace, u: Array, v: Array, across: Array) -> Array:
    """Creases: beside the mouth, between the brows, on the forehead, on the nose, on the chin."""
    run = ((v - 0.18) / 0.32).clip(0, 1)
    fold = across - 0.145 - (0.15 + 0.05 * p.au12) * run
    depth = 0.010 + 0.010 * p.age + 0.030 * p.au12 + 0.027 * p.au10 + 0.020 * p.au9 + 0.010 * p.au20 + 0.012 * p.tension
    out = -depth * line(fold, 0.042) * edge(v - 0.16, 0.10) * edge(0.56 - v, 0.14)
    between = line(v + 0.34, 0.11)
    out -= 0.040 * p.au4 * line(across - 0.055, 0.024) * between
    out += 0.030 * p.au4 * line(u, 0.03) * between
    waves = np.sin(v * 48) * line(v + 0.56, 0.10)
    reach = np.maximum(p.au2 * edge(0.52 - across, 0.2), p.au1 * edge(0.26 - across, 0.2))
    out += (0.016 * reach + 0.003 * (1 + p.age)) * waves
    out += 0.022 * p.au9 * np.sin((v + 0.5 * across) * 52) * bump(u, v, 0, -0.10, 0.15, 0.10)
    out += 0.012 * p.au17 * np.sin(u * 47) * np.sin(v * 45) * bump(u, v, 0, 0.78, 0.16, 0.10)
    temples = bump(across, v, 0.56, -0.40, 0.06, 0.12)
    return out - 0.035 * p.tension * temples
