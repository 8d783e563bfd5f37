"""Making a concept set: against a server on this machine that speaks the protocol, and often does not."""

# ruff: noqa: C408 - answers read like the arguments as dict(content=None, …)

from __future__ import annotations

import json
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectdb.extract import concepts
from dissectdb.extract.concepts import chat, making
from dissectdb.extract.study import StudyError
from tests.support.chat_server import FACES, KEY, Maker, answer
from tests.support.worlds import Done

# ---------------------------------------------------------------- a good answer


def test_a_set_is_shown_and_written_with_its_provenance(maker: Maker) -> None:
    maker.server.answers(answer(FACES))
    done = maker.generate("--about", "faces of people")
    assert (done.code, done.err.count("\n")) == (0, 2), done.err
    assert "Closed Eyes  sad, happy" in done.out
    assert done.out.endswith(f"concepts: {maker.output}\n")
    assert concepts.read(str(maker.output)) == {name: tuple(of) for name, of in FACES.items()}
    [asked] = maker.server.asked
    made_by = tomllib.loads(maker.output.read_text())["provenance"]
    assert made_by["prompt"] == asked["messages"][0]["content"]
    assert made_by["model"] == asked["model"] == "tiny-model"
    assert made_by["endpoint"] == maker.server.address[len("http://") : -len("/v1")]
    assert set(made_by) == {"model", "endpoint", "date", "dissectdb", "prompt"}
    assert abs(made_by["date"].toordinal() - time.time() / 86400 - 719163) < 2
    assert [path.name for path in maker.folder.iterdir()] == ["concepts.toml"]


def test_the_prompt_and_the_schema_hold_the_classes_and_what_was_asked(maker: Maker) -> None:
    maker.server.answers(answer(FACES))
    assert maker.generate("--number", 3, "--about", "faces").code == 0
    [asked] = maker.server.asked
    prompt = asked["messages"][0]["content"]
    for text in ('["happy", "sad"]', "Name 3 visual concepts", "The images show: faces."):
        assert text in prompt
    given = asked["response_format"]["json_schema"]["schema"]["properties"]["concepts"]["items"]
    assert given["properties"]["classes"]["items"]["enum"] == ["happy", "sad"]
    assert (maker.server.paths, maker.server.keys) == (["/v1/chat/completions"], [f"Bearer {KEY}"])
    done = maker.generate("--number", 3, "--about", "faces", "--force", "--dry-run")
    assert done.out.strip() == prompt
    assert len(maker.server.asked) == 1


def test_the_command_names_what_it_did_not_check(maker: Maker) -> None:
    maker.server.answers(answer(FACES))
    err = maker.generate("--number", 5).err
    assert "tiny-model named 3 concepts; it was asked for 5" in err
    assert "duplicates were looked for by their text only; --study names" in err


def test_json_in_a_code_block_and_capitalised_classes_are_accepted(maker: Maker) -> None:
    text = json.dumps(answer({"Smile ": ["Happy", "happy"], "Frown": []}) | {"note": "as asked"})
    maker.server.answers(f"```json\n{text}\n```\n")
    assert maker.generate().code == 0
    assert concepts.read(str(maker.output)) == {"Smile": ("happy",), "Frown": ()}


def test_an_endpoint_from_the_environment_needs_no_key(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    maker.server.answers(answer(FACES))
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("OPENAI_BASE_URL", maker.server.address)
    done = maker.run("generate", "--classes", "happy,sad", "--model", "m", "-o", maker.output)
    assert done.code == 0, done.err
    assert len(maker.server.asked) == 1


def test_a_temporary_error_is_tried_again(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "RETRIES", 2)
    maker.server.sends({}, 429, {"retry-after-ms": "1"}).sends({}, 503, {"retry-after-ms": "1"}).answers(answer(FACES))
    assert maker.generate().code == 0
    assert len(maker.server.asked) == 3


# ---------------------------------------------------------------- refusals, and answers that cannot be used


def failed(done: Done, maker: Maker, code: int = 1) -> str:
    """The one line of a command that wrote nothing."""
    assert (done.code, done.out) == (code, ""), done
    assert done.err.startswith("dissectdb: ")
    assert done.err.count("\n") == 1
    assert done.err.rstrip("\n").isprintable()
    assert not maker.output.exists()
    return done.err.removeprefix("dissectdb: ").rstrip("\n")


MALFORMED = "tiny-model did not answer in the requested form: "
ANSWERS: dict[str, tuple[dict[str, Any], str]] = {
    "a refusal": (dict(content=None, refusal="I can't\x1b[31m help"), "tiny-model refused: I can't [31m help"),
    "a filter": (dict(content="", finish_reason="content_filter"), "tiny-model refused: its content filter stopped"),
    "half of one": (dict(content='{"conc', finish_reason="length"), "tiny-model reached its limit before the answer"),
    "nothing": (dict(content=None), "tiny-model sent an empty answer"),
    "blanks": (dict(content=" \n"), "tiny-model sent an empty answer"),
    "prose": (dict(content="Sure! Here they are"), f"{MALFORMED}Invalid JSON"),
    "half a JSON": (dict(content='{"concepts": [{"concept": "Smi'), f"{MALFORMED}Invalid JSON"),
    "a deep JSON": (dict(content="[" * 100_000), f"{MALFORMED}Invalid JSON"),
    "half a letter": (dict(content='{"concepts": [{"concept": "\\ud800", "classes": []}]}'), MALFORMED),
    "a list": (dict(content=["Smile"]), MALFORMED),
    "other keys": (dict(content={"words": []}), f"{MALFORMED}concepts: Field required"),
    "a number": (dict(content={"concepts": [{"concept": 1, "classes": []}]}), f"{MALFORMED}concepts.0.concept: "),
    "no list": (
        dict(content={"concepts": [{"concept": "a", "classes": "sad"}]}),
        f"{MALFORMED}concepts.0.classes: ",
    ),
    "no concept": (dict(content=answer({})), "tiny-model answered 0 concept(s); a set needs at least two"),
    "one concept": (dict(content=answer({"a": []})), "tiny-model answered 1 concept(s)"),
    "an unknown class": (
        dict(content=answer({"Smile": ["joy\x1b[0m"], "Frown": []})),
        "tiny-model gave 'Smile' the class 'joy\\x1b[0m'; there is happy, sad",
    ),
    "a duplicate": (
        dict(content=answer({"Smile": [], "Frown": [], " Smile": []})),
        "tiny-model gave the same concept twice: 'Smile'",
    ),
    "a control character": (dict(content=answer({"Smi\x1b[2Jle": [], "a": []})), "tiny-model answered 'Smi\\x1b[2Jle'"),
    "a line": (dict(content=answer({"Smile\n[provenance]": [], "a": []})), "tiny-model answered 'Smile\\n[prov"),
    "letters from right to left": (dict(content=answer({"\u202eelimS": [], "a": []})), "tiny-model answered '\\u202e"),
    "an empty concept": (dict(content=answer({" ": [], "a": []})), "tiny-model answered '', which is not a concept"),
    "a long concept": (dict(content=answer({"a" * 101: [], "a": []})), "tiny-model answered 'aaaa"),
    "a very long one": (dict(content=answer({"a" * 10_000: [], "a": []})), f"{MALFORMED}concepts.0.concept: String "),
    "very many": (
        dict(content=answer({f"c{i}": [] for i in range(2001)})),
        f"{MALFORMED}concepts: List should have at most 2000",
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_unusable_answer_is_one_line_and_nothing_is_written(maker: Maker, name: str) -> None:
    reply, message = ANSWERS[name]
    maker.server.answers(**reply)
    said = failed(maker.generate(), maker)
    assert said.startswith(message)
    assert len(said) < 400


NO_COMPLETION = "did not answer as an OpenAI-compatible endpoint does; is its address right, with /v1 at its end?"


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (200, {"choices": []}, "sent an empty answer"),
        (200, {}, "sent an empty answer"),
        (200, {"choices": None}, NO_COMPLETION),
        (200, {"choices": [{}]}, NO_COMPLETION),
        (200, {"choices": [{"message": "hello"}]}, NO_COMPLETION),
        (200, {"error": {"message": f"no credit on {KEY}"}}, "answered with an error: no credit on [key]"),
        (200, "<html>Welcome</html>", NO_COMPLETION),
        (200, "", NO_COMPLETION),
        (401, {"error": {"message": f"Incorrect key {KEY}"}}, "does not accept the key in $OPENAI_API_KEY (401)"),
        (403, {}, "does not accept the key in $OPENAI_API_KEY (403)"),
        (404, {"error": {"message": "no such model"}}, "has no model 'tiny-model' under this address (404): no such"),
        (404, "<html>\nnot\x1b[1m found</html>", "has no model 'tiny-model' under this address (404): <html> not [1m"),
        (400, {"error": {"message": f"bad {KEY}"}}, "refused the request (400): bad [key]"),
        (400, {"error": "no json_schema"}, "refused the request (400): no json_schema"),
        (429, {"error": {"message": "slow down"}}, "accepts no more requests now, or none with this key (429): slow"),
        (500, {"error": {"message": "x" * 9999}}, "failed (500): xxx"),
        (503, "", "failed (503)"),
    ],
)
def test_an_endpoint_that_fails_is_one_line_and_nothing_is_written(
    maker: Maker, status: int, body: Any, message: str
) -> None:
    maker.server.sends(body, status)
    said = failed(maker.generate(), maker)
    host, _, rest = said.partition(" ")
    assert host in maker.server.address
    assert rest.startswith(message)
    assert len(said) < 400


def test_a_server_that_does_not_answer_is_given_up(maker: Maker) -> None:
    maker.server.may_answer.clear()
    maker.server.answers(answer(FACES))
    assert failed(maker.generate("--timeout", 0.2), maker).endswith("did not answer in time; --timeout gives it longer")


def test_a_missing_server_is_reported_as_out_of_reach(maker: Maker) -> None:
    done = maker.generate("--endpoint", "http://user:word@127.0.0.1:1/v1")
    said = failed(done, maker)
    assert said == "127.0.0.1:1 cannot be reached; is the address right, and is there a network?"


# ---------------------------------------------------------------- mistakes before anything is sent


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "openai"])
def test_a_missing_key_or_package_is_refused_with_the_way_out(
    maker: Maker, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "openai":
        monkeypatch.setitem(sys.modules, "openai", None)
        message = "asking a model needs the openai package: pip install 'dissectdb[generate]'"
    else:
        monkeypatch.setenv(name, " ")
        message = "set $OPENAI_API_KEY to a key of OpenAI, or name another endpoint with --endpoint"
    done = maker.run("generate", "--classes", "happy,sad", "--model", "m", "-o", maker.output)
    assert failed(done, maker, 2) == message


MISTAKES = {
    "--classes: '' is not a class name": dict(classes="happy,,sad"),
    "--classes: 'a\\nb' is not a class name": dict(classes="a\nb,sad"),
    "--classes: at least two are needed": dict(classes="happy"),
    "--classes: happy appears twice": dict(classes="happy, happy"),
    "--about must be a few plain words": dict(options=("--about", " ")),
    "--endpoint, or $OPENAI_BASE_URL, is not an address": dict(options=("--endpoint", "localhost:1234")),
    "--endpoint, or $OPENAI_BASE_URL, is not an address ": dict(options=("--endpoint", "http://[a")),
    "--endpoint, or $OPENAI_BASE_URL, is not an address  ": dict(options=("--endpoint", "http://a:b/v1")),
    "--model '' is not the name of a model": dict(options=("--model", "")),
    "--model '\\udcff' is not the name of a model": dict(options=("--model", "\udcff")),
    "none.toml: no such study file": dict(options=("--study", "none.toml")),
    "concepts.txt: a concept set with classes is a .toml file": dict(options=("-o", "concepts.txt")),
    "no/concepts.toml: there is no folder no; make it first": dict(options=("-o", "no/concepts.toml")),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_on_the_command_line_costs_no_request(maker: Maker, message: str) -> None:
    mistake = MISTAKES[message]
    done = maker.generate(*mistake.get("options", ()), classes=mistake.get("classes", "happy,sad"))
    assert failed(done, maker, 2).startswith(message.rstrip(" "))
    assert maker.server.asked == []


@pytest.mark.parametrize("key", ["sk a", "sk\nb", "schlüssel"])
def test_a_malformed_key_is_refused_and_not_shown(maker: Maker, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    said = failed(maker.generate(), maker, 2)
    assert said == "$OPENAI_API_KEY holds a space or a character that a key cannot hold"


def test_an_existing_file_is_kept_unless_force_is_given(maker: Maker) -> None:
    maker.server.answers(answer(FACES))
    maker.output.write_text("# the old one")
    done = maker.generate()
    assert (done.code, done.err) == (2, f"dissectdb: {maker.output} exists already; --force overwrites it\n")
    assert maker.server.asked == []
    assert maker.output.read_text() == "# the old one"
    maker.server.replies.insert(0, (500, {}, {}))
    assert maker.generate("--force").code == 1
    assert maker.output.read_text() == "# the old one"
    assert maker.generate("--force").code == 0
    assert list(concepts.read(str(maker.output))) == list(FACES)


# ---------------------------------------------------------------- label


def test_a_list_gets_its_classes_in_its_own_order_and_spelling(maker: Maker) -> None:
    maker.server.answers(answer({"frown": ["sad"], "SMILE": ["happy"], "Nose": []}))
    done = maker.label("Smile\nFrown\nNose\n")
    assert done.code == 0, done.err
    read = concepts.read(str(maker.output))
    assert list(read.items()) == [("Smile", ("happy",)), ("Frown", ("sad",)), ("Nose", ())]
    prompt = maker.server.asked[0]["messages"][0]["content"]
    assert '["Smile", "Frown", "Nose"]' in prompt
    assert '["happy", "sad"]' in prompt
    assert "these 3 concepts" in prompt


def test_concepts_that_the_model_drops_or_adds_are_named(maker: Maker) -> None:
    maker.server.answers(answer({"Smile": ["happy"], "Grin": ["happy"], "Laughter": []}))
    said = failed(maker.label("Smile\nFrown\n"), maker)
    assert said == (
        "tiny-model dropped 'Frown' and added 'Grin', 'Laughter'; it was asked for the given concepts, each once"
    )


def test_a_list_of_one_concept_costs_no_request(maker: Maker) -> None:
    said = failed(maker.label("Smile\nSmile\n"), maker, 2)
    assert said.endswith("holds 1 concept(s); a label needs at least two to choose from")
    assert maker.label("Smile\nFrown\n", "--dry-run").out.startswith("A vision network sorts images into classes.")
    assert maker.server.asked == []


# ---------------------------------------------------------------- the file


def test_words_that_look_like_toml_are_escaped(maker: Maker) -> None:
    words = {'"quoted" = [1]': ["a'b"], "back\\slash": ['"'], "# hash": [], "dotted.key": [], "[provenance]": []}
    maker.server.answers(answer(words))
    assert maker.generate("--model", 'm"\\', "--about", 'a "b" """ \\u0041', classes="a'b,\"").code == 0
    assert concepts.read(str(maker.output)) == {name: tuple(of) for name, of in words.items()}
    made_by = tomllib.loads(maker.output.read_text())["provenance"]
    assert made_by["model"] == 'm"\\'
    assert made_by["prompt"] == maker.server.asked[0]["messages"][0]["content"]


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
plain = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=12)
word = plain.map(str.strip).filter(making._is_plain)


@settings(max_examples=100, deadline=None)
@given(
    words=st.dictionaries(word, st.lists(word, max_size=2, unique=True), min_size=2, max_size=4),
    prompt=text.map(lambda t: t + '\n"""\\\n\r\x7f\t' + t),
)
def test_any_set_reads_back_as_it_was_written(words: dict[str, list[str]], prompt: str) -> None:
    if len({concepts.same_word(concept) for concept in words}) == len(words):
        made = making.Made({concept: tuple(of) for concept, of in words.items()}, {"prompt": prompt})
        making.as_toml(made)  # reads it back itself


def test_provenance_is_not_part_of_a_set_and_other_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "words.toml"
    path.write_text('[concepts]\na = []\nb = ["c"]\n[provenance]\nmodel = "m"\n')
    assert concepts.read(str(path)) == {"a": (), "b": ("c",)}
    for stray in ("[provenence]\na = 1", "[concepts.provenance]\na = 1"):
        path.write_text(f"[concepts]\na = []\nb = []\n{stray}\n")
        with pytest.raises(StudyError):
            concepts.read(str(path))
