"""Waiting for a condition, where no event announces it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

INTERVAL = 0.02  # seconds between two looks


def wait_until(is_met: Callable[[], object], what: str, seconds: float = 10) -> None:
    """Return as soon as `is_met()` is true. It fails after so many seconds, and names `what` it waited for."""
    deadline = time.monotonic() + seconds
    between_looks = threading.Event()  # never set
    while not is_met():
        assert time.monotonic() < deadline, f"after {seconds} seconds still not: {what}"
        between_looks.wait(INTERVAL)
