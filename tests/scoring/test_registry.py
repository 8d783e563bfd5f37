"""The tables of scorers: what is declared has functions and views, and a new scorer needs no other place."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from bench import stored
from bench.made import embeddings
from bench.planted import activate, plan
from dissectdb import ROOT
from dissectdb.extract.record import dissections
from dissectdb.extract.scoring import class_null, labels
from dissectdb.extract.scoring.evidence import Evidence
from dissectdb.extract.scoring.nulls import permutation_null
from dissectdb.extract.scoring.problem import Array, BestConcepts, ScoringProblem, Settings
from dissectdb.extract.scoring.scorers import SCORERS, Scorer, score_layer
from dissectdb.extract.scoring.within_class import ImageClasses
from dissectdb.extract.study import Dissection
from dissectdb.extract.study import scorers as declared
from dissectdb.reports import compare_sentences
from dissectdb.warehouse import Warehouse

VIEWS = ROOT / "sql" / "views"
IMAGES, CONCEPTS, EACH, NOISE, SEED = 600, 8, 6, 60, 1
CHECKS_OF_LABELS = (  # the made warehouse has no rows of the extraction of its embeddings, which other checks ask for
    "dissections_ask_for_what_exists",
    "live_neurons_have_one_label",
    "null_quantiles_fall",
    "similarities_are_finite",
)


# ---------------------------------------------------------------- a scorer of ten lines


def above_mean(problem: ScoringProblem) -> BestConcepts:
    """The mean cosine of the images on which a neuron is above its mean, less that of all images."""
    best, cosines = problem.best(), (problem.images @ problem.concepts.vectors.T).double()
    activations = torch.from_numpy(problem.layer.block(0, problem.layer.neurons))
    weights = (activations > activations.mean(dim=0)).double()
    best.update(weights.T @ cosines / weights.sum(dim=0).clamp(min=1)[:, None] - cosines.mean(dim=0), 0)
    return best


DECLARATION = declared.ScorerDeclaration(
    # mean cosine of the images above a neuron's mean, less that of all
)
FUNCTIONS = Scorer(score=above_mean, null=partial(permutation_null, above_mean))


@pytest.fixture
def with_above_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(declared.SCORERS, "above_mean", DECLARATION)
    monkeypatch.setitem(SCORERS, "above_mean", FUNCTIONS)


def test_two_entries_are_enough_for_scores_a_null_p_and_labels(with_above_mean: None, tmp_path: Path) -> None:
    world = embeddings(IMAGES, CONCEPTS, SEED, dimensions=32, shares=[0.1] * CONCEPTS, lean=0.3)
    planted = plan(CONCEPTS, EACH, NOISE, SEED)
    stored.fill(tmp_path / "warehouse.duckdb", activate(planted, world, 4.0, SEED), world)
    with Warehouse(tmp_path / "warehouse.duckdb") as warehouse:
        stored.ask(warehouse, Dissection(concepts="made", scorer="above_mean", null_draws=2000, bootstraps=2))
        list(warehouse.build(select=labels.READS))
        for unit in labels.run(warehouse, torch.device("cpu")):
            warehouse.write(unit)
        list(warehouse.build())
        rows = warehouse.rows(
            """
            select neuron_labels.*, concepts.position as label from neuron_labels
            left join concepts on neuron_labels.concept_id = concepts.concept_id order by neuron_id
            """
        )
        scores = warehouse.rows("select * from concept_scores")
        checks = warehouse.rows("select * from label_checks")
        offenders = {check.name: len(warehouse.rows(check.sql)) for check in warehouse.checks()}
    live = rows.filter(~pl.col("dead"))
    assert len(scores) == len(live) * CONCEPTS
    assert live.select("label", "similarity", "z", "p", "q").null_count().sum_horizontal().item() == 0
    assert len(checks) == len(live)
    assert checks["z_within_class"].null_count() == len(live), "the images have no classes"
    assert checks["bootstrap_share"].null_count() == 0
    assert {name: offenders[name] for name in CHECKS_OF_LABELS} == dict.fromkeys(CHECKS_OF_LABELS, 0)

    is_single = (planted.truth[:, 0] == planted.truth[:, 1]) & (planted.truth[:, 0] >= 0)
    right = rows["label"].fill_null(-1).to_numpy() == planted.truth[:, 0]
    p, q = rows["p"].fill_null(1).to_numpy(), rows["q"].fill_null(1).to_numpy()
    assert (right & (q <= 0.05))[is_single].mean() >= 0.9
    noise = (planted.truth[:, 0] < 0) & ~planted.dead
    assert 0.0 <= (p[noise] <= 0.05).mean() <= 0.15
    assert (q[noise] <= 0.05).mean() <= 0.07


def test_a_study_may_name_it_and_its_engine_is_the_kernel(with_above_mean: None) -> None:
    settings = Dissection(concepts="made", scorer="above_mean")
    assert dissections.choose_engine(settings, declared.Size(1, 1, 1)) == "kernel"
    with pytest.raises(ValueError, match="engine = 'sql' needs a view, and above_mean has none; choose 'kernel'"):
        Dissection(concepts="made", scorer="above_mean", engine="sql")


def test_a_permutation_null_holds_what_a_twentieth_of_unrelated_neurons_reach(with_above_mean: None) -> None:
    random = np.random.default_rng(2)
    world = embeddings(400, 5, SEED, dimensions=16)
    layer = Array(random.standard_normal((400, 600), dtype=np.float32))
    images, concepts = torch.from_numpy(world.images), torch.from_numpy(world.concepts)
    evidence = Evidence(np.arange(400), images, np.arange(5), concepts, None)
    settings = Settings.defaults("above_mean")
    null = labels.draw_null(settings, evidence, [layer], 3000, 0)
    [drawn] = null.labels[0].values()
    assert len(drawn) == 3000
    scores = score_layer(settings, layer, images, concepts, keep=1)
    z = labels.z_of_scores(settings, layer, 0, scores, null)[:, 0]
    assert 0.02 <= (z >= np.quantile(drawn, 0.95)).mean() <= 0.08
    classes = ImageClasses(settings, images, concepts, np.arange(400) % 2)
    z, p = class_null.within_classes(classes, layer, scores.concepts[:, 0], 3000, 0)
    assert np.isfinite(z).all(), "sampled, because there is no formula"
    assert 0.02 <= (p <= 0.05).mean() <= 0.08


# ---------------------------------------------------------------- the tables agree


def test_every_declared_scorer_has_functions_and_no_other() -> None:
    assert list(declared.SCORERS) == list(SCORERS)


@pytest.mark.parametrize("scorer", list(declared.SCORERS))
def test_a_declaration_names_settings_of_the_study_and_of_the_kernel(scorer: str) -> None:
    declaration, settings = declared.SCORERS[scorer], Settings.defaults(scorer)
    dissection = Dissection(concepts="made", scorer=scorer)
    for name in {*declaration.settings, *declaration.defaults}:
        assert getattr(settings, name) == getattr(dissection, name)
    assert set(declaration.fixed) <= set(declaration.defaults)
    assert settings.declaration is declaration
    read = "soft_wpmi" if scorer == "wpmi" else scorer
    assert (VIEWS / "similarity" / f"{read}.sql").exists() == (declaration.view_seconds is not None)
    assert f"from {read}\n" in (VIEWS / "similarity" / "concept_scores.sql").read_text(encoding="utf-8")


def test_the_views_know_the_scorers_that_are_declared_with_a_view() -> None:
    with_view = {name for name, scorer in declared.SCORERS.items() if scorer.view_seconds}
    check = (ROOT / "sql" / "checks" / "dissections_ask_for_what_exists.sql").read_text(encoding="utf-8")
    assert {name for name in SCORERS if f"'{name}'" in check} == with_view


def test_reports_compare_the_settings_that_a_scorer_reads() -> None:
    """Reports do not import extract, so their table of settings is held equal to the declarations here."""
    assert {name: set(scorer.settings) for name, scorer in declared.SCORERS.items() if scorer.settings} == {
        name: set(settings) for name, settings in compare_sentences.READ_BY.items()
    }


def test_a_setting_that_a_scorer_fixes_cannot_change() -> None:
    with pytest.raises(ValueError, match=r"wpmi needs p_first = 1\.0 and p_last = 1\.0: .* choose soft_wpmi"):
        Dissection(concepts="made", scorer="wpmi", p_last=0.9)
    with pytest.raises(ValueError, match="wpmi needs p_first"):
        Settings("wpmi")


@pytest.mark.parametrize("name", ["cosine", 3, ["cos"], None])
def test_the_error_for_an_unknown_scorer_is_that_of_a_literal(name: object) -> None:
    of_literal = "Input should be 'soft_wpmi', 'wpmi', 'cos', 'cos_cubed', 'rank_reorder', 'pearson' or 'presence'"
    with pytest.raises(ValueError, match=of_literal) as caught:
        Dissection(concepts="made", scorer=name)
    assert caught.value.errors()[0]["type"] == "literal_error"
