"""How an edit is chosen and judged: searched on validation, opened on test once, beside its controls.

chosen, checkpoint = run(warehouse, plan, planned, folder, watch)

1. Every edit is measured on validation, and the best of them chosen (the view edit_rankings).
2. Its controls are measured on validation.
3. The test split is opened for it and them; the opening is recorded.
4. Its network is saved beside the warehouse and entered as one more row of `networks`.

What is done already is not repeated, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dissectdb.extract.editing import controls
from dissectdb.extract.editing.attribution import causes
from dissectdb.extract.editing.edits import PlannedEdit, enter_edits, scaled_copy
from dissectdb.extract.editing.intervals import intervals
from dissectdb.extract.editing.search import Search
from dissectdb.extract.models import checkpoints, networks
from dissectdb.extract.record import catalog, ledger, passes
from dissectdb.extract.record.blocks import predictions_table
from dissectdb.extract.record.network_plan import NetworkPlan
from dissectdb.extract.record.targets import Target
from dissectdb.extract.store import Store, Unit
from dissectdb.extract.study import StudyError
from dissectdb.progress import Say, Watch, silent, unwatched

SEARCHED, OPENED = "validation", "test"
TOLERANCE = 1e-3  # of the largest logit, for two ways to the same


def run(
    warehouse: Store,
    plan: NetworkPlan,
    planned: Sequence[PlannedEdit],
    folder: Path,
    watch: Watch = unwatched,
    say: Say = silent,
) -> tuple[PlannedEdit, Path]:
    """Choose one of the planned edits and judge it; returns it and the checkpoint of its network. Raises StudyError."""
    search = Search(plan, say)
    searched, _ = search.blocks(warehouse, SEARCHED)
    opened, _ = search.blocks(warehouse, OPENED)
    refuse_unlike_scaled_weights(search, planned)
    enter_edits(warehouse, planned)
    with watch(f"measuring {len(planned)} edits on {SEARCHED}", unit="predictions") as progress:
        warehouse.load(search.run(warehouse, planned, SEARCHED, progress))
    chosen = choose(warehouse, planned, searched)
    others = controls.plan_controls(warehouse, plan, chosen, plan.study.protocol)
    enter_edits(warehouse, others)
    with watch(f"measuring {len(others)} controls on {SEARCHED}", unit="predictions") as progress:
        warehouse.load(search.run(warehouse, others, SEARCHED, progress))
    enter_once(warehouse, "split_openings", chosen.edit_id, opened, opened_at=catalog.now())
    with watch(f"measuring the chosen edit and its controls on {OPENED}", unit="predictions") as progress:
        warehouse.load(search.run(warehouse, [chosen, *others], OPENED, progress))
    build(warehouse)
    for split, split_id in ((SEARCHED, searched), (OPENED, opened)):
        if unit := intervals(warehouse, split_id, plan.study.protocol):
            warehouse.write(unit)
        warehouse.load(causes(warehouse, search, chosen, split))
    return chosen, save_network(warehouse, search, chosen, folder)


def refuse_unlike_scaled_weights(search: Search, planned: Sequence[PlannedEdit]) -> None:
    """Raises StudyError for a layer whose output does not change with its weights as a linear layer's does.

    One edit of each choice of layers is compared with a copy of the network whose weights are scaled, on noise.
    """
    plan, tried = search.plan, {}
    for each in planned:
        tried[each.row["layer"]] = each
    images = torch.rand(2, *plan.network.recipe.shape, generator=torch.Generator().manual_seed(1))
    images = images.to(plan.device).contiguous(memory_format=torch.channels_last)
    for layer, each in tried.items():
        with torch.no_grad():
            expected = plan.network.answer.run(scaled_copy(search.model, each), images)
            cut = search.cut(search.first_layer(each))
            found = cut.after(cut.before(images), each.change(plan.device))
        finite = expected.isfinite()  # scales that are too large have an error of their own
        if finite.any() and (found - expected)[finite].abs().max() > TOLERANCE * expected[finite].abs().max():
            raise StudyError(
                f"edit {each.row['name']}: the output of {layer} is not linear in its weights, which an edit needs; "
                "name a layer that is (a convolution, a linear layer, a plain norm)"
            )


def describe(plan: NetworkPlan, planned: Sequence[PlannedEdit], folder: Path) -> list[dict[str, object]]:
    """What each edit would do, a row each, and where its network would be saved if it were chosen."""
    rows = []
    for each in planned:
        scales = np.concatenate([layer.scales for layer in each.layers])
        rows.append(
            {
                "edit": each.row["name"],
                "layer": ", ".join(layer.name for layer in each.layers),
                "rule": each.row["rule"],
                "neurons_up": int((scales > 1).sum()),
                "neurons_down": int((scales < 1).sum()),
                "neurons_kept": int((scales == 1).sum()),
                "checkpoint": str(checkpoint_path(folder, plan, each)),
            }
        )
    return rows


def build(warehouse: Store) -> None:
    """Bring the counts of the edits' outcomes up to date."""
    list(warehouse.build(select=["edit_outcomes"]))


def choose(warehouse: Store, planned: Sequence[PlannedEdit], split_id: int) -> PlannedEdit:
    """The best of the planned edits on a split, entered as the choice among all that were tried there."""
    build(warehouse)
    rows = warehouse.rows(
        "select edit_id, edits_tried from edit_rankings where split_id = $split order by rank", {"split": split_id}
    )
    by_id = {each.edit_id: each for each in planned}
    edit_id, tried = next((edit_id, tried) for edit_id, tried in rows.iter_rows() if edit_id in by_id)
    enter_once(warehouse, "edit_choices", edit_id, split_id, edits_tried=tried, chosen_at=catalog.now())
    return by_id[edit_id]


def enter_once(warehouse: Store, table: str, edit_id: int, split_id: int, **values: object) -> None:
    """A row about an edit and a split, if there is none."""
    known = warehouse.rows(
        f"select 1 from {table} where edit_id = $edit and split_id = $split", {"edit": edit_id, "split": split_id}
    )
    if known.is_empty():
        warehouse.write({table: [{"edit_id": edit_id, "split_id": split_id, **values}]})


# ---------------------------------------------------------------- the edited network


def checkpoint_path(folder: Path, plan: NetworkPlan, planned: PlannedEdit) -> Path:
    """Where an edited network is saved: named after network, edit and content, in the format of the original."""
    original = plan.study.network.weights
    suffix = original.suffix if isinstance(original, Path) else ".safetensors"
    name = re.sub(r"[^\w.-]+", "_", f"{plan.network.name}-{planned.row['name']}")[:100]
    return folder / f"{name}-{planned.row['fingerprint'][:8]}{suffix}"


def save_network(warehouse: Store, search: Search, planned: PlannedEdit, folder: Path) -> Path:
    """Save the edited network and enter it with its predictions; returns the checkpoint."""
    plan, checkpoint = search.plan, checkpoint_path(folder, search.plan, planned)
    original = plan.study.network.weights
    model = scaled_copy(plan.network.model, planned)
    if not checkpoint.exists():
        example = original if isinstance(original, Path) else None
        checkpoints.save_like(model, checkpoint, example, plan.study.network.weights_key)
    settings = plan.study.network.model_copy(update={"classes": plan.network.classes})
    name = f"{plan.network.name}+{planned.row['name']}"
    edited = networks.describe(model, settings, plan.network.recipe, str(checkpoint), name, code=plan.network.code)
    edited = networks.with_answer(edited, plan.network.answer)
    # Two edits may come to the same weights and are still two edits with a result each.
    edited = replace(edited, fingerprint=catalog.edited_fingerprint(edited.fingerprint, planned.row["fingerprint"]))
    network_id = warehouse.find("networks", edited.fingerprint)
    if network_id is None:
        row = catalog.network_row(
            warehouse, edited, parent_network_id=planned.row["network_id"], edit_id=planned.edit_id
        )
        warehouse.write({"networks": [row]})
        network_id = row["network_id"]
    for split in (SEARCHED, OPENED):
        warehouse.load(predictions(warehouse, search, planned, split, edited, network_id))
    return checkpoint


def predictions(
    warehouse: Store, search: Search, planned: PlannedEdit, split: str, network: networks.Network, network_id: int
) -> Iterator[Unit]:
    """Yield the missing blocks of the edited network's predictions, each with its ledger entry."""
    plan = search.plan
    target = Target("predictions", network.name, split, network.fingerprint, len(network.classes))
    split_id, blocks = search.blocks(warehouse, split)
    done = ledger.blocks_done(warehouse, target.fingerprint(plan.probing_set.fingerprint))
    if len(done) == len(blocks):
        return
    extraction_id = passes.enter_extraction(warehouse, plan, target, split_id, network_id=network_id)
    for block, logits in search.logits(warehouse, planned, split):
        if block.number not in done:
            rows = predictions_table(block, network_id, network.classes, logits)
            yield [("predictions", rows), ledger.ledger_entries(block, [extraction_id], 0.0)]
