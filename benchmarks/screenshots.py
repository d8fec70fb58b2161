"""A run to pictures of the page, in both languages: ``docs/pictures/page.en.png``, ``page.zh.png``.

``python benchmarks/screenshots.py demo/run [FOLDER]``, with the run of ``make demo`` and Debian's
Chromium (``scripts/browser`` brings it).
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

CHROMIUM = "/usr/bin/chromium"
SHOPPER = "100003"


def shoot(browser: Any, address: str, lang: str, out: Path) -> None:
    """The guide after its first answer."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 1080}, color_scheme="light", reduced_motion="reduce"
    )
    wanted = json.dumps({"lang": lang, "theme": "light", "shopper": SHOPPER})
    context.add_init_script(f"localStorage.setItem('daogou', {wanted!r})")
    page = context.new_page()
    page.goto(f"{address}/#/guide")
    page.locator(".chip").first.click()
    page.locator(".tag").wait_for()
    page.locator(".waiting").first.wait_for(state="detached")
    page.locator(".card").first.wait_for()
    page.screenshot(path=str(out / f"page.{lang}.png"))
    context.close()


def main() -> None:
    """Serve the run from a store of its own, and take both pictures."""
    run = Path(sys.argv[1]).resolve()
    pictures = Path(__file__).parent.parent / "docs" / "pictures"
    out = (Path(sys.argv[2]) if len(sys.argv) > 2 else pictures).resolve()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "daogou", "serve", str(run), "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder) as server:
            assert server.stdout is not None
            address = json.loads(server.stdout.readline())["url"]
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
                )
                for lang in ("en", "zh"):
                    shoot(browser, address, lang, out)
                browser.close()
            server.terminate()


if __name__ == "__main__":
    main()
