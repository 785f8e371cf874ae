"""A headless Chromium, driven over its debugging protocol: no driver and no package of its own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

__all__ = ["Page", "chromium_path", "open_page"]

_START_S = 30.0
_ANSWER_S = 20.0


def chromium_path() -> str | None:
    """Where Chromium is, if it is installed."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


class Page:
    """A browser's page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = count(1)
        self.problems: list[str] = []
        """What the page has complained of: errors of scripts, of loading, of its policy."""

    async def command(self, method: str, **parameters: Any) -> Any:
        """The result of a command of the protocol; what happens meanwhile is looked at in passing."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(_ANSWER_S):
            while True:
                message = json.loads(await self._socket.receive_str())
                if message.get("id") == number:
                    if "error" in message:
                        raise RuntimeError(f"{method}: {message['error']}")
                    return message["result"]
                self._note(message)

    def _note(self, message: Any) -> None:
        if message.get("method") == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(message["params"]["exceptionDetails"])[:500])
        elif message.get("method") == "Log.entryAdded":
            entry = message["params"]["entry"]
            if entry["level"] in ("error", "warning"):
                self.problems.append(f"{entry['text']} {entry.get('url', '')}")

    async def go(self, url: str) -> None:
        """Load ``url``."""
        for domain in ("Page", "Runtime", "Log"):
            await self.command(f"{domain}.enable")
        await self.command("Page.navigate", url=url)

    async def look(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        found = await self.command("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    async def until(self, expression: str, timeout_s: float = 20.0) -> Any:
        """The first true value of an expression.

        Raises:
            TimeoutError: There was none; the page's text is in the message.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while loop.time() < deadline:
            if found := await self.look(expression):
                return found
            await asyncio.sleep(0.05)
        text = await self.look("document.body?.innerText")
        raise TimeoutError(f"{expression} does not hold; {self.problems}; the page says:\n{text}")

    async def appear(self, *, width: int, height: int, dark: bool = False) -> None:
        """Be a window of this size, for somebody who likes it dark or light."""
        await self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.command("Emulation.setEmulatedMedia", features=[scheme])

    async def press(self, key: str) -> None:
        """Press a key without a text, such as ``Tab``."""
        for kind in ("keyDown", "keyUp"):
            code = {"Tab": 9, "ArrowLeft": 37, "ArrowRight": 39, "Escape": 27}[key]
            await self.command(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code
            )

    async def screenshot(self, *, whole: bool = True) -> bytes:
        """A picture as PNG, of the whole page or of what the window shows."""
        found = await self.command(
            "Page.captureScreenshot", format="png", captureBeyondViewport=whole
        )
        return base64.b64decode(found["data"])


@contextlib.asynccontextmanager
async def open_page(directory: Path) -> AsyncIterator[Page]:
    """An empty page of a browser of its own, which keeps its things in ``directory``.

    Raises:
        RuntimeError: There is no Chromium, or it does not start.
    """
    path = chromium_path()
    if path is None:
        raise RuntimeError("there is no Chromium here")
    process = await asyncio.create_subprocess_exec(
        path, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
        "--disable-background-networking", "--disable-component-update", "--no-first-run",
        f"--user-data-dir={directory}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        port = await _port(directory / "DevToolsActivePort", process)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as reply:
                pages = [each for each in await reply.json() if each["type"] == "page"]
            address = pages[0]["webSocketDebuggerUrl"]
            async with session.ws_connect(address, max_msg_size=0) as socket:
                yield Page(socket)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""


async def _port(file: Path, process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(_START_S):
        while process.returncode is None:
            text = await asyncio.to_thread(_text, file)
            if "\n" in text:
                return int(text.split("\n")[0])
            await asyncio.sleep(0.05)
    raise RuntimeError(f"Chromium ended with {process.returncode}")
