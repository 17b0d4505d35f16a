"""The status page in a real browser. Its screenshots are kept in artifacts/."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from importlib import resources
from typing import TYPE_CHECKING

import pytest

from tailer.status import SinkStatus
from tests.chromium import Page, open_page, running_chromium
from tests.made_up import NOW, MadeUp, group_status, object_status, open_port, service_status

if TYPE_CHECKING:
    from collections.abc import Iterator

LIVE = "document.body?.dataset.link === 'live'"
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\u202egnp.\x1b[31m"
MANY = service_status(
    groups=(
        group_status(),
        group_status(name="audit", sink="warehouse", objects={"idle": 31}, lag=0, oldest_unread=0.0, rate=0.0),
    ),
    objects=tuple(
        object_status(
            f"web/2026/11/21/a-rather-long-name-of-an-application-{number:02}.log",
            state="active" if number < 6 else "idle",
            lag=max(0, 6 - number) * 700_000,
            rates=tuple(4e5 * max(0, 6 - number) + 1e5 * ((step * (number + 3)) % 11) for step in range(30))
            if number < 9
            else (0.0,) * 30,
            position=123_456_789_012 - number * 7_654_321,
        )
        for number in range(24)
    ),
    sinks=(
        SinkStatus("mirror", "file", 987_654_321_000, 7_654_321, 4321.0, 2, 0),
        SinkStatus("warehouse", "http", 48_211_000, 51_000, 321.0, 0, 0),
    ),
    buffer_limit=128 * 1024 * 1024,
)
TROUBLE = replace(
    MANY,
    healthy=False,
    problems=("group web: behind for 312 s, and nothing was delivered",),
    objects=(
        object_status(
            HOSTILE,
            state="failed",
            chain="broken",
            last_error="bytes 0 to 9 are not those that the service vouches for",
        ),
        *MANY.objects,
    ),
    sinks=(
        MANY.sinks[0],
        SinkStatus("warehouse", "http", 48_211_000, 51_000, 321.0, 3, 7, "503 Service Unavailable", NOW - 12.0),
    ),
)


Look = Callable[[Callable[[Page], Awaitable[None]]], None]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_chromium(tmp_path_factory.mktemp("chromium")) as address:
        yield address


@pytest.fixture
def served() -> MadeUp:
    return MadeUp(MANY)


@pytest.fixture
def look(browser: str, served: MadeUp) -> Iterator[Look]:
    """Shows the page of `served`, live, to a function; the browser may have nothing to complain of."""

    async def show(url: str, see: Callable[[Page], Awaitable[None]]) -> None:
        async with open_page(browser, f"{url}/") as page:
            await page.wait_for(LIVE)
            await see(page)
            assert page.complaints == []
            assert {request for request in page.requests if not request.startswith((f"{url}/", "data:"))} == set()

    with open_port(served) as url:
        yield lambda see: asyncio.run(show(url, see))


def test_it_shows_what_the_status_says(look: Look) -> None:
    async def see(page: Page) -> None:
        await page.resize(1440, 900)
        assert await page.text("#verdict p") == "All is well"
        assert re.search(r"Behind\s+1\.5 MB\s+oldest unread byte 2\.5\ss", await page.text("#tiles"))
        tiles = " ".join((await page.text("#tiles")).split())
        for words in ("Objects 1,271", "51,234 5.1 % of 1,000,000", "0.0512 CNY", "3.2 /s at most 20 /s", "of 134 MB"):
            assert words in tiles
        groups = " ".join((await page.text("#groups tbody tr")).split())
        assert groups.startswith("web → mirror 1,240 0 1.5 MB 2.5 s 2.4 MB/s")
        row = " ".join((await page.text("#objects tbody tr")).split())
        name = "oss://logs/web/2026/11/21/a-rather-long-name-of-an-application-00.log"
        assert row == f"{name} web active proven 4.2 MB 2.5 s 3.4 MB/s 123,456,789,012 124,956,789 0.4 s ago 1.0 s"
        assert await page.value("document.querySelectorAll('#objects tbody tr').length") == 24
        assert await page.value("document.querySelector('#objects polyline').points.length") == 30
        assert " ".join((await page.text("#sinks tbody tr")).split()) == "mirror file 988 GB 7,654,321 - 2 0"
        assert await page.value("document.title") == "✓ oss-tailer"
        await page.screenshot("status-well")
        await page.prefer("dark")
        await page.screenshot("status-well-dark")

    look(see)


def test_it_moves_by_itself(look: Look, served: MadeUp) -> None:
    async def see(page: Page) -> None:
        await page.value("document.querySelector('#objects tbody tr').kept = true")
        served.shown = replace(
            TROUBLE, objects=TROUBLE.objects[1:], sinks=(replace(TROUBLE.sinks[0], busy_seconds=4321.5),), now=NOW + 1
        )
        await page.wait_for("document.querySelector('#verdict').dataset.level === 'bad'")
        assert (await page.text("#verdict li")) == "group web: behind for 312 s, and nothing was delivered"
        assert await page.value("document.querySelector('#objects tbody tr').kept"), "the row was made anew"
        assert (await page.text("#sinks tbody tr td:nth-child(4)")) == "0.5"
        assert await page.value("document.querySelectorAll('#sinks tbody tr').length") == 1
        assert await page.value("document.title") == "✕ oss-tailer"

    look(see)


def test_a_hostile_name_is_text_and_nothing_else(look: Look, served: MadeUp) -> None:
    served.shown = replace(
        TROUBLE,
        problems=(HOSTILE,),
        config_error=HOSTILE,
        groups=(group_status(name=HOSTILE, sink=HOSTILE, listing_error=HOSTILE),),
        objects=(object_status(HOSTILE, group=HOSTILE, state="failed", last_error=HOSTILE),),
        sinks=(SinkStatus(HOSTILE, HOSTILE, 0, 0, 0.0, 0, 1, HOSTILE, NOW),),
    )

    async def see(page: Page) -> None:
        shown = r"<img src=x onerror=alert(1)><script>alert(2)</script>\u{202e}gnp.\u{1b}[31m"
        assert await page.text("#objects td b") == f"oss://logs/{shown}"
        for place in ("#verdict li", "#groups td.name .error", "#objects td.name .error", "#sinks td.name b"):
            assert shown in await page.text(place)
        assert await page.value("document.querySelectorAll('img, script').length") == 1

    look(see)


def test_it_is_readable_on_a_phone(look: Look, served: MadeUp) -> None:
    served.shown = TROUBLE

    async def see(page: Page) -> None:
        for width in (320, 375, 480, 768, 1024, 1216, 1280, 1440):
            await page.resize(width, 700, phone=width < 700)
            assert await page.value("document.documentElement.scrollWidth") <= width
            cut = "e => e.offsetParent && e.getBoundingClientRect().right > innerWidth"
            assert await page.value(f"[...document.querySelectorAll('td span, td b, dd')].filter({cut}).length") == 0
        await page.resize(320, 700, phone=True)
        await page.screenshot("status-trouble-phone")
        await page.prefer("dark")
        await page.screenshot("status-trouble-phone-dark")
        await page.resize(1440, 900)
        await page.screenshot("status-trouble-dark")

    look(see)


def test_objects_are_found_and_put_in_order(look: Look) -> None:
    async def see(page: Page) -> None:
        search = "const i = document.querySelector('#search'); i.value = {!r}; i.dispatchEvent(new Event('input'))"
        rows = "document.querySelectorAll('#objects tbody tr').length"
        await page.value(search.format("APPLICATION-07"))
        assert await page.value(rows) == 1
        assert (await page.text("#count")).startswith("1 of 1,271, the most behind")
        await page.value(f"{{ {search.format('idle 2')} }}")
        assert await page.value(rows) == 18
        await page.value(f"{{ {search.format('no such object')} }}")
        assert await page.text("#objects") == "No object to show."
        await page.value(f"{{ {search.format('')} }}")
        order = "{{ const s = document.querySelector('#order'); s.value = {!r}; s.dispatchEvent(new Event('change')) }}"
        await page.value(order.format("name"))
        names = "[...document.querySelectorAll('#objects td b')].map(e => e.textContent)"
        assert await page.value(names) == sorted(one.object for one in MANY.objects)
        await page.value(order.format("rate"))
        assert (await page.value(names))[0].endswith("-00.log")

    look(see)


def test_a_lost_connection_is_seen_and_found_again(browser: str, served: MadeUp) -> None:
    async def see(page: Page, port: int) -> None:
        await page.wait_for("document.body.dataset.link === 'lost'")
        assert re.fullmatch(r"connection lost: this is from \S+( [AP]M)?, trying again", await page.text("#link"))
        assert await page.value("document.title") == "? oss-tailer"
        assert await page.text("#verdict p") == "All is well"
        await page.screenshot("status-lost")
        served.shown = TROUBLE
        with open_port(served, port):
            await page.wait_for(LIVE)
            assert await page.text("#verdict p") == "Not well"

    async def main() -> None:
        with open_port(served) as url:
            port = int(url.rpartition(":")[2])
            opened = open_page(browser, f"{url}/")
            page = await opened.__aenter__()
            await page.wait_for(LIVE)
        try:
            await see(page, port)
        finally:
            await opened.__aexit__(None, None, None)

    asyncio.run(main())


def test_it_can_be_heard_and_used_by_keys(look: Look) -> None:
    async def see(page: Page) -> None:
        tree = await page.do("Accessibility.getFullAXTree")
        nodes = [node for node in tree["nodes"] if not node["ignored"]]
        roles = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes]
        for role, name in (
            ("heading", "oss-tailer"),
            ("heading", "Groups"),
            ("heading", "Objects"),
            ("heading", "Sinks"),
            ("searchbox", "Find objects by name, group, state or error"),
            ("columnheader", "Behind"),
            ("table", "Objects and how far they are read"),
        ):
            assert (role, name) in roles
        assert await page.value("document.querySelector('#verdict').getAttribute('aria-live')") == "polite"
        focused = []
        for _ in range(3):
            await page.do("Input.dispatchKeyEvent", type="keyDown", key="Tab", windowsVirtualKeyCode=9)
            focused.append(await page.value("document.activeElement.id || document.activeElement.textContent"))
        assert focused == ["search", "order", "status.json"]

    look(see)


def test_tables_stay_tables_for_those_who_hear_them_on_a_phone(
    look: Look,
) -> None:
    async def see(page: Page) -> None:
        await page.resize(320, 700, phone=True)
        tree = await page.do("Accessibility.getFullAXTree")
        roles = [node["role"]["value"] for node in tree["nodes"] if not node["ignored"]]
        assert roles.count("table") == 3
        assert roles.count("row") == 3 + 2 + 24 + 2
        assert "columnheader" in roles

    look(see)


def test_a_page_that_nobody_sees_asks_for_nothing(look: Look, served: MadeUp) -> None:
    async def see(page: Page) -> None:
        await page.value("Object.defineProperty(document, 'hidden', {get: () => window.away})")
        await page.value("window.away = true; document.dispatchEvent(new Event('visibilitychange'))")
        asked = -1
        while asked != served.asked:  # until a whole second goes by without one
            asked = served.asked
            await asyncio.sleep(1.3)
        await page.value("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")
        served.shown = TROUBLE
        await page.wait_for("document.querySelector('#verdict').dataset.level === 'bad'")

    look(see)


def test_it_is_one_file_with_nothing_from_elsewhere() -> None:
    html = resources.files("tailer.web").joinpath("page.html").read_text("utf-8")
    links = set(re.findall(r"""(?:src|href|action|url)\s*[=(]\s*["']?([^"'\s>)]+)""", html))
    assert {link for link in links if not link.startswith("data:")} == {"status.json", "metrics", "healthz", "readyz"}
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|\sstyle=|\son\w+=", html)
