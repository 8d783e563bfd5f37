"""The plan of [judge] clip: another CLIP sees the images, reads the concepts, and judges labels that it did not give.

for plan in judge_plans([plan, *control_plans(plan)]): ...   # one, or none if the study names no other CLIP

It embeds with the other CLIP what an extraction embeds with the study's. `appoint` then names it as a judge of the
dissections, whose labels are judged once more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

from dissectdb.extract.models import clip
from dissectdb.extract.record.catalog import PlannedConcepts
from dissectdb.extract.record.ledger import split_ids
from dissectdb.extract.record.network_plan import NetworkPlan, refuse_channels
from dissectdb.extract.record.plan import PlannedDissection, Step
from dissectdb.extract.record.targets import Target
from dissectdb.extract.study import StudyError
from dissectdb.extract.warehouse_protocol import Store


@dataclass(frozen=True, kw_only=True)
class JudgePlan(NetworkPlan):
    """A study's images and concepts with another CLIP. judged: the fingerprints of the dissections that it judges."""

    judged: Sequence[str]

    def targets(self) -> list[Target]:
        """The other CLIP's embeddings of all images that its study's CLIP embeds."""
        name, fingerprint = f"{self.clip.name}, the judge,", self.clip.fingerprint
        of_study = [target for target in super().targets() if target.kind == "image_embeddings"]
        return [replace(target, name=name, source_fingerprint=fingerprint) for target in of_study]

    def dissections(self) -> list[PlannedDissection]:
        """None: it labels nothing."""
        return []

    def steps(self, warehouse: Store) -> list[Step]:
        """What is not done yet, and how many dissections it does not judge yet."""
        missing = len(self.judged) - len(self.appointed(warehouse))
        step = Step(f"judge the labels by {self.clip.name} too", 0, missing, 0.0)
        return [*super().steps(warehouse), *([step] if missing else [])]

    def _concept_step(self, warehouse: Store, planned: PlannedConcepts) -> Step | None:
        step = super()._concept_step(warehouse, planned)
        return step and replace(step, step=f"{step.step} by {self.clip.name}, the judge")

    def appointed(self, warehouse: Store) -> list[int]:
        """The ids of the dissections that it judges on all splits that the study names."""
        dataset_id = warehouse.find("datasets", self.probing_set.fingerprint)
        tables = warehouse.rows("select 1 from information_schema.tables where table_name = 'judge_clips'")
        if dataset_id is None or tables.is_empty():  # a reader opens a warehouse from before this table as it is
            return []
        ids = split_ids(warehouse, dataset_id)
        rows = warehouse.rows(
            """
            select dissection_id from judge_clips
            inner join clips on judge_clips.clip_id = clips.clip_id
            where clips.fingerprint = $clip and split_id in (select unnest($splits))
            and dissection_id in (select unnest($dissections))
            group by dissection_id having count(*) = len($splits)
            """,
            {
                "clip": self.clip.fingerprint,
                "splits": [ids[target.split] for target in self.targets()],
                "dissections": [warehouse.find("dissections", fingerprint) for fingerprint in self.judged],
            },
        )
        return rows["dissection_id"].to_list()

    def appoint(self, warehouse: Store) -> None:
        """Make its CLIP the judge of the study's dissections; their labels are then to be judged anew.

        Everything is embedded before. A process that is killed in between leaves dissections without a judge, to be
        judged without it until the next run.
        """
        found = [warehouse.find("dissections", fingerprint) for fingerprint in self.judged]
        appointed = self.appointed(warehouse)
        new = [dissection_id for dissection_id in found if dissection_id is not None and dissection_id not in appointed]
        dataset_id = warehouse.find("datasets", self.probing_set.fingerprint)
        clip_id = warehouse.find("clips", self.clip.fingerprint)
        assert dataset_id is not None, "its images are embedded"
        of_new = "dissection_id in (select unnest($new))"
        warehouse.discard(dict.fromkeys(("judge_clips", "judged_layers", "label_measures"), of_new), {"new": new})
        ids = split_ids(warehouse, dataset_id)
        rows = [
            {"dissection_id": dissection_id, "split_id": ids[target.split], "clip_id": clip_id}
            for dissection_id in new
            for target in self.targets()
        ]
        if rows:
            warehouse.write({"judge_clips": rows})


def judge_plans(plans: Sequence[NetworkPlan]) -> Iterator[JudgePlan]:
    """The plan of the other CLIP that a study names, for the dissections of these plans. Raises StudyError.

    plans: that of the study, and of its control networks.
    """
    plan, asked = plans[0], plans[0].study.judge
    if asked is None or asked.clip is None:
        return
    try:
        other = clip.load(asked.clip, plan.device)
    except StudyError as error:
        raise StudyError(f"judge.clip: {error}") from error
    refuse_channels(plan.source, other.recipe, "judge.clip", "the ones that CLIP is to see as red, green and blue")
    if other.fingerprint == plan.clip.fingerprint:
        raise StudyError("judge.clip is the CLIP of [clip], which judges the labels anyway; name another one")
    values = {field.name: getattr(plan, field.name) for field in fields(plan)}
    judged = [planned.fingerprint for each in plans for planned in each.dissections()]
    yield JudgePlan(**(values | {"clip": other}), judged=judged)
