"""The tables of a study file about edits: [[edits]], [[sweeps]], [protocol] and [effects].

Imports no torch.
"""

from __future__ import annotations

from itertools import product
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from dissectdb.extract.study.values import (
    AtLeastOne,
    Classes,
    Name,
    Settings,
    Several,
    Threshold,
    as_path,
    refuse_twice,
)

Rule = Literal["paper", "calibrated", "weight_l1", "proportional", "ablate", "sql"]
Factor = Annotated[float, Field(ge=1e-6, le=1e6)]
READS = {  # the keys of an edit that its rule uses
    "paper": {"tau", "factor", "factor_down"},
    "calibrated": {"factor", "factor_down"},
    "weight_l1": {"factor", "factor_down"},
    "proportional": {"factor"},
    "ablate": {"concepts"},
    "sql": {"sql"},
}
RULE_KEYS = {"tau", "factor", "factor_down", "concepts", "sql"}


class Edit(Settings):
    """A rule that scales the weight rows of a layer, or of several."""

    name: Name
    rule: Rule = "paper"
    layer: str | None = None
    layers: Several[str] = ()
    tau: Threshold = 0.0
    factor: Factor = 1.5
    factor_down: Factor | None = None
    bias: bool | None = None
    concepts: Classes = ()
    sql: Name | None = None

    @field_validator("sql", mode="before")
    @classmethod
    def _text_or_file(cls, sql: object, info: ValidationInfo) -> object:
        """Replace the path of a .sql file by the query in it."""
        if not isinstance(sql, str) or not sql.strip().endswith(".sql"):
            return sql
        path = as_path(type(sql)(sql.strip()), info)
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error

    @model_validator(mode="after")
    def _rule_has_what_it_needs(self) -> Edit:
        if (self.rule == "sql") != (self.sql is not None):
            raise ValueError("rule = 'sql' and the key sql belong together: a query that yields layer, unit, scale")
        if self.layer is not None and self.layers:
            raise ValueError("layer and layers are two ways to say the same; keep one")
        if self.rule == "sql" and not self.layer_names:
            raise ValueError("rule = 'sql' needs layer, the layer whose weights are scaled")
        if unused := (RULE_KEYS - READS[self.rule]) & self.model_fields_set:
            raise ValueError(
                f"{' and '.join(sorted(unused))} would do nothing: rule = {self.rule!r} reads "
                f"{', '.join(sorted(READS[self.rule]))}"
            )
        refuse_twice(self.layers)
        return self

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The layers that the edit names. If it names none, the warehouse chooses one."""
        return self.layers or ((self.layer,) if self.layer is not None else ())

    @property
    def scale_bias(self) -> bool:
        """Whether biases are scaled too. Default: only if the rule silences neurons."""
        return self.rule == "ablate" if self.bias is None else self.bias


class Sweep(Settings):
    """Every combination of rules, layers, thresholds and factors as an edit; modify chooses the best one."""

    name: Name
    rules: AtLeastOne[Literal["paper", "calibrated", "weight_l1", "proportional"]] = ("paper",)
    layers: Several[str] = ()
    taus: AtLeastOne[Threshold] = (0.0,)
    factors: AtLeastOne[Factor] = (1.5,)
    factors_down: Several[Factor] = ()
    bias: bool = False

    def edits(self) -> list[Edit]:
        """One edit per combination, named after it. Settings that a rule does not read make no further edits of it."""
        edits = []
        combinations = product(
            self.rules, self.layers or (None,), self.taus, self.factors, self.factors_down or (None,)
        )
        for rule, layer, tau, factor, down in combinations:
            numbers = {"tau": tau, "factor": factor, "factor_down": down}
            values: dict[str, Any] = {
                key: number for key, number in numbers.items() if key in READS[rule] and number is not None
            }
            settings = [f"{key} {_short(value)}" for key, value in values.items()]
            name = ", ".join([f"{self.name}: {rule}", *([layer] if layer else []), *settings])
            edits.append(Edit(name=name, rule=rule, layer=layer, bias=self.bias, **values))
        return list({edit.name: edit for edit in edits}.values())


def _short(value: float) -> str:
    """A number with as few digits as identify it."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


class Protocol(Settings):
    """How modify judges the edit that it chooses."""

    controls: int = Field(200, ge=0, le=10_000)
    shuffles: int = Field(20, ge=0, le=10_000)
    bootstraps: int = Field(2000, ge=100, le=100_000)
    seed: int = Field(0, ge=0, lt=2**31)


class Effects(Settings):
    """What the command effects silences. images, neurons: sample sizes where each neuron takes a forward pass."""

    layers: AtLeastOne[str]
    split: Literal["train", "validation"] = "validation"  # never test, which is kept for judging edits
    images: int = Field(256, ge=1)
    neurons: int = Field(64, ge=1)
    controls: int = Field(100, ge=0, le=10_000)
    seed: int = Field(0, ge=0, lt=2**31)
