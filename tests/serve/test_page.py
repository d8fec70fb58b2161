"""The page: what it is served with, and what a browser makes of it."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from daogou.guide import Guide
from daogou.serve.lineup import Lineup
from daogou.serve.service import Service
from tests.serve.conftest import ROOT, calling, skip_without

FOLDER = ROOT / "daogou" / "serve" / "page"
FILES = sorted(path.name for path in FOLDER.iterdir())
CHROMIUM = Path(os.environ.get("DAOGOU_TEST_CHROMIUM", "/usr/bin/chromium"))
AXE = ROOT / ".browser" / "node_modules" / "axe-core" / "axe.min.js"
SHOTS = os.environ.get("DAOGOU_TEST_SHOTS")  # a folder for pictures of every view
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


# ---- what is served -----------------------------------------------------------------------


def test_every_file_of_the_page_is_served_under_a_policy_that_allows_nothing_inline(
    client: TestClient,
) -> None:
    for name in ["", *(f"page/{name}" for name in FILES)]:
        answer = client.get(f"/{name}")
        assert answer.status_code == 200, name
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self'" in policy and "style-src 'self'" in policy
        assert "unsafe" not in policy and "*" not in policy
        again = client.get(f"/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert client.get("/page/page.py").status_code == 404
    assert client.get("/page/..%2Fapp.py").status_code == 404


def test_the_page_asks_nobody_but_its_own_server() -> None:
    for name in FILES:
        text = (FOLDER / name).read_text(encoding="utf-8")
        found = set(re.findall(r"https?://[^\s\"')]+", text))
        assert found <= {"http://www.w3.org/2000/svg"}, name
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", _scripts())
    index = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|<script>|\sstyle=|\son\w+=", index)


def test_both_languages_say_the_same_things_and_no_word_is_missing() -> None:
    text = (FOLDER / "words.js").read_text(encoding="utf-8")
    english, chinese = text.split("\n  zh: {")[0], text.split("\n  zh: {")[1].split("\n};")[0]
    entry = re.compile(r'^    "([\w.]+)": "(.*)",$', flags=re.MULTILINE)
    said = [dict(entry.findall(each)) for each in (english, chinese)]
    assert set(said[0]) == set(said[1])
    for name in said[0]:
        slots = [sorted(re.findall(r"\{(\w+)\}", each[name])) for each in said]
        assert slots[0] == slots[1], name
    used = set(re.findall(r'\bt\("([\w.]+)"', _scripts()))
    assert used <= set(said[0])


def _scripts() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.js"))


def test_the_shop_is_described_as_the_page_needs_it(client: TestClient, guide: Guide) -> None:
    shop = client.get("/v1/shop", params={"lang": "zh"}).json()
    assert shop["stages"] == ["impression", "click", "cart", "purchase"]
    assert shop["absent"] == {} and shop["items"] == guide.catalogue.n_items
    assert (shop["title"], shop["category"], shop["price"]) == ("title", "category", "price")
    assert (shop["names"]["brand"], shop["names"]["gender"]) == ("品牌", "性别")
    assert set(shop["users"]) <= set(guide.artifact.store.user_rows)


def test_products_are_described_in_the_order_asked_and_unknown_ones_said_so(
    client: TestClient, guide: Guide
) -> None:
    asked = [guide.catalogue.keys[2], "nobody has it", guide.catalogue.keys[1]]
    found = client.post("/v1/products", json={"items": asked}).json()["products"]
    assert [each["item"] for each in found] == asked
    assert [each["known"] for each in found] == [True, False, True]
    assert found[0]["title"] == found[0]["text"] == guide.catalogue.value("title", 2)
    assert found[0]["price"] == guide.catalogue.value("price", 2)
    assert "spans" not in found[0]["columns"] and found[1]["columns"] == {}
    assert client.post("/v1/products", json={"items": []}).status_code == 422


def test_a_run_shows_its_curves_and_only_the_judgement_that_is_its_own(
    client: TestClient, service: Service, tmp_path: Path
) -> None:
    found = client.get("/v1/models/documents").json()
    assert found["evaluation"] is None and len(found["epochs"]) == 1
    assert set(found["validation"]) == set(found["epochs"][0]["validation"])
    copy = tmp_path / "run"
    copy.mkdir()
    (copy / "manifest.json").write_bytes(
        (service.answerers.main.run / "manifest.json").read_bytes()
    )
    judged = {"manifest": "of another", "evaluation": {"split": "test", "tasks": {}}}
    (copy / "evaluate.json").write_text(json.dumps(judged))
    service.answerers.lineup = Lineup(dataclasses.replace(service.answerers.main, run=copy))
    assert client.get("/v1/models/documents").json()["evaluation"] is None


def test_the_page_is_told_what_gates_take_and_which_task_helps_which(
    client: TestClient, service: Service, tmp_path: Path
) -> None:
    found = client.get("/v1/models/documents", params={"lang": "zh"}).json()
    (use,) = found["gates"]
    assert use["gates"] == ["click", "cart", "purchase"]
    for row in use["shares"]:
        assert sum(share or 0 for share in row) == pytest.approx(1.0, abs=0.001)
        assert None in row  # an expert of another task
    assert found["affinity"] is None
    probed = [
        {"epoch": 1, "step": step, "tasks": ["click", "match"],
         "affinity": [[0.1, share], [None, 0.2]]}
        for step, share in ((1, 0.5), (1, 0.02), (2, 0.04))  # step 1 again, after a resume
    ]  # fmt: skip
    # The joint run of `daogou relate` lies beside what it probed.
    (tmp_path / "all").mkdir()
    (tmp_path / "probes.jsonl").write_text("".join(json.dumps(each) + "\n" for each in probed))
    service.answerers.lineup = Lineup(
        dataclasses.replace(service.answerers.main, run=tmp_path / "all")
    )
    found = client.get("/v1/models/documents").json()["affinity"]
    assert found["tasks"] == ["click", "match"]
    assert found["share"] == [[pytest.approx(0.1), pytest.approx(0.03)], [None, pytest.approx(0.2)]]
    # What is beside it there is of another run.
    service.answerers.lineup = Lineup(
        dataclasses.replace(service.answerers.main, run=tmp_path / "without-click")
    )
    assert client.get("/v1/models/documents").json()["affinity"] is None


def test_the_report_is_one_page_whose_style_its_policy_names(client: TestClient) -> None:
    answer = client.get("/v1/models/report", params={"lang": "zh"})
    assert answer.status_code == 200 and "<style>" in answer.text
    assert re.search(r"style-src 'sha256-[\w+/]+=*'", answer.headers["content-security-policy"])


def test_a_page_that_comes_from_elsewhere_shows_itself_and_wants_a_key(service: Service) -> None:
    with calling(service, at_home=False, address="10.0.0.7") as stranger:
        assert stranger.get("/").status_code == 200
        assert stranger.get("/page/app.js").status_code == 200
        assert stranger.get("/v1/shop").status_code == 401
        assert stranger.get("/v1/models/report").status_code == 401


# ---- in a browser -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium; its tests are skipped where it is not installed."""
    driver = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    skip_without(CHROMIUM, "apt-get install chromium")
    with driver.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(QUIET))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address(made_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of the made run, and of an empty store."""
    command = [sys.executable, "-m", "daogou", "serve", str(made_run), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        cwd=tmp_path_factory.mktemp("served"), env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
        process.kill()


Opened = Callable[..., Any]


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Opened]:
    """Opens the page at an address, in a language, for a shopper; faults of scripts fail."""
    faults: list[str] = []
    contexts: list[Any] = []

    def open_one(
        at: str = "", *, lang: str = "en", shopper: str | None = None, width: int = 1280,
        theme: str = "light",
    ) -> Any:  # fmt: skip
        context = browser.new_context(
            viewport={"width": width, "height": 844}, color_scheme=theme, reduced_motion="reduce"
        )
        contexts.append(context)
        stored = json.dumps({"lang": lang, "shopper": shopper})
        # Only on the first visit: what is chosen later lasts.
        context.add_init_script(
            f"localStorage.getItem('daogou') ?? localStorage.setItem('daogou', {stored!r})"
        )
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "console",
            lambda said: faults.append(said.text) if "Security Policy" in said.text else None,
        )
        page.goto(f"{address}/{at}")
        settled(page)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not faults


def settled(page: Any) -> None:
    """Wait until nothing is on its way any more."""
    page.locator("main h1, main .empty").first.wait_for()
    page.locator(".waiting").first.wait_for(state="detached")


@pytest.fixture(scope="module")
def shopper(made_run: Path) -> str:
    return next(iter(Guide.load(made_run).artifact.store.user_rows))


@pytest.fixture(scope="module")
def product(made_run: Path) -> str:
    return Guide.load(made_run).catalogue.keys[1]


LOOKS = [("en", 1280, "light"), ("zh", 390, "dark")]
MORE_LOOKS = [("zh", 1280, "dark"), ("en", 390, "light")]  # where pictures are wanted
VIEWS = {
    "who": "", "guide": "#/guide", "search": "#/search?q=wool", "profile": "#/profile",
    "product": "#/product/{product}", "missing": "#/product/none", "model": "#/model",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("view", VIEWS)
def test_each_view_fits_any_screen_and_stops_nobody(
    view: str, opened: Opened, shopper: str, product: str
) -> None:
    script = AXE.read_text(encoding="utf-8") if AXE.exists() else None
    for lang, width, theme in LOOKS + (MORE_LOOKS if SHOTS else []):
        page = opened(
            VIEWS[view].format(product=product), lang=lang, width=width, theme=theme,
            shopper=None if view == "who" else shopper,
        )  # fmt: skip
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.get_attribute("html", "lang") == {"en": "en", "zh": "zh-Hans"}[lang]
        if SHOTS:
            page.screenshot(path=f"{SHOTS}/{view}-{lang}-{width}-{theme}.png", full_page=True)
        if script is not None:
            page.evaluate(script)
            found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            bad = [
                (each["id"], each["nodes"][0]["html"])
                for each in found["violations"]
                if each["impact"] in ("serious", "critical")
            ]
            assert not bad, (lang, width, theme)
    skip_without(AXE, "axe-core was not asked; scripts/browser brings it")


@pytest.mark.slow
def test_a_shopper_answers_looks_buys_and_is_seen_otherwise(opened: Opened, shopper: str) -> None:
    page = opened()
    page.get_by_role("button", name=shopper, exact=True).click()
    page.locator(".card").first.wait_for()
    before = shown(page)
    # An answer narrows the shelf, and the focus goes to the next question.
    page.locator(".chip").first.click()
    page.locator(".tag").wait_for()
    assert shown(page) != before
    assert page.evaluate("document.activeElement.id") == "question"
    page.locator(".tag").click()
    page.locator(".tag").wait_for(state="detached")
    assert shown(page) == before
    # A product in the cart changes the list, says so, and keeps the focus.
    card = page.locator(".card").nth(3)
    title = card.locator(".card-title").inner_text()
    card.locator("[data-kind=cart]").click()
    page.locator(".news:not(:empty)").wait_for()
    assert title in page.locator(".toast").inner_text()
    assert page.evaluate("document.activeElement.closest('.shelf') !== null")
    after = shown(page)
    assert after != before
    # A look, then buying it; back on the shelf the list has changed again.
    page.locator(".card-link").nth(1).click()
    page.locator(".product-title").wait_for()
    page.get_by_role("heading", name="Similar products").wait_for()
    bought = page.locator(".product-title").inner_text()
    page.locator(".product-body [data-kind=purchase]").click()
    page.locator(".toast.shown").wait_for()
    page.get_by_role("link", name="Back to the shelf").click()
    page.locator(".card").first.wait_for()
    assert shown(page) != after
    # The profile tells what was done, and takes a correction.
    page.get_by_role("link", name="Profile").click()
    page.locator(".fact").first.wait_for()
    done = page.locator(".panel", has_text="What you did here").inner_text()
    assert title in done and bought in done and "Bought on" in done
    page.locator("[data-edit^='gender=']").first.click()
    page.locator("[data-edit][aria-pressed=true]").wait_for()
    page.reload()
    page.locator("[data-edit][aria-pressed=true]").wait_for()
    # Being forgotten ends the visit.
    page.get_by_role("button", name="Forget me").click()
    page.locator("dialog .danger").click()
    page.get_by_role("heading", name="Who is shopping?").wait_for()


@pytest.mark.slow
def test_language_theme_and_shopper_last_and_somebody_new_is_welcome(opened: Opened) -> None:
    page = opened()
    page.get_by_role("button", name="切换到中文").click()
    page.get_by_role("heading", name="谁来逛店？").wait_for()
    page.get_by_role("button", name="切换为深色").click()
    page.get_by_role("button", name="新顾客").click()
    page.locator(".card").first.wait_for()
    assert "还不认识你" in page.locator(".notes").inner_text()
    page.reload()
    settled(page)
    assert page.get_attribute("html", "data-theme") == "dark"
    assert page.get_by_role("link", name="画像").is_visible()


@pytest.mark.slow
def test_a_server_that_is_away_is_told_and_asked_again(opened: Opened, shopper: str) -> None:
    page = opened("#/guide", shopper=shopper)
    page.route("**/v1/guide", lambda route: route.abort())
    page.locator(".chip").first.click()
    page.get_by_role("alert").wait_for()
    assert "does not answer" in page.get_by_role("alert").inner_text()
    page.unroute("**/v1/guide")
    page.get_by_role("button", name="Try again").click()
    page.locator(".card").first.wait_for()


@pytest.mark.slow
def test_the_guide_is_used_with_a_keyboard_alone(opened: Opened, shopper: str) -> None:
    page = opened("#/guide", shopper=shopper)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('chip')"):
            break
    page.keyboard.press("Enter")
    page.locator(".tag").wait_for()


@pytest.mark.slow
def test_what_a_shop_wrote_is_shown_as_text(opened: Opened, shopper: str) -> None:
    page = opened(shopper=shopper)
    evil = "<img src=x onerror=alert(1)>"

    def poisoned(route: Any) -> None:
        answer = route.fetch()
        found = answer.json()
        for each in found["products"]:
            each["title"] = each["text"] = each["category"] = evil
        route.fulfill(response=answer, json=found)

    page.route("**/v1/products", poisoned)
    page.reload()
    page.locator(".card-title").first.wait_for()
    assert page.locator(".card-title").first.inner_text() == evil
    assert page.locator("main img").count() == 0


@pytest.mark.slow
def test_the_demo_ends_at_an_open_shop(made_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    out.mkdir()
    shutil.copytree(made_run, out / "run")
    (out / "demo.json").write_text(json.dumps({"exposures": 2000, "seed": 0}))
    words = ["demo", "--out", str(out), "--exposures", "2000", "--serve", "--port", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "daogou", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        try:
            lines = iter(process.stderr.readline, "")
            told = next((line for line in lines if "the shop is open at" in line), "")
            (address,) = re.findall(r"http://\S+/", told)
            with urllib.request.urlopen(f"{address}v1/models/documents") as answer:
                assert json.loads(answer.read())["evaluation"]["split"] == "test"
            process.send_signal(signal.SIGINT)
            document, _ = process.communicate(timeout=60)
            assert "click" in json.loads(document)["tasks"]
        finally:
            process.kill()  # where it still runs


def shown(page: Any) -> list[str]:
    """The products on the shelf, in order."""
    found: list[str] = page.locator(".card").evaluate_all("all => all.map(c => c.dataset.item)")
    return found
