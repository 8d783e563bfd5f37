"""Making a concept set: against a server on this machine that speaks the protocol, and often does not."""

# ruff: noqa: C408 - rows read like the tables as dict(concept_id=1, …)

from __future__ import annotations

import json
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectdb.extract import concepts
from dissectdb.extract.concepts import chat, making, overlaps
from dissectdb.extract.study import Study, StudyError
from tests.models.test_clip import write as write_clip
from tests.support.rows import embedding_rows, run_view, unit_length
from tests.support.worlds import STUDY, Done, command

KEY = "sk-very-secret-0123456789"
FACES = {"Smile": ["happy"], "Frown": ["sad"], "Closed Eyes": ["sad", "happy"]}


# ---------------------------------------------------------------- a server that speaks the protocol


@dataclass
class Server:
    """What it answers next, each (status, body, headers), the last again and again; and what it was asked."""

    replies: list[tuple[int, Any, dict[str, str]]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    wait: float = 0.0
    address: str = ""

    def answers(self, content: Any = None, status: int = 200, headers: dict[str, str] | None = None, **more: Any):
        """Answer with a message of this content (JSON, unless it is text)."""
        text = content if isinstance(content, str | None) else json.dumps(content)
        finish = more.pop("finish_reason", "stop")
        body = {"choices": [{"index": 0, "message": {"content": text, **more}, "finish_reason": finish}]}
        return self.sends(body, status, headers)

    def sends(self, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Server:
        """Answer with this body (JSON, unless it is text)."""
        self.replies.append((status, body, headers or {}))
        return self

    def next(self) -> tuple[int, Any, dict[str, str]]:
        time.sleep(self.wait)
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


def handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            server.keys.append(self.headers["Authorization"])
            server.paths.append(self.path)
            status, body, headers = server.next()
            data = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            kind = "text/html" if isinstance(body, str) else "application/json"
            for name, value in ({"Content-Type": kind, "Content-Length": str(len(data))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler(state))
    httpd.daemon_threads = True
    httpd.handle_error = lambda *_: None  # a client that has left would be a traceback on the stderr of a later test
    httpd.block_on_close = False  # one that hangs is not waited for
    threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    state.address = f"http://127.0.0.1:{httpd.server_port}/v1"
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setattr(chat, "RETRIES", 0)
    yield state
    httpd.shutdown()
    httpd.server_close()


def answer(words: dict[str, list[str]]) -> dict[str, Any]:
    return {"concepts": [{"concept": concept, "classes": classes} for concept, classes in words.items()]}


@dataclass(frozen=True)
class Maker:
    """The commands against the server, with everything that they leave checked for the key."""

    server: Server
    folder: Path

    @property
    def output(self) -> Path:
        return self.folder / "concepts.toml"

    def run(self, *arguments: object) -> Done:
        done = command("concepts", *arguments)
        assert KEY not in done.out + done.err
        assert KEY not in "".join(path.read_text() for path in self.folder.glob("*.toml"))
        return done

    def generate(self, *options: object, classes: str = "happy,sad") -> Done:
        at = ("--endpoint", self.server.address, "--model", "tiny-model", "-o", self.output)
        return self.run("generate", "--classes", classes, *at, *options)

    def label(self, words: str, *options: object, classes: str = "happy,sad") -> Done:
        (self.folder / "words.txt").write_text(words)
        at = ("--endpoint", self.server.address, "--model", "tiny-model", "-o", self.output)
        return self.run("label", self.folder / "words.txt", "--classes", classes, *at, *options)


@pytest.fixture
def maker(server: Server, tmp_path: Path) -> Maker:
    folder = tmp_path / "made"
    folder.mkdir()
    return Maker(server, folder)


# ---------------------------------------------------------------- a good answer


def test_a_set_is_shown_and_written_with_its_provenance(maker: Maker) -> None:
    maker.server.answers(answer(FACES))
    done = maker.generate("--about", "faces of people")
    assert (done.code, done.err.count("\n")) == (0, 2), done.err
    assert "Closed Eyes   sad, happy" in done.out
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


def test_it_is_said_what_was_not_looked_at(maker: Maker) -> None:
    maker.server.answers(answer(FACES))
    err = maker.generate("--number", 5).err
    assert "tiny-model named 3 concepts; it was asked for 5" in err
    assert "duplicates were looked for by their text only; --study names" in err


def test_a_model_that_wraps_its_json_and_capitalises_classes_is_understood(maker: Maker) -> None:
    text = json.dumps(answer({"Smile ": ["Happy", "happy"], "Frown": []}) | {"note": "as asked"})
    maker.server.answers(f"```json\n{text}\n```\n")
    assert maker.generate().code == 0
    assert concepts.read(str(maker.output)) == {"Smile": ("happy",), "Frown": ()}


def test_the_environment_names_the_endpoint_and_a_server_of_ones_own_needs_no_key(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker.server.answers(answer(FACES))
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("OPENAI_BASE_URL", maker.server.address)
    done = maker.run("generate", "--classes", "happy,sad", "--model", "m", "-o", maker.output)
    assert done.code == 0, done.err
    assert len(maker.server.asked) == 1


def test_what_may_pass_is_tried_again(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "RETRIES", 2)
    maker.server.sends({}, 429, {"retry-after-ms": "1"}).sends({}, 503, {"retry-after-ms": "1"}).answers(answer(FACES))
    assert maker.generate().code == 0
    assert len(maker.server.asked) == 3


# ---------------------------------------------------------------- refusals, and answers that are none


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
def test_an_answer_that_is_none_is_one_line_and_nothing_is_written(maker: Maker, name: str) -> None:
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


def test_a_server_that_hangs_is_left(maker: Maker) -> None:
    maker.server.wait = 3
    maker.server.answers(answer(FACES))
    started = time.monotonic()
    assert failed(maker.generate("--timeout", 0.2), maker).endswith("did not answer in time; --timeout gives it longer")
    assert time.monotonic() - started < 2.5


def test_a_server_that_is_not_there_is_said_to_be_out_of_reach(maker: Maker) -> None:
    done = maker.generate("--endpoint", "http://user:word@127.0.0.1:1/v1")
    said = failed(done, maker)
    assert said == "127.0.0.1:1 cannot be reached; is the address right, and is there a network?"


# ---------------------------------------------------------------- mistakes before anything is sent


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "openai"])
def test_without_a_key_or_the_package_it_is_said_what_to_do(
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
def test_a_mistake_costs_no_request(maker: Maker, message: str) -> None:
    mistake = MISTAKES[message]
    done = maker.generate(*mistake.get("options", ()), classes=mistake.get("classes", "happy,sad"))
    assert failed(done, maker, 2).startswith(message.rstrip(" "))
    assert maker.server.asked == []


@pytest.mark.parametrize("key", ["sk a", "sk\nb", "schlüssel"])
def test_a_key_that_cannot_be_one_is_not_shown(maker: Maker, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    said = failed(maker.generate(), maker, 2)
    assert said == "$OPENAI_API_KEY holds a space or a character that a key cannot hold"


def test_a_file_that_is_there_is_kept_unless_forced(maker: Maker) -> None:
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


def test_a_list_that_is_none_costs_no_request(maker: Maker) -> None:
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


def test_provenance_is_no_part_of_a_set_and_no_other_table_is_let_in(tmp_path: Path) -> None:
    path = tmp_path / "words.toml"
    path.write_text('[concepts]\na = []\nb = ["c"]\n[provenance]\nmodel = "m"\n')
    assert concepts.read(str(path)) == {"a": (), "b": ("c",)}
    for stray in ("[provenence]\na = 1", "[concepts.provenance]\na = 1"):
        path.write_text(f"[concepts]\na = []\nb = []\n{stray}\n")
        with pytest.raises(StudyError):
            concepts.read(str(path))


# ---------------------------------------------------------------- what CLIP makes of the words


def unit(*rows: list[float]) -> torch.Tensor:
    return torch.from_numpy(unit_length(rows))


def test_near_duplicates_are_the_pairs_above_the_threshold_nearest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = unit([1, 0], [0, 1], [1, 0.1], [1, 0.3], [-1, 0])
    for rows in (1, 2, 100):
        monkeypatch.setattr(overlaps, "ROWS", rows)
        pairs = overlaps.near_duplicates(embeddings, list("abcde"), 0.95)
        assert [(pair.concept, pair.other) for pair in pairs] == [("a", "c"), ("c", "d"), ("a", "d")]
        assert pairs[0].similarity == pytest.approx(1 / 1.01**0.5)
        assert len(overlaps.near_duplicates(embeddings, list("abcde"), -1)) == 9  # all but the opposites
    assert overlaps.near_duplicates(embeddings[:1], ["a"], 0.0) == []


def test_a_concept_nearer_to_a_class_that_it_does_not_stand_for_is_named() -> None:
    classes_of = {"Smile": ("happy",), "Tears": ("happy", "fear"), "Nose": (), "Frown": ("sad",)}
    embeddings = unit([1, 0, 0], [0, 1, 0.5], [0, 1, 0], [0, 1, 0.1])
    found = overlaps.nearer_elsewhere(classes_of, embeddings, torch.eye(3), ["happy", "sad", "fear"])
    assert [(row.concept, row.stands_for, row.nearer_to) for row in found] == [("Tears", "happy, fear", "sad")]
    assert found[0].similarity == pytest.approx(0.5 / 1.25**0.5)
    assert found[0].its_similarity == pytest.approx(1 / 1.25**0.5)


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of the tiny world with a tiny CLIP of random weights; only its CLIP and concept sets are there."""
    folder = tmp_path_factory.mktemp("checked")
    write_clip(folder, "tiny-checked")
    (folder / "shapes.toml").write_text('[concepts]\n"bar" = ["bar"]\n"disc" = ["disc", "ring"]\n"ring" = ["disc"]\n')
    (folder / "looks.txt").write_text("bright\ndark\n")
    text = STUDY.replace("clip.safetensors", "tiny-checked.safetensors").replace("tiny-clip", "tiny-checked")
    (folder / "study.toml").write_text(text)
    return folder / "study.toml"


def test_check_shows_what_is_near_in_the_prompts_of_the_study(study_file: Path) -> None:
    done = command("concepts", "check", study_file.parent / "shapes.toml", "--study", study_file, "--threshold", "-1")
    assert (done.code, done.err) == (0, "")
    assert "Near-duplicates\n" in done.out
    assert "Nearer to a class that they do not stand for\n" in done.out
    reader = overlaps.load(Study.load(study_file))
    words = ["bar", "disc", "ring"]
    embeddings = reader.clip.embed_concepts(words, ["{}", "a picture of a {}"])
    torch.testing.assert_close(reader.embed(words), embeddings)
    torch.testing.assert_close(reader.embed(["new"]), reader.clip.embed_concepts(["new"], ["{}"]))
    for pair in overlaps.near_duplicates(embeddings, words, -1):
        assert f"{pair.similarity:.4f}" in done.out
    # The class disc has the text of the concept disc, so that the concept ring, of class disc, is nearer to none.
    assert "| ring      disc" in done.out.partition("Nearer")[2]


def test_check_of_a_list_without_classes_only_looks_for_duplicates(study_file: Path) -> None:
    done = command("concepts", "check", study_file.parent / "looks.txt", "--study", study_file, "--threshold", "1")
    assert (done.code, done.err) == (0, "")
    assert "none above 1\n" in done.out
    assert done.out.endswith("none\n")


def test_check_refuses_what_no_set_may_hold_before_it_loads_anything(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("Smile\nSmile\n")
    done = command("concepts", "check", tmp_path / "words.txt", "--study", "none.toml")
    assert done.code == 2
    assert "holds 1 concept" in done.err


def test_generate_with_a_study_shows_near_duplicates(maker: Maker, study_file: Path) -> None:
    maker.server.answers(answer(FACES))
    done = maker.generate("--study", study_file, "--threshold", "-1", "--number", 3)
    assert (done.code, done.err) == (0, ""), done.err
    table = done.out.partition("Near-duplicates\n")[2]
    assert table.count("\n") == 4 + 3
    assert maker.output.exists()


def test_list_says_what_ships_and_help_names_every_command() -> None:
    lines = [line.strip("| ").split() for line in command("concepts", "list").out.splitlines()]
    assert ["emotions", "7"] in lines
    assert ["facial_expressions", "25"] in lines
    out = command("concepts", "--help").out
    for name in ("list", "check", "generate", "label"):
        assert name in out
        assert len(command("concepts", name, "--help").out) > 200


# ---------------------------------------------------------------- the view


def words_of(set_id: int, first: int, **classes: list[str]) -> dict[str, list[dict[str, Any]]]:
    return dict(
        concepts=[
            dict(concept_id=first + i, concept_set_id=set_id, position=i, concept=name)
            for i, name in enumerate(classes)
        ],
        concept_classes=[
            dict(concept_id=first + i, class_=name) for i, names in enumerate(classes.values()) for name in names
        ],
        concept_sets=[dict(concept_set_id=set_id, name=f"set {set_id}")],
    )


def similarities(*sets: dict[str, list[dict[str, Any]]], **embedded: list[list[float]]) -> list[dict[str, Any]]:
    """The view's rows, for embeddings of concepts 1, 2, …."""
    tables = {table: [row for each in sets for row in each[table]] for table in sets[0]}
    rows = unit_length(embedded["embeddings"])
    return run_view(
        "concept_class_similarities",
        **tables,
        concept_embeddings=embedding_rows("concept_id", range(1, len(rows) + 1), rows),
    )


def test_each_concept_is_compared_with_each_class_beside_the_map() -> None:
    rows = similarities(
        words_of(1, 1, Smile=["happy"], Tears=["happy", "tired"], Nose=[]),
        words_of(2, 4, happy=["happy"], sad=["sad"]),
        embeddings=[[1, 0], [0.6, 0.8], [0, 1], [1, 0], [0, 1]],
    )
    columns = [*rows[0]]
    assert columns[:6] == ["concept_set", "concept", "class", "similarity", "rank", "mapped"]
    assert columns[6:] == ["clip_id", "concept_set_id", "concept_id"]
    first = [(r["concept"], r["class"], r["rank"], r["mapped"]) for r in rows if r["concept_set"] == "set 1"]
    assert first == [("Smile", "happy", 1, True), ("Tears", "happy", 1, True), ("Nose", "happy", 1, False)]
    second = {(r["concept"], r["class"]): (r["rank"], r["mapped"]) for r in rows if r["concept_set"] == "set 2"}
    assert second[("sad", "sad")] == (1, True)
    assert second[("sad", "happy")] == (2, False)
    assert [r["similarity"] for r in rows if r["concept"] == "Tears"] == [pytest.approx(0.6)]


def test_the_texts_of_all_classes_come_from_one_set_that_holds_most_of_them() -> None:
    rows = similarities(
        words_of(1, 1, Smile=["happy"], Tears=["sad"]),
        words_of(2, 3, happy=["happy"], sad=["sad"]),
        words_of(3, 5, sad=[], grey=[]),
        embeddings=[[1, 0], [0.6, 0.8], [1, 0], [0, 1], [1, 1], [1, 1]],
    )
    found = {(r["concept"], r["class"]): r["similarity"] for r in rows if r["concept_set"] == "set 1"}
    assert len(found) == 4
    assert found[("Tears", "sad")] == pytest.approx(0.8)  # of set 2, although set 3 is newer
    assert not [r for r in rows if r["concept_set"] == "set 3"]  # it names no classes


def test_without_a_text_of_a_class_there_is_nothing_to_compare() -> None:
    assert similarities(words_of(1, 1, Smile=["happy"], Tears=["sad"]), embeddings=[[1, 0], [0, 1]]) == []
