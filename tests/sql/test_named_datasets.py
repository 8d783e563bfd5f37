"""Two contents of one dataset in a warehouse are told apart wherever a dataset is named."""

from __future__ import annotations

from pathlib import Path

from tests.support.rows import run_view
from tests.support.worlds import World


def test_a_dataset_shows_its_fingerprint_once_there_are_two_of_its_name() -> None:
    names = ["faces", "cats", "faces"]
    rows = run_view(
        "named_datasets",
        datasets=[
            {"dataset_id": place, "name": name, "fingerprint": f"{place}" * 64} for place, name in enumerate(names)
        ],
    )
    assert {row["dataset_id"]: row["dataset"] for row in rows} == {
        0: "faces (00000000)",
        1: "cats",
        2: "faces (22222222)",
    }
    assert [row["name"] for row in sorted(rows, key=lambda row: row["dataset_id"])] == names


def test_accuracies_and_dissections_of_two_contents_are_told_apart(world: World, tmp_path: Path) -> None:
    before = world.rows("select dataset, split from network_accuracies order by split_id")
    assert [row["dataset"] for row in before] == ["shapes"] * 3
    (world.folder / "images/train/bar/000.png").unlink()
    done = world.extract()
    assert done.code == 0, done.err
    prints = world.rows("select fingerprint from datasets order by dataset_id")
    old, new = (f"shapes ({row['fingerprint'][:8]})" for row in prints)
    rows = world.rows("select dataset, images from network_accuracies where split = 'train' order by split_id")
    assert [(row["dataset"], row["images"]) for row in rows] == [
        (old, 72), (new, 71),
    ]  # fmt: skip
    told = world.rows(
        "select count(*) as rows, count(distinct (network, dataset, split)) as named from network_accuracies"
    )
    assert told == [{"rows": 6, "named": 6}]
    status = world.run("status").out
    networks = status[status.index("\nNetworks") : status.index("\nDissections")]
    assert (networks.count(old), networks.count(new)) == (3, 3)
    dissections = status[status.index("\nDissections") : status.index("\nLeft out")]
    assert (dissections.count(old), dissections.count(new)) == (2, 2)
    assert new in status[status.index("\nLeft out") :]
    assert world.run("report", "-o", tmp_path / "report.html").code == 0
    assert new in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert world.run("report", "-o", tmp_path / "two.html", "--compare", "1", "3").code == 0
    assert old in (tmp_path / "two.html").read_text(encoding="utf-8")
    assert world.run("check").code == 0
