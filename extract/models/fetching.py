"""Pretrained weights that a library fetches: if their server cannot be reached, a one-line error comes within seconds.

with fetching.from_hub("network vit: the weights of timm:vit_base_patch16_224", WAY_OUT):
    model = timm.create_model(name, pretrained=True)

The libraries retry for most of a minute, log each attempt, or wait without a limit. So the place is asked once, with
the client that the library itself uses and therefore through the same proxies. Where the Hugging Face hub does not
answer, what its cache holds is still taken. The timeouts of a download that has begun stay those of the library.
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

SECONDS = 10.0  # that a place is given to answer


@contextmanager
def from_hub(what: str, way_out: str) -> Iterator[None]:
    """Fetch from the Hugging Face hub inside the block. what: the weights; way_out: what to do. Raises StudyError."""
    known_offline, level = constants.HF_HUB_OFFLINE, logging.root.manager.disable
    reached = not known_offline and _hub_answers()
    constants.HF_HUB_OFFLINE = not reached
    logging.disable(logging.ERROR)
    try:
        yield
    except Exception as error:
        if reached or not _is_about_fetching(error):
            raise
        host = urllib.parse.urlsplit(constants.ENDPOINT).hostname
        why = "HF_HUB_OFFLINE is set" if known_offline else f"{host} cannot be reached"
        raise StudyError(f"{what} could not be fetched: {why}, and they are not in the cache; {way_out}") from error
    finally:
        constants.HF_HUB_OFFLINE = known_offline
        logging.disable(level)


def refuse_unreachable(url: str, what: str, way_out: str) -> None:
    """Raises StudyError where torch.hub has not kept the file of this URL, and its host does not answer."""
    name = Path(urllib.parse.urlsplit(url).path).name
    if (Path(torch.hub.get_dir()) / "checkpoints" / name).is_file():
        return
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=SECONDS).close()
    except urllib.error.HTTPError:
        return  # it answers; if it refuses the request, the download will fail with its reason
    except OSError as error:
        host = urllib.parse.urlsplit(url).hostname
        raise StudyError(f"{what} could not be fetched: {host} cannot be reached; {way_out}") from error


def _hub_answers() -> bool:
    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS)
    except Exception:  # of whichever client it uses: no address, no route, no answer in time
        return False
    return True


def _is_about_fetching(error: BaseException | None) -> bool:
    """Whether an error, or one behind it, is the hub's for a file that is not in the cache."""
    while error is not None:
        if type(error).__module__.startswith("huggingface_hub") or "cached files" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
