"""Concept sets: the shipped ones are the published ones, and a user's file is read as it looks."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dissectdb.extract import concepts
from dissectdb.extract.study import StudyError

EXPRESSIONS = """
Furrowed Brows: angry · Raised Brows: surprise · Lowered Brows: angry · Drooping Brows: sad · Relaxed Brows: neutral ·
Wide Open Eyes: surprise · Narrowed Eyes: angry · Twinkling or Crinkled Eyes: happy · Tearful Eyes: sad ·
Closed Eyes: sad, neutral, fear · Relaxed Eyes: neutral · Tense Mouth and Jaw: angry, disgust ·
Relaxed Mouth and Jaw: happy, neutral, sad · Smile: happy · Frown: sad · Downturned Mouth: sad ·
Slightly Open Mouth: surprise · Wide Open Mouth: surprise · Slight Chin Raise: surprise, neutral ·
Slightly Dropped Jaw: surprise · Flared Nostrils: angry, disgust · Tightened Facial Muscles: angry, fear, disgust ·
Compressed Lips: angry, disgust · Elevated Upper Eyelids: surprise · Relaxed Facial Muscles: happy, neutral
"""
EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def write(folder: Path, content: str | bytes, name: str = "words.txt") -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def mistake(folder: Path, content: str | bytes, name: str = "words.txt") -> str:
    with pytest.raises(StudyError) as caught:
        concepts.read(write(folder, content, name))
    return str(caught.value).removeprefix(str(folder / name))


def test_the_facial_expressions_are_the_25_of_the_study_in_its_order() -> None:
    pairs = [pair.strip().split(": ") for pair in " ".join(EXPRESSIONS.split()).split("·")]
    assert list(concepts.read("facial_expressions").items()) == [(c, tuple(k.split(", "))) for c, k in pairs]
    assert len(pairs) == 25


def test_the_emotions_are_the_seven_classes_each_its_own() -> None:
    assert list(concepts.read("emotions").items()) == [(name, (name,)) for name in EMOTIONS]


def test_these_sets_ship() -> None:
    assert concepts.shipped() == ["emotions", "facial_expressions", "general"]


def test_a_name_that_does_not_ship_is_an_error_with_what_does() -> None:
    with pytest.raises(
        StudyError, match="no concept set 'emotion' comes with dissectdb; did you mean emotions\\? there is emotions, "
    ):
        concepts.read("emotion")


def test_blank_lines_and_comments_shift_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, "\n# words\n  Smile \n\n\tFrown\n   # more\nWide Open Eyes")
    assert concepts.read(path) == {"Smile": (), "Frown": (), "Wide Open Eyes": ()}


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_end_and_a_byte_order_mark_are_no_part_of_a_concept(tmp_path: Path, newline: str) -> None:
    path = write(tmp_path, b"\xef\xbb\xbf" + f"Smile{newline}Frown{newline}".encode())
    assert list(concepts.read(path)) == ["Smile", "Frown"]
    path = write(tmp_path, b"\xef\xbb\xbf" + f"[concepts]{newline}a = []{newline}b = []".encode(), "words.TOML")
    assert list(concepts.read(path)) == ["a", "b"]


def notes(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "dissectdb"]


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="dissectdb")
    return caplog


def test_repeats_are_dropped_and_counted_in_one_line(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, "shed\ncat\n shed \ndog\ncat\nbird\nshed\n")
    assert concepts.read(path) == {"shed": (), "cat": (), "dog": (), "bird": ()}
    assert notes(said) == [f"{path}: 3 words are repeats and were left out: 'shed' (2 times), 'cat'"]
    listed = concepts.load(path)
    assert (listed.entries, listed.kept) == (7, (0, 1, 3, 5)), "where the words that are kept stand in the file"
    assert len(notes(said)) == 1


def test_of_many_repeats_a_few_are_named(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    words = "".join(f"word{number}\n" for number in range(9))
    assert len(concepts.read(write(tmp_path, words * 2))) == 9
    assert notes(said)[0].endswith(
        "9 words are repeats and were left out: 'word0', 'word1', 'word2', 'word3', 'word4' and 4 more"
    )


def test_words_that_differ_in_case_are_different_words(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, "Cardigan\ncardigan\ncat\n")
    assert list(concepts.read(path)) == ["Cardigan", "cardigan", "cat"]
    [note] = notes(said)
    assert "differ in case only: 'Cardigan', 'cardigan'. They are kept as different concepts" in note
    text = '[concepts]\nCardigan = ["dog"]\ncardigan = ["wool"]\n'
    assert concepts.read(write(tmp_path, text, "words.toml")) == {"Cardigan": ("dog",), "cardigan": ("wool",)}


def test_two_spellings_of_one_accent_are_one_concept(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    assert list(concepts.read(write(tmp_path, "caf\u00e9\ncafe\u0301\nbar\n"))) == ["caf\u00e9", "bar"]
    assert "1 word is a repeat and was left out" in notes(said)[0]


def test_a_repeat_in_toml_is_dropped_where_it_stands_for_the_same_classes(
    tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    text = '[concepts]\n"a" = ["x", "y"]\n" a" = ["y", "x"]\n"b" = []\n'
    assert concepts.read(write(tmp_path, text, "words.toml")) == {"a": ("x", "y"), "b": ()}
    assert "1 word is a repeat and was left out: 'a'" in notes(said)[0]


def test_toml_says_which_classes_a_concept_stands_for(tmp_path: Path) -> None:
    text = '[concepts]\n" Smile" = ["happy", " happy "]\n"Frown" = []\n'
    assert concepts.read(write(tmp_path, text, "words.toml")) == {"Smile": ("happy",), "Frown": ()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[concepts]\n"a" = "happy"\n"b" = []', ": 'a' needs a list of class names, [] if it stands for none"),
        ('[concepts]\n"a" = [1]\n"b" = []', ": 'a' needs a list of class names, [] if it stands for none"),
        ('[concepts]\n"a" = [""]\n"b" = []', ": 'a' needs a list of class names, [] if it stands for none"),
        ('[concepts]\n" " = []\n"b" = []', ": a concept is empty"),
        ('[concepts]\n"a" = ["x"]\n"a " = ["y"]', ": 'a' appears twice, for 'x' and for 'y'; keep one of the two"),
        ('[concepts]\n"a" = []\n"a " = ["y"]', ": 'a' appears twice, for no class and for 'y'"),
        (
            '[concepts]\n"a" = []\n"b" = []\n"a" = []',
            ': "a" appears 2 times, but TOML allows a key once; keep one line',
        ),
        ('[concepts]\n"a\\u0000" = []\n"b" = []', ": 'a\\x00' holds a control character"),
        ('"a" = []\n[concepts]\n"b" = []\n"c" = []', ': needs one table, [concepts], with lines such as "Smile" = '),
        ("a = 1", ': needs one table, [concepts], with lines such as "Smile" = ["happy"], or [categories]'),
        ("concepts = [1]", ": needs one table, [concepts]"),
        ('[concepts]\n"a" = []\n[categories]\nb = ["c"]', ": needs one table, [concepts]"),
        ('[categories]\nb = "c"', ': the category \'b\' needs a list of concepts, such as ["woven", "knitted"]'),
        ('[categories]\nb = ["c", " "]', ": the category 'b' needs a list of concepts"),
        ('[categories]\nb = ["c", "\\u0000"]', ": '\\x00' holds a control character"),
        ('[categories]\nb = ["c"]', ": holds 1 concept(s); a label needs at least two to choose from"),
        ("[concepts", ": not a readable concept file: "),
        ("a = " + "[" * 5000, ": not a readable concept file: "),
        ('[concepts]\n"a" = []', ": holds 1 concept(s); a label needs at least two to choose from"),
    ],
)
def test_a_wrong_table_of_concepts_is_an_error_that_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    assert mistake(tmp_path, text, "words.toml").startswith(message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ": holds 0 concept(s); a label needs at least two"),
        ("Smile\n", ": holds 1 concept(s); a label needs at least two"),
        (b"Smile\nFrown\xe9\n", ": not a readable concept file: "),
        ("Smile\nFrown\n".encode("utf-16"), ": not a readable concept file: "),
        (b"Smile\nFro\x00wn\n", ":2: 'Fro\\x00wn' holds a control character"),
        ("Smile\thappy\nFrown\tsad\n", ":1: 'Smile\\thappy' holds a control character"),
    ],
)
def test_a_wrong_list_of_concepts_is_an_error_that_says_what_is_wrong(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    assert mistake(tmp_path, content).startswith(message)


def test_a_file_of_another_kind_is_not_read_as_a_list(tmp_path: Path) -> None:
    assert mistake(tmp_path, '["a", "b"]', "words.json") == (
        ": a concept file ends in .txt (one per line) or .toml (with their classes)"
    )


def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no such concept file"):
        concepts.read(str(tmp_path / "none.txt"))
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(StudyError, match="not a readable concept file"):
        concepts.read(str(tmp_path / "folder.txt"))
    with pytest.raises(StudyError, match="not a readable concept file"):
        concepts.read("a\0.txt")


anything = st.binary(max_size=40) | st.text(max_size=30).map(str.encode)
toml_like = st.text('[concepts]\n"aA" = []é\r#', max_size=60).map(str.encode)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=anything | toml_like, suffix=st.sampled_from([".txt", ".toml"]))
def test_any_file_is_a_concept_set_or_a_study_error(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = write(tmp_path, content, f"any{suffix}")
    try:
        found = concepts.read(path)
    except StudyError:
        return
    assert len({concepts.same_word(concept) for concept in found}) == len(found) >= 2
    assert all(concept == concept.strip() != "" for concept in found)


words = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8).filter(lambda w: w[0] != "#")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=st.lists(words, min_size=2, max_size=8, unique_by=concepts.same_word))
def test_a_list_comes_back_word_for_word_and_in_order(tmp_path: Path, chosen: list[str]) -> None:
    assert list(concepts.read(write(tmp_path, "\n\n".join(chosen)))) == chosen
