"""The page at / in headless Chromium: one journey for each task, nothing from afar, no complaint on the console."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium"),
    pytest.mark.skipif(not util.find_spec("fastapi"), reason="the extra `serve` is not installed"),
]
HERE = Path(__file__).parent
ROWS = ("shades", "tones", "reviews", "loans", "rents", "topics", "people", "likeness", "german", "gaps")
WRITERS = ("tales", "talk") if util.find_spec("modelworks.serving.generation") else ()
writes = pytest.mark.skipif(not WRITERS, reason="nothing here writes text")


def _tiny() -> Any:
    found = util.spec_from_file_location("tiny", HERE / "tiny.py")
    assert found and found.loader
    module = util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


tiny = _tiny()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the Runs are made; MODELWORKS_TEST_RUNS names a folder that keeps them for the next time."""
    kept = os.environ.get("MODELWORKS_TEST_RUNS")
    return Path(kept) if kept else tmp_path_factory.mktemp("playground")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    """The address of a server of all the Runs."""
    runs = tiny.make(folder, *ROWS, *WRITERS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "modelworks.cli",
        "serve",
        *map(str, runs.values()),
        "--threads",
        "1",
        "--log",
        "errors",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(1200):
            try:
                with urllib.request.urlopen(f"{address}/v2/health/ready") as told:
                    if told.status == 200:
                        break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium with a microphone that beeps."""
    with playwright.sync_playwright() as found:
        flags = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        yield found.chromium.launch(executable_path=CHROMIUM, args=flags)


def until(page: Any, question: str) -> None:
    """Wait for a truth. Playwright's own waiting evaluates texts within the page, which the page's policy forbids."""
    end = time.monotonic() + 60
    while not page.evaluate(question):
        assert time.monotonic() < end, question
        page.wait_for_timeout(50)


class Tab:
    """A fresh browser window, watched."""

    def __init__(self, browser: Any, address: str, **given: Any) -> None:
        given = {"viewport": {"width": 1180, "height": 820}, "locale": "en-GB", **given}
        self.context = browser.new_context(**given)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.address = address
        self.complaints: list[str] = []
        self.afar: list[str] = []
        self.page.on("console", lambda said: self._said(said))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda asked: self._asked(asked.url))

    def _said(self, said: Any) -> None:
        if said.type in ("error", "warning"):
            self.complaints.append(said.text)

    def _asked(self, url: str) -> None:
        if not url.startswith((self.address + "/", "blob:" + self.address, "data:")):
            self.afar.append(url)

    def open(self, model: str) -> Any:
        """The form of a model."""
        self.page.goto(f"{self.address}/#{model}")
        self.page.wait_for_selector("main[data-ready]")
        assert self.page.title() == f"{model} · modelworks"
        return self.page

    def ask(self) -> str:
        """Press the button; what is answered."""
        self.page.click("main form button.primary")
        self.page.wait_for_selector(".answer[aria-busy=false] .took, .answer[aria-busy=false] .wrong")
        lines = self.page.inner_text(".cards .answer").splitlines()
        return "\n".join(line.strip() for line in lines if line.strip())

    def close(self) -> None:
        """Whatever was done, nothing was asked from afar and nothing complained."""
        self.context.close()
        assert not self.afar
        assert not self.complaints


@pytest.fixture
def tab(browser: Any, server: str) -> Iterator[Tab]:
    """A window in English, wide and light."""
    found = Tab(browser, server)
    yield found
    found.close()


# ------------------------------------------------------------------------------------------- one journey a task
def test_a_row_of_a_table(tab: Tab) -> None:
    page = tab.open("loans")
    page.fill("label:has-text('income') + input", "80")
    page.select_option("label:has-text('city') + select", label="上海")
    page.fill("label:has-text('since') + input", "2015-02-03")
    told = tab.ask()
    assert told.splitlines()[:2] == ["outcome", "repaid"]
    bars = page.eval_on_selector_all(".bars .fill", "all => all.map(one => parseFloat(one.style.width))")
    assert len(bars) == 2 and sum(bars) == pytest.approx(100, abs=0.1) and bars[0] > bars[1]
    assert " ms" in told
    assert page.get_attribute(".cards .answer", "aria-live") == "polite"


def test_a_number_and_its_quantiles(tab: Tab) -> None:
    page = tab.open("rents")
    page.click("text=Try the example")
    told = tab.ask().splitlines()
    assert told[0] == "rent"
    assert float(told[1].replace(",", "")) > 0
    assert "95 % of values are below" in " ".join(told)


def test_a_picture_chosen_dropped_and_pasted(tab: Tab, tmp_path: Path) -> None:
    for label in ("dark", "light"):
        tiny.picture(label).save(tmp_path / f"{label}.png")
    page = tab.open("shades")
    page.set_input_files("form input[type=file]", tmp_path / "light.png")
    assert page.is_visible("img.preview")
    assert tab.ask().splitlines()[1] == "light"
    page.click("text=Remove")
    assert not page.is_visible("img.preview")
    assert "missing" in tab.ask()
    give = """([selector, kind, bytes]) => {
        const data = new DataTransfer();
        data.items.add(new File([Uint8Array.from(bytes)], "given.png", { type: "image/png" }));
        const told = kind === "paste" ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true })
          : new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
        document.querySelector(selector).dispatchEvent(told);
    }"""
    page.evaluate(give, [".drop", "drop", list((tmp_path / "dark.png").read_bytes())])
    assert tab.ask().splitlines()[1] == "dark"
    page.evaluate(give, ["body", "paste", list((tmp_path / "light.png").read_bytes())])
    assert tab.ask().splitlines()[1] == "light"


def test_a_sound_from_a_file_and_from_the_microphone(tab: Tab, tmp_path: Path) -> None:
    tiny.sound(tmp_path / "low.wav", "low")
    page = tab.open("tones")
    page.set_input_files("form input[type=file]", tmp_path / "low.wav")
    page.wait_for_selector("audio:visible")
    assert tab.ask().splitlines()[1] in ("low", "high")
    page.click("text=Remove")
    tab.context.grant_permissions(["microphone"])
    page.click("text=Record")
    page.wait_for_selector("text=Stop (1 s)")
    page.click("text=Stop (")
    until(page, "document.querySelector('audio').duration > 0.8")
    assert tab.ask().splitlines()[1] in ("low", "high")


def test_a_text(tab: Tab) -> None:
    page = tab.open("reviews")
    page.fill("textarea", "A dull and tired film with slow grey scenes")
    page.press("textarea", "Control+Enter")
    page.wait_for_selector(".answer[aria-busy=false] .took")
    assert page.inner_text(".headline") == "poor"
    page.fill("textarea", "A lovely and clever film with warm funny scenes")
    assert tab.ask().splitlines()[1] == "good"


def test_several_labels(tab: Tab) -> None:
    page = tab.open("topics")
    page.fill("textarea", "goal team match goal bank price shares price")
    tab.ask()
    chosen = set(page.locator(".chip").all_inner_texts())
    assert chosen == set(page.locator(".bars .chosen .label").all_inner_texts())
    assert page.locator(".bars li").count() == 3


def test_entities_are_marked_in_the_text(tab: Tab) -> None:
    page = tab.open("people")
    page.fill("textarea", "Then Ada met us in Paris.")
    tab.ask()
    marks = page.locator("mark").all_inner_texts()
    assert [" ".join(one.split()) for one in marks] == ["Ada PER", "Paris LOC"]
    assert " ".join(page.inner_text(".marked").split()) == "Then Ada PER met us in Paris LOC."


def test_two_texts_are_compared(tab: Tab) -> None:
    page = tab.open("likeness")
    page.fill("textarea >> nth=0", "A warm film")
    page.fill("textarea >> nth=1", "A warm film")
    assert tab.ask().splitlines()[1] == "1.000"
    page.fill("textarea >> nth=1", "slow slow noisy scenes")
    assert -1 <= float(tab.ask().splitlines()[1]) < 1


def test_a_translation(tab: Tab) -> None:
    page = tab.open("german")
    page.fill("textarea", "old tree red")
    assert tab.ask().splitlines()[0] == "Translation"
    assert page.is_visible("text=Copy")


def test_gaps_are_filled(tab: Tab) -> None:
    page = tab.open("gaps")
    assert page.inner_text(".hint") == "Write [MASK] where something is missing."
    page.fill("textarea", "The lovely [MASK] and the [MASK] owl went home.")
    told = tab.ask().splitlines()
    assert told[0] == "Prediction" and "[MASK]" not in told[1]
    assert [line for line in told if line.startswith("Gap")] == ["Gap 1", "Gap 2"]
    assert page.locator(".bars .chosen").count() == 2


@writes
def test_a_text_is_completed_as_it_comes_and_can_be_stopped(tab: Tab) -> None:
    page = tab.open("tales")
    page.fill("#prompt", "The lovely fox")
    page.click("summary:has-text('Sampling')")
    page.fill("#setting-maxTokens", "12")
    page.fill("#setting-temperature", "0")
    page.click("button.primary")
    page.wait_for_selector(".answer[aria-busy=false] .took:has-text('tokens/s')")
    first = page.inner_text(".written")
    assert first and "at its most tokens" in page.inner_text(".answer")
    page.click("button.primary")
    page.wait_for_selector(".answer[aria-busy=false] .took:has-text('tokens/s')")
    assert page.inner_text(".written") == first
    page.fill("#setting-maxTokens", "20000")
    page.click("button.primary")
    until(page, "document.querySelector('.written').textContent.length > 3")
    # Not page.click, which waits until the button rests: by then a small model may have come to its end.
    page.locator("button:text-is('Stop')").dispatch_event("click")
    page.wait_for_selector(".took:has-text('stopped'), .took:has-text('tokens/s')")
    assert page.is_enabled("button.primary")


@writes
def test_a_conversation(tab: Tab) -> None:
    page = tab.open("talk")
    page.click("summary:has-text('Sampling')")
    page.fill("#setting-maxTokens", "8")
    for turn in (1, 2):
        page.fill("#message", f"Say warm {turn}")
        page.press("#message", "Enter")
        until(page, f"document.querySelectorAll('.log .model .took:not(:empty)').length === {turn}")
        assert page.input_value("#message") == ""
    said = page.locator(".log .you .said").all_inner_texts()
    assert said == ["Say warm 1", "Say warm 2"]
    page.click("text=New chat")
    assert page.locator(".log li").count() == 0


# ------------------------------------------------------------------------------------------- many rows
def test_a_table_is_answered_and_kept(tab: Tab, folder: Path, tmp_path: Path) -> None:
    lines = (folder / "loans.csv").read_text("utf-8").splitlines()
    odd = ['"40",Lima,2020-01-01,0.3,"a, b"', "many,Lima,2020-01-01,0.3,late"]
    (tmp_path / "ask.csv").write_text("\r\n".join([*lines, *odd]), "utf-8")
    page = tab.open("loans")
    page.click("summary")
    page.set_input_files("details input[type=file]", tmp_path / "ask.csv")
    page.wait_for_selector("text=242 of 242 rows answered")
    assert "without a prediction: 1" in page.inner_text(".batch")
    with page.expect_download() as kept:
        page.click("text=Download the answers")
    assert kept.value.suggested_filename == "ask.answers.csv"
    rows = list(csv.DictReader(io.StringIO(Path(kept.value.path()).read_text("utf-8"))))
    assert [row["income"] for row in rows] == [line.split(",")[0].strip('"') for line in [*lines[1:], *odd]]
    assert rows[-2]["outcome"] == "a, b" and rows[-2]["prediction"] in ("late", "repaid")
    assert rows[-1]["prediction"] == "" and "number" in rows[-1]["error"]
    asked = {"income": rows[0]["income"], "city": rows[0]["city"], "since": rows[0]["since"], "share": None}
    request = urllib.request.Request(
        f"{tab.address}/predict/loans", json.dumps(asked).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as told:
        one = json.load(told)
    assert rows[0]["prediction"] == one["prediction"]
    assert float(rows[0]["probability_late"]) == pytest.approx(one["probabilities"]["late"], abs=1e-5)


def test_many_pictures(tab: Tab, tmp_path: Path) -> None:
    for n in range(10):
        tiny.picture("dark" if n % 3 else "light").save(tmp_path / f"{n}.png")
    page = tab.open("shades")
    page.click("summary")
    page.set_input_files("details input[type=file]", [tmp_path / f"{n}.png" for n in range(10)])
    page.wait_for_selector("text=10 of 10 rows answered")
    with page.expect_download() as kept:
        page.click("text=Download the answers")
    rows = list(csv.DictReader(io.StringIO(Path(kept.value.path()).read_text("utf-8"))))
    assert [(row["file"], row["prediction"]) for row in rows] == [
        (f"{n}.png", "dark" if n % 3 else "light") for n in range(10)
    ]


def test_a_file_without_the_columns_is_told_so(tab: Tab, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("x,y\n1,2\n")
    page = tab.open("loans")
    page.click("summary")
    page.set_input_files("details input[type=file]", tmp_path / "other.csv")
    page.wait_for_selector("text=None of the columns income, city, since, share is in the file; it has x, y.")


# ------------------------------------------------------------------------------------------- everybody
def test_by_keyboard_alone(tab: Tab) -> None:
    page = tab.open("loans")
    order: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        seen = page.evaluate(
            "document.activeElement.id + '|' + document.activeElement.textContent.trim().slice(0, 20)"
        )
        order.append(seen.split("|")[1] or seen.split("|")[0])
        if order[-1] == "Ask":
            break
    assert order[0] == "Skip to the model"
    models = [one for one in order if one in ROWS + WRITERS]
    assert models == list(ROWS + WRITERS)
    assert "中文" in order and order[-1] == "Ask"
    page.focus("label:has-text('income') + input")
    page.keyboard.type("75")
    page.keyboard.press("Enter")
    page.wait_for_selector(".answer[aria-busy=false] .took")
    assert page.inner_text(".headline") == "repaid"


def test_every_control_has_a_name(tab: Tab) -> None:
    for model in ROWS + WRITERS:
        page = tab.open(model)
        nameless = page.evaluate("""() => [...document.querySelectorAll("input, select, textarea, button, a, audio")]
            .filter((one) => one.checkVisibility() && !one.textContent.trim() && !one.labels?.length
                && !one.getAttribute("aria-label")).map((one) => one.outerHTML)""")
        assert nameless == [], model


def test_chinese_by_the_browser_and_by_the_switch(browser: Any, server: str) -> None:
    tab = Tab(browser, server, locale="zh-CN", color_scheme="dark")
    page = tab.open("loans")
    assert page.get_attribute("html", "lang") == "zh-CN"
    page.click("text=填入示例")
    assert "毫秒" in tab.ask()
    income = page.input_value("label:has-text('income') + input")
    page.click("#language")
    assert page.get_attribute("html", "lang") == "en"
    assert " ms" in page.inner_text(".cards .answer")
    assert page.input_value("label:has-text('income') + input") == income
    page.reload()
    page.wait_for_selector("text=Try the example")
    tab.close()


def test_no_word_is_missing_in_either_language(tab: Tab) -> None:
    page = tab.open("loans")
    words = (HERE.parents[1] / "src/modelworks/serving/playground/words.js").read_text("utf-8")
    english, chinese = (part.split("};")[0] for part in words.split(" = {\n")[1:3])
    keys = [
        [line.split(":")[0].strip() for line in part.splitlines() if ":" in line]
        for part in (english, chinese)
    ]
    assert keys[0] == keys[1]
    untold = page.evaluate("[...document.querySelectorAll('[data-t]')].map(e => e.dataset.t)")
    assert set(untold) <= set(keys[0])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser: Any, server: str, scheme: str) -> None:
    tab = Tab(browser, server, viewport={"width": 360, "height": 740}, color_scheme=scheme, has_touch=True)
    for model in ROWS + WRITERS:
        page = tab.open(model)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, model
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(16, 19, 25)") is (scheme == "dark")
    tab.close()


def test_texts_of_rows_are_never_markup(tab: Tab, tmp_path: Path) -> None:
    trap = "<img src=x onerror=alert(1)>"
    (tmp_path / "ask.csv").write_text(f'income,city,"{trap}"\n7,"{trap}","{trap}"\n')
    page = tab.open("loans")
    page.click("summary")
    page.set_input_files("details input[type=file]", tmp_path / "ask.csv")
    page.wait_for_selector("text=1 of 1 rows answered")
    assert page.locator("table img").count() == 0
    assert trap in page.inner_text(".batch")


def test_a_refusal_is_told_kindly(tab: Tab, tmp_path: Path) -> None:
    (tmp_path / "no.png").write_text("no picture at all")
    page = tab.open("shades")
    page.set_input_files("form input[type=file]", tmp_path / "no.png")
    assert tab.ask().startswith("That did not work: image: ")
    tab.complaints.clear()  # Chromium itself notes the 422, and a preview that cannot be shown
    page = tab.open("loans")
    page.route("**/predict/*", lambda route: route.abort())
    page.click("text=Try the example")
    assert "The server does not answer" in tab.ask()
    tab.complaints.clear()


def test_its_files_are_strictly_its_own(server: str) -> None:
    def ask(path: str) -> tuple[int, dict[str, str]]:
        try:
            with urllib.request.urlopen(server + path) as told:
                return told.status, {name.lower(): value for name, value in told.headers.items()}
        except urllib.error.HTTPError as error:
            return error.code, {}

    for path in ("/", "/playground/app.js", "/playground/style.css"):
        status, headers = ask(path)
        assert status == 200
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
    for path in (
        "/playground/__init__.py",
        "/playground/..%2fapp.py",
        "/playground/nothing.js",
        "/playground/",
    ):
        assert ask(path)[0] == 404
    files = (HERE.parents[1] / "src/modelworks/serving/playground").iterdir()
    text = "".join(path.read_text("utf-8") for path in files if path.suffix in (".html", ".js", ".css"))
    assert "innerHTML" not in text and "eval(" not in text and "https://" not in text
