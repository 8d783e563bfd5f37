"""The message of a mistake in a study."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dissectdb.extract.study import StudyError


def mistake(call: Callable[[], object]) -> str:
    """The message, one line, of the StudyError that `call()` raises."""
    with pytest.raises(StudyError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)
