"""When /healthz asks for a restart of the operator."""

from __future__ import annotations

from dataclasses import replace

import pytest
from phasewatt.controllers.health import DEAF_AFTER, Vitals, unhealthy, unready

WELL = Vitals(workers=8, alive=8, oldest=0.0, resync=600.0, last_sign=1000.0)


def test_a_working_operator_is_healthy_and_ready() -> None:
    assert unhealthy(WELL, now=1001.0) is None
    assert unready(WELL) is None


def test_before_the_first_list_it_is_healthy_and_not_ready() -> None:
    starting = replace(WELL, alive=0, last_sign=None)
    assert unhealthy(starting, now=1001.0) is None
    assert unready(starting) is not None


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (replace(WELL, alive=7), "1 of 8 workers died"),
        (replace(WELL, oldest=181.0), "stuck"),
        (replace(WELL, last_sign=-600.0), "no watch event and no resync"),
        (replace(WELL, watch_failures=DEAF_AFTER), "watcher ended 5 times"),
    ],
)
def test_each_way_to_be_of_no_use_is_named(broken: Vitals, says: str) -> None:
    assert says in str(unhealthy(broken, now=1001.0))


def test_a_watcher_that_came_back_is_no_reason_to_restart() -> None:
    assert unhealthy(replace(WELL, watch_failures=DEAF_AFTER - 1), now=1001.0) is None
