"""The general list that ships: enough visible words, each once, by category; and the commonest words of English."""

from __future__ import annotations

import itertools
import re
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from dissectdb.extract import concepts
from dissectdb.extract.concepts import FOLDER, common_words
from dissectdb.extract.study import ConceptSet, StudyError

CATEGORIES: dict[str, list[str]] = tomllib.loads((FOLDER / "general.toml").read_text())["categories"]
WORDS = [word for words in CATEGORIES.values() for word in words]
UNUSUAL_PLURALS = {
    "feet": "foot", "teeth": "tooth", "leaves": "leaf", "knives": "knife", "wolves": "wolf", "men": "man",
    "women": "woman", "children": "child", "mice": "mouse", "geese": "goose", "people": "person", "wives": "wife",
    "loaves": "loaf", "shelves": "shelf", "scarves": "scarf", "halves": "half", "hooves": "hoof", "calves": "calf",
}  # fmt: skip
SPELLINGS = {
    "color": "colour", "gray": "grey", "mold": "mould", "center": "centre", "theater": "theatre", "plow": "plough",
    "checker": "chequer", "license": "licence",
}  # fmt: skip


def singular(word: str) -> str:
    if word in UNUSUAL_PLURALS:
        return UNUSUAL_PLURALS[word]
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if re.search("(s|x|z|ch|sh)es$", word):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def spelling(concept: str) -> str:
    """A key that is equal for plurals, for words with and without hyphens or spaces, and for both English spellings."""
    for american, british in SPELLINGS.items():
        concept = concept.replace(american, british)
    return "".join(singular(word) for word in re.split("[ '-]", concept))


def test_the_general_list_has_thousands_of_words_in_many_categories() -> None:
    assert len(concepts.read("general")) == len(WORDS) >= 3000
    assert len(CATEGORIES) >= 20
    assert all(len(words) >= 20 for words in CATEGORIES.values())
    assert {"textures", "materials", "colours", "patterns", "shapes", "actions", "landscapes"} <= CATEGORIES.keys()
    assert all(re.fullmatch("[a-z_]+", name) for name in CATEGORIES)
    assert f"{len(WORDS):,} things" in (FOLDER / "general.toml").read_text().split("\n")[0]


def test_a_word_is_plain_lower_case_english_of_a_few_words() -> None:
    assert [word for word in WORDS if not re.fullmatch("[a-z0-9]+(?:[ '-][a-z0-9]+)*", word)] == []
    assert [word for word in WORDS if len(word) > 32 or len(word.split()) > 5 or len(word) < 2] == []


def test_no_word_is_another_ones_plural_or_other_spelling() -> None:
    by_spelling: dict[str, list[str]] = {}
    for word in WORDS:
        by_spelling.setdefault(spelling(word), []).append(word)
    assert [words for words in by_spelling.values() if len(words) > 1] == []
    assert spelling("gray foxes") == spelling("grey fox")
    assert spelling("sea shells") == spelling("seashell")


def test_no_two_phrases_are_the_same_words_in_another_order() -> None:
    """But for colours, where "sky blue" is not "blue sky", and for letters on a page."""
    outside = [word for name, words in CATEGORIES.items() for word in words if name not in ("colours", "text")]
    times = Counter(frozenset(map(singular, word.split())) - {"a", "of", "the", "on", "in", "with"} for word in outside)
    assert [set(words) for words, n in times.items() if n > 1] == []


def test_a_study_may_take_some_of_the_categories() -> None:
    assert list(concepts.read("general:textures")) == CATEGORIES["textures"]
    assert list(concepts.read("general:colours, textures")) == CATEGORIES["colours"] + CATEGORIES["textures"]
    assert ConceptSet(name="looks", source="general:textures").source == "general:textures"
    assert concepts.load("general:fire").categories == {"fire": len(CATEGORIES["fire"])}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("general:texture", "the concept set general has no category 'texture'; did you mean textures"),
        ("general:textures,", "the concept set general has no category ''; there is mammals, "),
        ("emotions:happy", "the concept set emotions has no categories; take all of it: 'emotions'"),
        ("generals:textures", "no concept set 'generals' comes with dissectdb; did you mean general?"),
    ],
)
def test_a_category_that_is_not_there_is_an_error_with_what_is(source: str, message: str) -> None:
    with pytest.raises(StudyError) as caught:
        concepts.read(source)
    assert str(caught.value).startswith(message)


def test_a_file_of_the_user_may_have_categories(tmp_path: Path) -> None:
    path = tmp_path / "looks.toml"
    path.write_text('[categories]\nlight = ["bright", "dark"]\ncloth = [" woven ", "dark"]\n')
    assert concepts.read(str(path)) == {"bright": (), "dark": (), "woven": ()}
    assert concepts.load(str(path)).repeated == ("dark",)


# ---------------------------------------------------------------- the commonest words of English


def test_wordfreq_gives_the_commonest_words_in_order() -> None:
    words = list(concepts.read("wordfreq:2000"))
    assert len(words) == 2000
    assert words[:3] == ["the", "to", "and"]
    assert words[:50] == list(concepts.read("wordfreq:50"))
    assert all(re.fullmatch("[a-z]{2,}", word) for word in words)
    assert {"dog", "house", "red"} <= {*words}


@pytest.mark.parametrize("number", ["", "many", "1", "-5", "2.5", "1e4", "²", "9999999999"])
def test_a_wrong_number_of_words_is_one_line(number: str) -> None:
    with pytest.raises(StudyError, match=r"^'wordfreq:.*': write how many words, from 2, as in \"wordfreq:20000\"$"):
        concepts.read(f"wordfreq:{number}")


def test_more_words_than_there_are_is_an_error_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    import wordfreq

    monkeypatch.setattr(wordfreq, "iter_wordlist", lambda *_, **__: itertools.chain(["a", "the", "don't", "2", "cat"]))
    assert common_words.read("wordfreq:2") == ["the", "cat"]
    with pytest.raises(StudyError, match="wordfreq has 2 such English words; write at most wordfreq:2"):
        common_words.read("wordfreq:3")


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    with pytest.raises(
        StudyError, match="wordfreq:20000 needs the wordfreq package: pip install 'dissectdb\\[words\\]'"
    ):
        concepts.read("wordfreq:20000")
