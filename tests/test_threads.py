"""Results of threads come in order, few at a time, and an error stops the rest."""

from __future__ import annotations

import threading

import pytest

from dissectdb.extract.threads import in_order


def test_results_come_in_the_order_of_the_items() -> None:
    second_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert second_done.wait(10)  # the first item ends after the second
        if item == 1:
            second_done.set()
        return item * item

    assert list(in_order(work, range(20), threads=2, ahead=4)) == [item * item for item in range(20)]


def test_items_are_taken_only_so_far_ahead() -> None:
    taken: list[int] = []

    def items():
        for item in range(50):
            taken.append(item)
            yield item

    results = in_order(lambda item: item, items(), threads=2, ahead=3)
    assert next(results) == 0
    assert taken == [0, 1, 2, 3]
    assert next(results) == 1
    assert taken == [0, 1, 2, 3, 4]


def test_an_error_stops_the_work_that_has_not_begun() -> None:
    done: list[int] = []

    def work(item: int) -> None:
        if item == 2:
            raise ValueError("the third")
        done.append(item)

    with pytest.raises(ValueError, match="the third"):
        list(in_order(work, range(100), threads=1, ahead=2))
    assert max(done) < 6
