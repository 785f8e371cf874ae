"""The dashboard in a real browser, over a fleet of two workers and one that is refused."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from muster.discovery.memory import MemoryRegistry
from muster.testing.browser import Page, chromium_path, open_page
from muster.testing.fleet import FleetSite, frontend, serve, worker
from muster.testing.loops import run
from muster.testing.tiny_model import write_tiny_model
from muster.worker.engines.echo import EchoEngine, EchoSettings

pytestmark = [
    pytest.mark.skipif(chromium_path() is None, reason="there is no Chromium here"),
    pytest.mark.timeout(120),
]

TEXT = "(document.body?.innerText ?? '')"
READY = "document.body?.dataset.ready"


@contextlib.asynccontextmanager
async def fleet(model: Path, tmp_path: Path) -> AsyncIterator[tuple[FleetSite, Page]]:
    """A frontend, two workers that serve ``tiny``, a third that is refused, and a browser."""
    other = tmp_path / "other"
    other.mkdir()
    write_tiny_model(other, context_length=1024)
    registry = MemoryRegistry()
    engine = EchoEngine(EchoSettings(delay_s=0.002))
    async with (
        frontend(registry, tmp_path) as site,
        worker(registry) as one,
        worker(registry) as two,
        worker(registry) as three,
        open_page(tmp_path / "browser") as page,
    ):
        await serve(one, model, engine=engine)
        await site.listed("tiny")
        await serve(two, model, engine=engine)
        await serve(three, other, engine=engine)
        await site.until(lambda: len(site.unserved) == 1)
        yield site, page


def size_of(png: bytes) -> tuple[int, int]:
    width, height = struct.unpack(">II", png[16:24])
    return int(width), int(height)


def test_the_page_says_what_is_served_what_is_refused_and_in_what_it_differs(
    model: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with fleet(model, tmp_path) as (site, page):
            for number in range(5):
                await site.echo(f"hello {number}")
            await page.appear(width=1280, height=900)
            await page.go(f"{site.url}/dashboard")
            await page.until(READY)
            text = await page.until(f"{TEXT}.includes('context_length: 2048 → 1024') && {TEXT}")
            for wanted in (
                "degraded",
                "2 replicas",
                "refused",
                "incompatible",
                "muster model diff",
            ):
                assert wanted in text, wanted
            assert await page.look("document.querySelectorAll('.cohort').length") == 2
            await page.until("document.querySelectorAll('.plot path.series').length >= 3")
            await page.until("document.querySelector('#cache td')?.innerText.startsWith('tiny')")
            assert page.problems == []

    run(scenario())


def test_workers_that_come_and_leave_change_the_page_in_place(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            frontend(registry, tmp_path) as site,
            open_page(tmp_path / "browser") as page,
        ):
            await page.appear(width=1280, height=900)
            await page.go(f"{site.url}/dashboard")
            await page.until(f"{TEXT}.includes('No model is registered')")
            async with worker(registry) as one:
                await serve(one, model)
                await page.until("document.querySelector('#models h3')?.innerText === 'tiny'")
                await page.look("globalThis.card = document.querySelector('#models article')")
                async with worker(registry) as two:
                    await serve(two, model)
                    await page.until("document.querySelectorAll('.places li').length === 2")
                    assert await page.look("card === document.querySelector('#models article')")
                await page.until("document.querySelectorAll('.places li').length === 1")
            await page.until(f"{TEXT}.includes('No model is registered')")
            await page.until("document.querySelector('#events').innerText.includes('gone')")
            assert page.problems == []

    run(scenario())


def test_names_from_anybody_are_text_and_nothing_else(model: Path, tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)><script>bad</script>"

    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            frontend(registry, tmp_path) as site,
            worker(registry) as runtime,
            open_page(tmp_path / "browser") as page,
        ):
            await serve(runtime, model, name)
            await site.listed(name)
            await page.go(f"{site.url}/dashboard")
            await page.until("document.querySelector('#models h3') !== null")
            assert await page.look("document.querySelector('#models h3').textContent") == name
            assert await page.look("document.querySelectorAll('main img, main script').length") == 0
            assert page.problems == []

    run(scenario())


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1440])
def test_it_can_be_read_at_any_width_in_both_schemes(
    model: Path, tmp_path: Path, width: int, dark: bool
) -> None:
    """Nothing is wider than the window, and text stands out from what is behind it (WCAG AA)."""

    async def scenario() -> None:
        async with fleet(model, tmp_path) as (site, page):
            await site.echo("hello")
            await page.appear(width=width, height=800, dark=dark)
            await page.go(f"{site.url}/dashboard")
            await page.until(f"{TEXT}.includes('context_length')")
            assert await page.look("document.documentElement.scrollWidth") <= width
            assert await page.look(WIDER) == []
            assert await page.look(FAINT) == []
            background = await page.look("getComputedStyle(document.body).backgroundColor")
            light = sum(int(part) for part in background[4:-1].split(",")) > 3 * 128
            assert light is not dark
            shot = await page.screenshot()
            assert shot.startswith(b"\x89PNG")
            assert size_of(shot)[1] > 800

    run(scenario())


WIDER = """
[...document.querySelectorAll('main *')]
  .filter((each) => each.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map((each) => each.outerHTML.slice(0, 200))
"""
FAINT = """
(() => {
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const share = (value) => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) =>
    0.2126 * share(r / 255) + 0.7152 * share(g / 255) + 0.0722 * share(b / 255);
  const behind = (each) => {
    for (let one = each; one; one = one.parentElement) {
      const colour = parse(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const each of document.querySelectorAll('body *')) {
    const own = [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || each.closest('[hidden], svg, noscript, .skip')) continue;
    const [a, b] = [light(parse(getComputedStyle(each).color)), light(behind(each))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) found.push(`${contrast.toFixed(2)} ${each.outerHTML.slice(0, 120)}`);
  }
  return found;
})()
"""


def test_it_is_used_with_the_keyboard_and_has_names_for_those_who_do_not_see(
    model: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with fleet(model, tmp_path) as (site, page):
            await site.echo("hello")
            await page.appear(width=1280, height=900)
            await page.go(f"{site.url}/dashboard")
            await page.until(f"{READY} && document.querySelector('.plot text') !== null")
            nameless = (
                "[...document.querySelectorAll('section, input, progress, svg[role=img]')]"
                ".filter((each) => !each.closest('[hidden]') && !each.getAttribute('aria-label')"
                " && !each.getAttribute('aria-labelledby') && !each.labels?.length)"
                ".map((each) => each.outerHTML.slice(0, 100))"
            )
            assert await page.look(nameless) == []
            await page.press("Tab")
            assert await page.look("document.activeElement.className") == "skip"
            await page.press("Tab")
            assert await page.look("document.activeElement.id") == "filter"
            await page.press("Tab")
            assert await page.look("document.activeElement.closest('.plot') !== null")
            await page.press("ArrowLeft")
            await page.until("document.activeElement.querySelector('.cursor') !== null")
            await asyncio.sleep(1.5)  # the page has drawn again
            assert await page.look("document.activeElement.closest('.plot') !== null")
            await page.press("Escape")
            await page.until("!document.activeElement.querySelector('.cursor')")
            await page.look("document.getElementById('filter').value = 'nothing of the kind'")
            await page.look("document.getElementById('filter').dispatchEvent(new Event('input'))")
            await page.until(f"{TEXT}.includes('No model matches')")
            assert page.problems == []

    run(scenario())


def test_a_frontend_that_goes_is_said_to_be_gone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_page(tmp_path / "browser") as page:
            async with frontend(MemoryRegistry(), tmp_path) as site:
                await page.go(f"{site.url}/dashboard")
                await page.until("document.querySelector('#link')?.className === 'link up'")
                await site.server.drain()
                await page.until(f"{TEXT}.includes('draining')")
            await page.until("document.querySelector('#link').className === 'link down'")
            assert await page.look(f"{TEXT}.includes('trying again')")

    run(scenario())
