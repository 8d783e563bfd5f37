"""How the reports and the terminal write numbers, verdicts and ordinals."""

from __future__ import annotations

import re

import pytest

from dissectdb.commands import terminal
from dissectdb.reports import sentences, words


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (words.count(3589), "3,589"),
        (words.share(0.6942), "69.4 %"),
        (words.share(0.0), "0.0 %"),
        (words.share(0.0001), "< 0.1 %"),
        (words.share(0.9999), "> 99.9 %"),
        (words.share(1.0), "100.0 %"),
        (words.share(None), "–"),
        (words.p_value(0.119), "0.12"),
        (words.p_value(0.0496), "0.050"),
        (words.p_value(0.0004), "< 0.001"),
        (words.signed(-3), "−3"),
        (words.signed(0), "±0"),
        (words.points(0.00209), "+0.21"),
        (words.number(-38.6123), "−38.6"),
        (words.several(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_numbers_are_written_for_readers(written, expected):
    assert written == expected


@pytest.mark.parametrize(
    ("gained", "lost", "verdict", "expected"),
    [
        (48, 33, "no evidence", "no evidence that the edit helps"),
        (33, 48, "no evidence", "no evidence that the edit helps or harms"),
        (48, 3, "helped", "evidence that the edit helps"),
        (3, 48, "harmed", "evidence that the edit harms"),
        (0, 0, "no evidence", "no image changed sides"),
    ],
)
def test_a_sentence_states_the_verdict_of_the_view_and_no_more(gained, lost, verdict, expected):
    assert sentences.verdict({"gained": gained, "lost": lost, "verdict": verdict}) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0th"), (1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (13, "13th"),
     (21, "21st"), (41.4, "41st"), (99.6, "100th"), (100, "100th"), (111, "111th")],
)  # fmt: skip
def test_ordinals_have_their_english_endings(number, expected):
    assert terminal.ordinal(number) == expected


RESULT = {
    "split": "test", "images": 7178, "gained": 48, "lost": 33, "p_mcnemar": 0.118,
    "percentile": None, "edits_tried": 1, "p_corrected": 0.118, "verdict": "no evidence", "is_probing_set": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "test: 48 gained and 33 lost of 7,178, p = 0.12: no evidence"),
        ({"lost": 1010}, "test: 48 gained and 1,010 lost of 7,178, p = 0.12: no evidence"),
        (
            {"percentile": 0.415},
            "test: 48 gained and 33 lost of 7,178, p = 0.12, 42nd percentile of random edits: no evidence",
        ),
        (
            {"edits_tried": 1200, "p_corrected": 0.9},
            "test: 48 gained and 33 lost of 7,178, p = 0.12 (the best of 1,200 tried: p corrected 0.9): no evidence",
        ),
        (
            {"verdict": "helped", "is_probing_set": True},
            "test: 48 gained and 33 lost of 7,178, p = 0.12: helped; the labels were made on these very images",
        ),
    ],
)
def test_a_verdict_on_the_terminal_is_one_line(changes, expected):
    assert terminal.verdict(RESULT | changes) == expected


def test_the_report_says_how_many_images_an_edit_gains_and_loses():
    result = RESULT | {"edit_id": 1, "edit": "paper", "percentile": 0.415}
    assert re.sub("<.*?>", "", sentences.edit_finding([result])) == (
        "The edit paper gains 48 and loses 33 of 7,178 test images: no evidence that the edit helps."
    )
    assert re.sub("<.*?>", "", sentences.edit_change(result)) == (
        "48 gained and 33 lost of 7,178 test images, p = 0.12: no evidence that the edit helps. "
        "Better than 41.5 % of random edits."
    )


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        ([], ""),
        (["matched"], "Every draw of matched scales lin2 exactly as the edit does, so it compares nothing."),
        (
            ["random", "all", "random"],
            "Every draw of all and random scales lin2 exactly as the edit does, so it compares nothing. "
            "Choose a tau or a rule that scales some neurons more than others.",
        ),
    ],
)
def test_controls_that_are_the_edit_are_said_to_compare_nothing(kinds, said):
    assert sentences.controls_that_are_the_edit(kinds, "lin2") == said


@pytest.mark.parametrize(("split", "said"), [("train", "898 train images of photos"), ("all", "898 images of photos")])
def test_images_without_splits_are_not_called_all_images(split: str, said: str) -> None:
    summary = {"network": "net", "images": 898, "probing_split": split, "dataset": "photos"}
    sentence = re.sub("<.*?>", "", sentences.accuracy(summary, []))
    assert sentence == f"net was shown {said}, none of which has a prediction: how often it is right is unknown."
