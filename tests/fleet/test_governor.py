"""The gate: everybody in turn, so many each second, so many each day, and counted."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from tailer.configfile import Limits
from tailer.fleet import Governor
from tailer.status import RequestStatus

NOON = 20000 * 86400 + 43200.0


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        return NOON + self.now


def governor(limits: Limits, clock: Clock) -> Governor:
    return Governor(limits, clock=clock, wall=clock.wall)


def test_without_limits_all_pass_and_are_counted() -> None:
    async def ask() -> RequestStatus:
        gate = governor(Limits(price=0.5), Clock())
        for _ in range(50):
            await gate.admit("web")
        return gate.status()

    assert asyncio.run(ask()) == RequestStatus(50, 5.0, None, None, pytest.approx(0.0025), "CNY")


def test_the_groups_take_turns_and_each_keeps_its_order() -> None:
    """One that has many requests waiting does not keep another waiting that has one."""

    async def ask() -> list[str]:
        gate, passed = Governor(Limits(max_requests_per_second=200.0)), list[str]()
        for _ in range(200):
            await gate.admit("burst")

        async def one(group: str, number: int) -> None:
            await gate.admit(group)
            passed.append(f"{group}{number}")

        tasks = [asyncio.create_task(one("a", number)) for number in range(4)]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(one("b", number)) for number in range(2)]
        await asyncio.gather(*tasks)
        return passed

    passed = asyncio.run(ask())
    assert [one for one in passed if one[0] == "a"] == ["a0", "a1", "a2", "a3"]
    assert [one for one in passed if one[0] == "b"] == ["b0", "b1"]
    assert passed.index("b1") <= 4


def test_one_that_is_cancelled_leaves_its_place() -> None:
    async def ask() -> int:
        gate = Governor(Limits(max_requests_per_second=20.0))
        for _ in range(20):
            await gate.admit("web")
        gone = asyncio.create_task(gate.admit("web"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        await gate.admit("web")
        return gate.status().today

    assert asyncio.run(ask()) == 21


def test_a_tight_budget_is_told_once_and_seen(caplog: pytest.LogCaptureFixture) -> None:
    async def ask() -> None:
        clock = Clock()
        gate = governor(Limits(daily_requests=43), clock)
        assert gate.problem() is None
        asked = [asyncio.create_task(gate.admit("web")) for _ in range(4)]
        await asyncio.sleep(0)
        assert "42 requests are left" in str(gate.problem())
        assert gate.status().tight
        assert sum(task.done() for task in asked) == 0 or gate.status().today == 1
        gate.apply(Limits())
        await asyncio.gather(*asked)
        assert gate.problem() is None
        assert (gate.status().today, gate.status().budget, gate.status().tight) == (4, None, False)

    with caplog.at_level(logging.WARNING, "tailer.fleet"):
        asyncio.run(ask())
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize(
    ("limits", "budget"),
    [
        (Limits(), None),
        (Limits(daily_requests=7), 7),
        (Limits(daily_cost=2.0, price=0.01), 2_000_000),
        (Limits(daily_requests=7, daily_cost=2.0), 7),
        (Limits(daily_cost=2.0, price=0.0), None),
    ],
    ids=["none", "requests", "money", "both", "for nothing"],
)
def test_what_a_day_may_cost(limits: Limits, budget: int | None) -> None:
    assert governor(limits, Clock()).status().budget == budget
    assert governor(replace(limits, currency="EUR"), Clock()).status().currency == "EUR"
