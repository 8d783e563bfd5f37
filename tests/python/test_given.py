"""Given(model=…, images=…) beside a study that names them: it is refused, also after a finished run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dissectdb import Study, StudyError, pipeline
from dissectdb.given import Given
from tests.python.conftest import network
from tests.support.worlds import World

PICTURES = [np.full((16, 16), shade, np.uint8) for shade in range(0, 250, 10)]
REFUSED = [
    (Given(images=PICTURES), {}, "images are given as objects, and the study names some; write kind = 'python'"),
    (Given(model=network()), {}, "network.weights has no effect"),
    (Given(model=network()), {"weights": None}, r"network.architecture: .*net.py:make is code, and .* 'object:of_a_no"),
]


@pytest.mark.parametrize(("given", "of_network", "message"), REFUSED, ids=["images", "model", "architecture"])
def test_what_is_given_is_no_run_with_nothing_to_do(
    given: Given, of_network: dict[str, Any], message: str, world: World
) -> None:
    study = Study.load(world.study)
    assert study.network is not None
    study = study.changed(network=study.network.model_dump(exclude_unset=True) | of_network)
    assert not of_network or study.network.weights is None
    for run in (pipeline.extract, pipeline.plan_extraction, pipeline.modify, pipeline.effects):
        with pytest.raises(StudyError, match=message):
            run(study, world.warehouse, given=given)


def test_arrays_take_no_objects() -> None:
    words = {"concept_sets": [{"name": "w", "source": ["a", "b"]}], "dissections": [{"concepts": "w"}]}
    study = Study(arrays={"name": "mine", "path": "a.safetensors"}, **words)
    with pytest.raises(StudyError, match=r"given=Given\(…\) would do nothing"):
        pipeline.extract(study, "none.duckdb", given=Given(images=PICTURES))
