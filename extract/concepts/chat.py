"""Ask a language model behind an OpenAI-compatible endpoint, and validate everything that comes back.

endpoint = connect("some-model", "http://localhost:11434/v1")
answer = ask(endpoint, prompt, schema, Answer)     # an instance of Answer, a pydantic model, or an EndpointError

Some endpoints ignore the schema, report an error with status 200 or as an HTML page, or send the key back. So the
response is validated here, and every message is one line without the key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from dissectdb.extract.study import StudyError

if TYPE_CHECKING:
    from openai import OpenAI, OpenAIError

KEY = "OPENAI_API_KEY"
RETRIES = 2  # after errors that may be temporary: too many requests, a failing server, no connection

T = TypeVar("T", bound=BaseModel)


class EndpointError(StudyError):
    """The endpoint, or the model behind it, did not give a valid answer."""

    exit_code = 1


@dataclass(frozen=True)
class Endpoint:
    """A model behind an address. host: the part of the address that may be shown or stored."""

    client: OpenAI
    model: str
    host: str


class Message(BaseModel):
    """A model's text, or the reason for its refusal."""

    content: str | None = None
    refusal: str | None = None


class Choice(BaseModel):
    """A message, and the reason why the model stopped there."""

    message: Message
    finish_reason: str | None = None


class Completion(BaseModel):
    """The fields of an endpoint's response that are read. error: some endpoints send one with status 200."""

    choices: list[Choice] = []
    error: Any = None


def connect(model: str, address: str | None = None, timeout: float = 120.0) -> Endpoint:
    """The model at an address; default: $OPENAI_BASE_URL, else OpenAI. Sends nothing. Raises StudyError."""
    try:
        import openai
    except ModuleNotFoundError:
        raise StudyError("asking a model needs the openai package: pip install 'dissectdb[generate]'") from None
    address = address or os.environ.get("OPENAI_BASE_URL") or None
    if not model.strip() or not model.isprintable():
        raise StudyError(f"--model {model!r} is not the name of a model")
    # A local server often needs no key, but the openai package does.
    key = _key() or (None if address is None else "none")
    if key is None:
        raise StudyError(f"set ${KEY} to a key of OpenAI, or name another endpoint with --endpoint")
    host = None if address is None else _host(address)
    client = openai.OpenAI(api_key=key, base_url=address, timeout=timeout, max_retries=RETRIES)
    return Endpoint(client, model, host or _host(str(client.base_url)))


def ask(endpoint: Endpoint, prompt: str, schema: Mapping[str, object], answer: type[T]) -> T:
    """Ask the model for an answer in a JSON schema; return it validated as `answer`. Raises EndpointError."""
    import openai

    try:
        raw = endpoint.client.chat.completions.with_raw_response.create(
            model=endpoint.model,
            messages=[{"role": "user", "content": prompt}],
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "concepts", "strict": True, "schema": dict(schema)},
            },
        )
        content = raw.http_response.content
    except openai.OpenAIError as error:
        raise EndpointError(_explain(endpoint, error)) from None  # its chain holds the request, with the key
    text = _text_of(endpoint, content)
    try:
        return answer.model_validate_json(_without_fence(text), strict=True)
    except ValidationError as error:
        raise EndpointError(f"{endpoint.model} did not answer in the requested form: {_first(error)}") from None


def brief(text: str, length: int = 200) -> str:
    """Text from outside as one line, without characters that could control a terminal."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    line = " ".join(line.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def _key() -> str | None:
    key = os.environ.get(KEY, "").strip()
    if key and not re.fullmatch(r"[!-~]+", key):
        raise StudyError(f"${KEY} holds a space or a character that a key cannot hold")
    return key or None


def _host(address: str) -> str:
    """Host and port of an address. Raises StudyError."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = None, None, None
    if parts is None or not host or parts.scheme not in ("http", "https") or not re.fullmatch(r"[!-~]+", address):
        raise StudyError("--endpoint, or $OPENAI_BASE_URL, is not an address such as http://localhost:11434/v1")
    return host if port is None else f"{host}:{port}"


def _text_of(endpoint: Endpoint, content: bytes) -> str:
    """The model's text from the endpoint's response. Raises EndpointError."""
    try:
        completion = Completion.model_validate_json(content)
    except ValidationError:
        raise EndpointError(
            f"{endpoint.host} did not answer as an OpenAI-compatible endpoint does; is its address right, "
            "with /v1 at its end?"
        ) from None
    if completion.error:
        raise EndpointError(f"{endpoint.host} answered with an error: {_safe(endpoint, completion.error)}")
    if not completion.choices:
        raise EndpointError(f"{endpoint.host} sent an empty answer")
    choice = completion.choices[0]
    if choice.message.refusal or choice.finish_reason == "content_filter":
        why = choice.message.refusal or "its content filter stopped the answer"
        raise EndpointError(f"{endpoint.model} refused: {brief(why)}")
    if choice.finish_reason == "length":
        raise EndpointError(
            f"{endpoint.model} reached its limit before the answer was complete; ask for fewer concepts"
        )
    if not (choice.message.content or "").strip():
        raise EndpointError(f"{endpoint.model} sent an empty answer")
    return choice.message.content or ""


def _without_fence(text: str) -> str:
    """The JSON within ```json … ```, which models write if the endpoint ignores the schema."""
    fenced = re.fullmatch(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", text, re.DOTALL)
    return fenced[1] if fenced else text


def _first(error: ValidationError) -> str:
    """Where the answer first breaks the schema, and how."""
    first = error.errors(include_url=False)[0]
    location = ".".join(map(str, first["loc"]))
    return brief(f"{location}: {first['msg']}" if location else first["msg"])


def _explain(endpoint: Endpoint, error: OpenAIError) -> str:
    """An error of the openai package in one line."""
    import openai

    host, model = endpoint.host, endpoint.model
    if isinstance(error, openai.APITimeoutError):
        return f"{host} did not answer in time; --timeout gives it longer"
    if isinstance(error, openai.APIConnectionError):
        return f"{host} cannot be reached; is the address right, and is there a network?"
    if not isinstance(error, openai.APIStatusError):
        return f"{host}: {_safe(endpoint, error)}"
    code = error.status_code
    detail = f" ({code}): {_safe(endpoint, error.body)}" if error.body else f" ({code})"
    if code in (401, 403):  # without the server's message, which may quote the key
        return f"{host} does not accept the key in ${KEY} ({code})"
    if code == 404:
        return f"{host} has no model {model!r} under this address{detail}"
    if code == 429:
        return f"{host} accepts no more requests now, or none with this key{detail}"
    return f"{host} {'failed' if code >= 500 else 'refused the request'}{detail}"


def _safe(endpoint: Endpoint, body: object) -> str:
    """The message of an endpoint's error, without the key."""
    message = body.get("message") if isinstance(body, Mapping) else body
    text = str(message or body)
    key = endpoint.client.api_key
    return brief(text.replace(key, "[key]") if key != "none" else text)
