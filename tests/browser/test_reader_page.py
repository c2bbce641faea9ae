"""The page of `serve` in a real browser: asked by mouse and keyboard, in both languages, on a phone, in the dark.

Skipped, with the reason, where Chromium, playwright or the packages of the extra `serve` are missing.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path

import pytest

from experiment import Reader
from tests.support.http import running
from tests.support.served import corpus_questions, write_model

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
for _package in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(_package, reason="serving needs the packages of the extra 'serve'")
CHROMIUM = os.environ.get("MRC_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("Chromium is not installed (apt-get install chromium, or MRC_CHROMIUM=path)", allow_module_level=True)

NASTY = "</script><script>window.broken=1</script><img src=x onerror='window.broken=1'>小猫😀住在\u202e北京。"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    with Reader.load(write_model(tmp_path_factory.mktemp("page") / "model"), device="cpu") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def server(reader):
    with running(reader) as started:
        yield started


class Watched:
    """A page, what it asked for, and what went wrong in it."""

    def __init__(self, browser, server, path="/", **options):
        self.address = server.address
        self.page = browser.new_page(**{"locale": "en-GB", **options})
        self.requests, self.problems = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.goto(server.address + path)

    def ask(self, question, context):
        """Ask; the question is None for a task without one, whose page has no field for it."""
        self.page.fill("#context", context)
        if question is None:
            playwright.expect(self.page.locator("#question")).to_be_hidden()
        else:
            self.page.fill("#question", question)
        self.page.click("#ask")
        playwright.expect(self.page.locator("#result")).to_be_visible()

    def check(self):
        """No error, nothing from elsewhere, and no script of a text has run."""
        assert self.problems == []
        assert all(url.startswith(self.address + "/") for url in self.requests), self.requests
        assert self.page.evaluate("window.broken") is None


@pytest.fixture
def opened(browser, server):
    watched = Watched(browser, server)
    playwright.expect(watched.page.locator("#about")).to_contain_text("model, task cmrc2018")
    assert not watched.page.locator("#key_field").is_visible()
    yield watched
    watched.check()
    watched.page.close()


def test_an_answer_is_marked_where_it_stands_with_its_alternatives_and_windows(opened, reader):
    (question, _), *_ = corpus_questions(1)
    context = "😀" + "".join(dict.fromkeys(text for _, text in corpus_questions(40)))
    own = reader.answer(question, context)
    opened.ask(question, context)
    page = opened.page
    assert page.locator("#answer").inner_text() == own.text
    assert page.locator("#shown").text_content() == context
    marked = page.evaluate(
        """() => { const mark = document.querySelector("mark.best"), range = document.createRange();
        range.setStart(document.getElementById("shown"), 0); range.setEndBefore(mark);
        return [Array.from(range.toString()).length, mark.textContent]; }"""
    )
    assert marked == [
        own.char_start,
        own.text,
    ]  # an emoji before it is two of the script's characters, and one of ours
    assert f"characters {own.char_start} to {own.char_end}" in page.locator("#facts").inner_text()
    listed = page.locator("#alternatives .text").all_inner_texts()
    assert listed == [each.text for each in own.n_best]
    assert page.locator("#windows .strip").count() == len(own.windows) > 3
    assert page.locator("#windows rect.answer").count() >= 1
    page.locator("#alternatives button").nth(2).click()
    assert page.locator("mark.best").inner_text() == own.n_best[2].text
    assert page.locator("#alternatives button[aria-pressed=true]").all_inner_texts()[0].startswith(own.n_best[2].text)


def test_everything_can_be_done_from_the_keyboard(opened):
    page = opened.page
    page.locator("#demo").focus()
    page.keyboard.press("ArrowDown")
    playwright.expect(page.locator("#question")).to_have_value("许云松是哪一年开茶馆的？")
    assert "松风馆" in page.input_value("#context")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "context"
    page.keyboard.press("Control+Enter")
    playwright.expect(page.locator("#result")).to_be_visible()
    assert page.evaluate("document.activeElement.id") == "result"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("#alternatives [aria-pressed=true]").count() == 1


def test_texts_stay_texts(opened):
    opened.ask(NASTY, NASTY)
    page = opened.page
    shown = page.locator("#shown").text_content()
    assert "</script>" in shown and "[U+202E]" in shown and "\u202e" not in shown
    assert page.locator("#result img, #result script").count() == 0


def test_it_speaks_chinese_to_those_who_read_it_and_changes_at_once(browser, server):
    watched = Watched(browser, server, locale="zh-CN")
    page = watched.page
    playwright.expect(page.locator("h1")).to_have_text("中文阅读理解")
    assert page.evaluate("document.documentElement.lang") == "zh-Hans"
    watched.ask("谁？", "小猫住在北京。")
    assert "置信度" in page.locator("#facts").inner_text()
    page.select_option("#language", "en")
    assert "confidence" in page.locator("#facts").inner_text() and page.title() == "Chinese MRC reader"
    watched.check()
    page.close()


def test_who_is_not_sure_enough_says_so_and_an_empty_question_asks_nothing(opened):
    page = opened.page
    page.fill("#min_confidence", "1")
    opened.ask("谁？", "小猫住在北京。")
    assert page.locator("#answer").inner_text() == "No answer that is sure enough"
    assert page.locator("mark.best").count() == 0 and page.locator("#alternatives button").count() > 1
    n = len(opened.requests)
    page.fill("#question", "   ")
    page.click("#ask")
    assert (
        page.locator("#status").inner_text() == "Fill in every field of the question." and len(opened.requests) == n
    )


def test_no_answer_is_not_an_unsure_one_and_what_is_more_than_a_text_is_shown(browser, tmp_path):
    sure_of_none = write_model(tmp_path / "squad", "squad_v2", null_score_diff_threshold=-1e9)
    with Reader.load(sure_of_none, device="cpu") as reader, running(reader) as server:
        watched = Watched(browser, server)
        watched.ask("谁？", "小猫住在北京。")
        assert watched.page.locator("#answer").inner_text() == "No answer"
        assert watched.page.locator("#alternatives button").count() > 1
        assert not watched.page.locator("#value").is_visible()
        watched.check()
        watched.page.close()
    with Reader.load(write_model(tmp_path / "ner", "msra_ner"), device="cpu") as reader, running(reader) as server:
        watched = Watched(browser, server)
        watched.ask(None, NASTY)
        shown = watched.page.locator("#value").inner_text()
        assert (
            shown.splitlines()[0].startswith('{"type":')
            and "\u202e" not in shown
            and watched.page.locator("#value img").count() == 0
        )
        watched.check()
        watched.page.close()


def test_a_key_is_asked_for_and_sent(browser, reader):
    with running(reader, key="secret") as server:
        watched = Watched(browser, server)
        page = watched.page
        playwright.expect(page.locator("#key_field")).to_be_visible()
        page.fill("#context", "小猫住在北京。")
        page.fill("#question", "谁？")
        page.click("#ask")
        playwright.expect(page.locator("#status")).to_contain_text("a key was expected")
        page.fill("#key", "secret")
        page.click("#ask")
        playwright.expect(page.locator("#result")).to_be_visible()
        assert all("401" in problem for problem in watched.problems)  # the browser's own word on it
        page.close()


def test_the_interface_is_shown_without_anything_from_elsewhere(browser, server):
    watched = Watched(browser, server, "/docs")
    page = watched.page
    playwright.expect(page.locator("h2 code").first).to_have_text("POST /v1/answer")
    assert "takes AskOne or AskMany" in page.locator("#operations").inner_text()
    page.locator("summary", has_text="AskOne").click()
    assert '"question"' in page.locator("details[open] pre").inner_text()
    watched.check()
    page.close()


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_shows_all_of_it_without_scrolling_sideways(browser, server, width):
    watched = Watched(browser, server, viewport={"width": width, "height": 800})
    watched.ask("谁？", "".join(text for _, text in corpus_questions(30)))
    page = watched.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.goto(server.address + "/docs")
    playwright.expect(page.locator("h2 code").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    watched.check()
    page.close()


def _axe() -> str:
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or not found.submodule_search_locations:
        pytest.skip("axe-core is not there (pip install axe-playwright-python)")
    return (Path(found.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_labels(browser, server, scheme):
    axe = _axe()
    watched = Watched(browser, server, color_scheme=scheme, bypass_csp=True)
    watched.ask("谁？", "".join(text for _, text in corpus_questions(30)))
    page = watched.page
    page.evaluate(axe)
    found = page.evaluate("() => axe.run()")["violations"]
    assert not found, json.dumps([(v["id"], [n["html"][:120] for n in v["nodes"][:3]]) for v in found], indent=1)
    page.close()


@pytest.mark.parametrize(
    ("inputs", "shown"), [(["context"], []), (["question", "context", "options"], ["question", "options"])]
)
def test_a_task_is_asked_by_the_texts_that_it_reads(browser, server, inputs, shown):
    """A single text that gets a class, and a question with options: what is not read is not asked for."""
    page, sent = browser.new_page(locale="en"), []
    about = {"model": "m", "task": "t", "title": "T", "inputs": inputs, "max_seq_length": 64, "documents": False}
    page.route("**/v1/about", lambda route: route.fulfill(json=about))

    def refuse(route):
        sent.append(json.loads(route.request.post_data))
        route.fulfill(status=422, json={"error": "no"})

    page.route("**/v1/answer", refuse)
    page.goto(server.address)
    playwright.expect(page.locator("#about")).to_contain_text("m, task t")
    assert [name for name in ("question", "options") if page.locator(f"#{name}").is_visible()] == shown
    page.fill("#context", "小猫住在北京。")
    if shown:
        page.fill("#question", "谁？")
        page.fill("#options", "甲\n\n乙")
    page.click("#ask")
    playwright.expect(page.locator("#status")).to_contain_text("no")
    (body,) = sent
    assert (body["question"], body["options"]) == (("谁？", ["甲", "乙"]) if shown else ("", []))
    page.close()
