"""Let a library download pretrained weights; fail within seconds, in one line, if the server cannot be reached.

with fetching.from_hub("network vit: the weights of timm:vit_base_patch16_224", WAY_OUT):
    model = timm.create_model(name, pretrained=True)

The libraries themselves retry for most of a minute, log each attempt, or wait without a limit. So one request is sent
to the server first, with the library's own client and therefore through the same proxies. If the Hugging Face hub does
not answer, weights in its local cache are still used. Once a download has begun, the library's timeouts apply.
"""

from __future__ import annotations

import logging
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import constants
from huggingface_hub.utils import get_session

from dissectdb.extract.study import StudyError

TIMEOUT_SECONDS = 10.0  # for the server's answer


@contextmanager
def from_hub(what: str, way_out: str) -> Iterator[None]:
    """Inside the block, downloads from the Hugging Face hub fail fast. Raises StudyError.

    what: the weights, for the message. way_out: the message's advice.
    """
    is_offline, level = constants.HF_HUB_OFFLINE, logging.root.manager.disable
    is_reachable = not is_offline and _hub_answers()
    constants.HF_HUB_OFFLINE = not is_reachable
    logging.disable(logging.ERROR)
    try:
        yield
    except Exception as error:
        if is_reachable or not _is_about_fetching(error):
            raise
        host = urllib.parse.urlsplit(constants.ENDPOINT).hostname
        why = "HF_HUB_OFFLINE is set" if is_offline else f"{host} cannot be reached"
        raise StudyError(f"{what} could not be fetched: {why}, and they are not in the cache; {way_out}") from error
    finally:
        constants.HF_HUB_OFFLINE = is_offline
        logging.disable(level)


def refuse_unreachable(url: str, what: str, way_out: str) -> None:
    """Raises StudyError if torch.hub's cache lacks the file of this URL and its host does not answer."""
    name = Path(urllib.parse.urlsplit(url).path).name
    if (Path(torch.hub.get_dir()) / "checkpoints" / name).is_file():
        return
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError:
        return  # the server answers; if it refuses the download, the library reports the reason
    except OSError as error:
        host = urllib.parse.urlsplit(url).hostname
        raise StudyError(f"{what} could not be fetched: {host} cannot be reached; {way_out}") from error


def _hub_answers() -> bool:
    try:
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT_SECONDS)
    except Exception:  # which error depends on the client: no address, no route, no answer in time
        return False
    return True


def _is_about_fetching(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, means that the hub's file is not in the cache."""
    while error is not None:
        if type(error).__module__.startswith("huggingface_hub") or "cached files" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
