"""Choose an edit on the validation split, then judge it once on the test split, beside its controls.

chosen, checkpoint = run(warehouse, plan, planned, folder, watch)

1. Every edit is measured on validation, and the best one is chosen (the view edit_rankings).
2. The controls of the chosen edit are measured on validation.
3. The test split is opened for the chosen edit and its controls, and the opening is recorded.
4. The edited network is saved beside the warehouse and becomes a row of `networks`.

Finished steps are not repeated, so a run that was stopped continues where it stopped.
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
from dissectdb.extract.record import catalog, extraction, ledger
from dissectdb.extract.record.blocks import predictions_table
from dissectdb.extract.record.network_plan import NetworkPlan
from dissectdb.extract.record.targets import Target
from dissectdb.extract.study import StudyError
from dissectdb.extract.warehouse_protocol import Store, Unit
from dissectdb.progress import Say, Watch, silent, unwatched

SEARCHED, OPENED = "validation", "test"
TOLERANCE = 1e-3  # of the largest logit, between two computations of the same network


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
    validation_id, _ = search.blocks(warehouse, SEARCHED)
    test_id, _ = search.blocks(warehouse, OPENED)
    refuse_unlike_scaled_weights(search, planned)
    enter_edits(warehouse, planned)
    edits = "1 edit" if len(planned) == 1 else f"{len(planned)} edits"
    with watch(f"measuring {edits} on {SEARCHED}", unit="predictions") as progress:
        warehouse.load(search.run(warehouse, planned, SEARCHED, progress))
    chosen = choose(warehouse, planned, validation_id)
    control_edits = controls.plan_controls(warehouse, plan, chosen, plan.study.protocol)
    enter_edits(warehouse, control_edits)
    with watch(f"measuring {len(control_edits):,} controls on {SEARCHED}", unit="predictions") as progress:
        warehouse.load(search.run(warehouse, control_edits, SEARCHED, progress))
    enter_once(warehouse, "split_openings", chosen.edit_id, test_id, opened_at=catalog.now())
    with watch(f"judging the chosen edit on {OPENED}", unit="predictions") as progress:
        warehouse.load(search.run(warehouse, [chosen, *control_edits], OPENED, progress))
    build(warehouse)
    for split, split_id in ((SEARCHED, validation_id), (OPENED, test_id)):
        if unit := intervals(warehouse, split_id, plan.study.protocol):
            warehouse.write(unit)
        warehouse.load(causes(warehouse, search, chosen, split))
    return chosen, save_network(warehouse, search, chosen, folder)


def refuse_unlike_scaled_weights(search: Search, planned: Sequence[PlannedEdit]) -> None:
    """Raises StudyError if an edited layer's output is not linear in its weights.

    For each combination of layers, one edit is compared on noise with a copy of the network whose weights are scaled.
    """
    plan, edit_by_layers = search.plan, {}
    for edit in planned:
        edit_by_layers[edit.row["layer"]] = edit
    images = torch.rand(2, *plan.network.recipe.shape, generator=torch.Generator().manual_seed(1))
    images = images.to(plan.device).contiguous(memory_format=torch.channels_last)
    for layer, edit in edit_by_layers.items():
        with torch.no_grad():
            expected = plan.network.answer.run(scaled_copy(search.model, edit), images)
            cut = search.cut(search.first_layer(edit))
            logits = cut.after(cut.before(images), edit.change(plan.device))
        finite = expected.isfinite()  # another check refuses scales that are too large
        if finite.any() and (logits - expected)[finite].abs().max() > TOLERANCE * expected[finite].abs().max():
            raise StudyError(
                f"edit {edit.row['name']}: the output of {layer} is not linear in its weights, so an edit cannot "
                "scale it; name a layer that is linear (a convolution, a linear layer, a plain norm)"
            )


def describe(plan: NetworkPlan, planned: Sequence[PlannedEdit], folder: Path) -> list[dict[str, object]]:
    """One row per edit: what it would scale, and where its network would be saved if it were chosen."""
    rows = []
    for edit in planned:
        scales = np.concatenate([layer.scales for layer in edit.layers])
        rows.append(
            {
                "edit": edit.row["name"],
                "layer": ", ".join(layer.name for layer in edit.layers),
                "rule": edit.row["rule"],
                "neurons_up": int((scales > 1).sum()),
                "neurons_down": int((scales < 1).sum()),
                "neurons_kept": int((scales == 1).sum()),
                "checkpoint": str(checkpoint_path(folder, plan, edit)),
            }
        )
    return rows


def build(warehouse: Store) -> None:
    """Rebuild the view edit_outcomes if it is stale."""
    list(warehouse.build(select=["edit_outcomes"]))


def choose(warehouse: Store, planned: Sequence[PlannedEdit], split_id: int) -> PlannedEdit:
    """The best of the planned edits on a split. Records the choice and how many edits were tried."""
    build(warehouse)
    rows = warehouse.rows(
        "select edit_id, edits_tried from edit_rankings where split_id = $split order by rank", {"split": split_id}
    )
    by_id = {edit.edit_id: edit for edit in planned}
    edit_id, tried = next((edit_id, tried) for edit_id, tried in rows.iter_rows() if edit_id in by_id)
    enter_once(warehouse, "edit_choices", edit_id, split_id, edits_tried=tried, chosen_at=catalog.now())
    return by_id[edit_id]


def enter_once(warehouse: Store, table: str, edit_id: int, split_id: int, **values: object) -> None:
    """Write a row about an edit and a split unless the table has one."""
    stored = warehouse.rows(
        f"select 1 from {table} where edit_id = $edit and split_id = $split", {"edit": edit_id, "split": split_id}
    )
    if stored.is_empty():
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
    # Two edits may give the same weights. They stay two edits, each with its own results.
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
    extraction_id = extraction.enter_extraction(warehouse, plan, target, split_id, network_id=network_id)
    for block, logits in search.logits(warehouse, planned, split):
        if block.number not in done:
            rows = predictions_table(block, network_id, network.classes, logits)
            yield [("predictions", rows), ledger.ledger_entries(block, [extraction_id], 0.0)]
