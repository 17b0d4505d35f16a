"""A headless Chromium, driven over its DevTools protocol (Chrome DevTools Protocol, stable 1.3)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import time
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PATIENCE = 30.0  # seconds; a busy machine is no failure
ARTIFACTS = Path(__file__).parent.parent / "artifacts"
"""Where screenshots are kept."""

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # which root, as in a container, cannot have
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@contextmanager
def running_chromium(folder: Path) -> Iterator[str]:
    """A browser with its profile in `folder`; where its DevTools listen. Skips the test where there is none."""
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        pytest.skip(f"no browser is installed: {', '.join(_PROGRAMS)}")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, *_OPTIONS, f"--user-data-dir={folder}"], stdout=log, stderr=log)
    try:
        port = folder / "DevToolsActivePort"
        deadline = time.monotonic() + PATIENCE
        while not (port.exists() and port.read_text().strip()):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the browser did not start: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port.read_text().splitlines()[0]}"
    finally:
        process.terminate()
        process.wait(PATIENCE)


class Page:
    """One tab. `requests` are the URLs that it asked for, `complaints` what its console and scripts complained of."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.requests: list[str] = []
        self.complaints: list[str] = []

    async def listen(self) -> None:
        """Take in what the browser says, for as long as it does."""
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
            elif said["method"] == "Network.requestWillBeSent":
                self.requests.append(said["params"]["request"]["url"])
            elif said["method"] in ("Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening"):
                self.complaints.append(json.dumps(said["params"]))

    async def do(self, method: str, **parameters: Any) -> Any:
        """One command, to its end."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        said = await asyncio.wait_for(self._answers[number], PATIENCE)
        assert "error" not in said, said
        return said["result"]

    async def value(self, expression: str) -> Any:
        """What a JavaScript expression is in the page."""
        said = await self.do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    async def text(self, selector: str) -> str:
        """The text that a person sees in an element."""
        return str(await self.value(f"document.querySelector({json.dumps(selector)}).innerText"))

    async def wait_for(self, expression: str) -> None:
        """Until a JavaScript expression is true in the page."""
        deadline = time.monotonic() + PATIENCE
        while not await self.value(f"Boolean({expression})"):
            assert time.monotonic() < deadline, f"{expression} is not true\n{await self.text('body')}"
            await asyncio.sleep(0.02)

    async def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """The size of the window, in CSS pixels."""
        await self.do(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )

    async def prefer(self, scheme: str) -> None:
        """``dark`` or ``light``."""
        await self.do("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def screenshot(self, name: str) -> Path:
        """The whole page as artifacts/`name`.png."""
        shot = await self.do("Page.captureScreenshot", captureBeyondViewport=True)
        ARTIFACTS.mkdir(exist_ok=True)
        path = ARTIFACTS / f"{name}.png"
        path.write_bytes(base64.b64decode(shot["data"]))
        return path


@asynccontextmanager
async def open_page(browser: str, url: str) -> AsyncIterator[Page]:
    """A tab that shows `url`."""
    async with aiohttp.ClientSession() as session:
        async with session.put(f"{browser}/json/new?about:blank") as answer:
            tab = await answer.json(content_type=None)
        async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            page = Page(socket)
            listening = asyncio.create_task(page.listen())
            for domain in ("Page", "Runtime", "Network", "Log"):
                await page.do(f"{domain}.enable")
            await page.do("Page.navigate", url=url)
            yield page
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening
        async with session.get(f"{browser}/json/close/{tab['id']}"):
            return
