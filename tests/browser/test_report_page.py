"""The report in a real browser: Debian's Chromium without a window, driven by playwright.

Skipped, with the reason, where one of them is missing: `apt-get install chromium`, `pip install playwright`. The
check of contrast and labels also needs `pip install axe-playwright-python`, which brings axe-core as a file.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path

import pytest

from experiment.cli import main
from tests.support.answered import ANSWERS, BETTER, NASTY, PARAGRAPHS, candidates, write_data, write_run

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("MRC_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("Chromium is not installed (apt-get install chromium, or MRC_CHROMIUM=path)", allow_module_level=True)

N_MANY = 5000


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report_file(tmp_path_factory):
    root = tmp_path_factory.mktemp("browser")
    data = write_data(root / "dev.json", PARAGRAPHS)
    write_run(root / "one", "cmrc2018", data, [ANSWERS, BETTER])
    write_run(root / "two", "cmrc2018", data, [BETTER, BETTER], model=f"evil {NASTY}")
    assert main(["report", str(root / "one"), str(root / "two"), "--output", str(root / "out")]) == 0
    return root / "out/index.html"


class Watched:
    """A page, what it asked for, and what went wrong in it."""

    def __init__(self, browser, path: Path, **options):
        self.page = browser.new_page(**options)
        self.requests: list[str] = []
        self.problems: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.address = path.resolve().as_uri()
        self.page.goto(self.address)

    def check(self):
        """No error, no request but for the page itself, and no script of the data has run."""
        assert self.problems == []
        assert self.requests == [self.address]
        assert self.page.evaluate("window.broken") is None

    def rows(self, table):
        return [
            " | ".join(row.locator("th, td").all_inner_texts())
            for row in self.page.locator(f"{table} tbody tr").all()
        ]


@pytest.fixture
def opened(browser, report_file):
    watched = Watched(browser, report_file)
    yield watched
    watched.check()
    watched.page.close()


def test_a_column_is_sorted_one_way_and_the_other(opened):
    table = opened.page.locator("table.board").first
    head = table.locator("thead th").nth(1)
    names = table.locator("tbody th")
    first = names.all_inner_texts()
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    scores = [float(text.split("(")[0]) for text in table.locator("tbody td:nth-child(2)").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert names.all_inner_texts() == first[::-1]
    table.locator("thead button").first.click()
    assert names.all_inner_texts()[0].startswith("evil")
    assert table.locator("[aria-sort]").count() == 1


def test_a_count_shows_its_answers_and_the_first_is_open(opened):
    page = opened.page
    page.locator("button.show[data-mistake=too_long][data-system='0']").click()
    assert page.locator("#count").inner_text() == "2 of 3 questions"
    assert [row.split(" | ")[0] for row in opened.rows("#questions")][0] == "小狗住在哪里？"
    article = page.locator("#question")
    assert article.locator("h3").inner_text() == "小狗住在哪里？"
    # An emoji before the answer takes two of the script's characters and one of the span's.
    assert article.locator(".context mark.gold").all_inner_texts() == ["上海"]
    assert "".join(article.locator(".context mark.a").all_inner_texts()) == "住在上海"
    assert article.locator("table tbody th").all_inner_texts() == ["住在上海", "上海"]
    assert article.locator("table tbody td").all_inner_texts() == ["60.0 %", "40.0 %"]


def test_filters_and_order(opened):
    page = opened.page
    assert page.locator("#count").inner_text() == "3 of 3 questions"
    page.select_option("#outcome", "wrong")
    assert page.locator("#count").inner_text() == "2 of 3 questions"
    page.select_option("#mistake", "right")
    assert page.locator("#count").inner_text() == "0 of 3 questions"
    page.select_option("#outcome", "all")
    page.select_option("#mistake", "")
    page.select_option("#order", "unsure")
    assert [row.split(" | ")[1] for row in opened.rows("#questions")] == [
        "boundary too long (60.0 %)", "boundary too long (70.0 %)", "right (90.0 %)",
    ]  # fmt: skip
    page.fill("#text", "住在北京")
    playwright.expect(page.locator("#count")).to_have_text("0 of 3 questions")
    page.fill("#text", "小猫")
    playwright.expect(page.locator("#count")).to_have_text("1 of 3 questions")


def test_one_model_against_the_other(opened):
    page = opened.page
    page.select_option("#b", "1")
    assert "both right 1, only A 0, only B 1, neither 1" in page.locator("#count").inner_text()
    page.select_option("#outcome", "worse")
    assert page.locator("#count").inner_text().startswith("1 of 3 questions")
    page.locator("#questions button").click()
    article = page.locator("#question")
    assert [text.split(":")[0] for text in article.locator("h4").all_inner_texts()] == ["Annotated", "A", "B"]
    assert article.locator(".context mark.b").all_inner_texts() == ["上海"]
    assert article.locator(".context mark.a").all_inner_texts() == ["住在", "上海"]


def test_the_keyboard_reaches_and_opens_every_question(opened):
    page = opened.page
    page.locator("#questions button").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator("#question h3").inner_text() == "小狗住在哪里？"
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    assert page.locator("#question h3").inner_text() == "小猫住在哪里？"


def test_what_turns_the_direction_of_writing_is_shown_by_its_code(opened):
    page = opened.page
    page.locator("#questions button").nth(2).click()
    said = page.locator("#question .context").inner_text()
    assert "[U+202E]" in said and "\u202e" not in said and "</script>" in said
    assert page.locator("#question img").count() == 0


def test_five_thousand_questions_are_listed_filtered_and_paged_at_once(browser, tmp_path):
    """Each action is answered within a quarter of a second, which a person takes for at once."""
    paragraphs = [
        (f"{n}号小猫住在北京。" * 20, [(f"Q_{n}_{m}", f"{n}号小猫住在哪里？", ["北京"]) for m in range(10)])
        for n in range(N_MANY // 10)
    ]
    data = write_data(tmp_path / "dev.json", paragraphs)
    ids = [id for _, questions in paragraphs for id, *_ in questions]
    wrong, right = candidates(("住在北京", 0.6), ("北京", 0.4)), candidates(("北京", 0.6), ("小猫", 0.4))
    run = write_run(
        tmp_path / "run", "cmrc2018", data, [dict.fromkeys(ids, wrong), {**dict.fromkeys(ids, wrong), ids[-1]: right}]
    )
    assert main(["report", str(run), "--output", str(tmp_path / "out")]) == 0
    watched = Watched(browser, tmp_path / "out/index.html")
    page = watched.page
    assert page.locator("#questions tbody tr").count() == 50
    script = """([id, value]) => {
        const control = document.getElementById(id), start = performance.now();
        control.value = value;
        control.dispatchEvent(new Event("change"));
        document.body.getBoundingClientRect();
        return performance.now() - start;
    }"""
    times = [page.evaluate(script, change) for change in (["b", "1"], ["order", "gain"], ["outcome", "worse"])]
    assert max(times) < 250, times
    assert page.locator("#questions tbody tr").count() == 1
    page.select_option("#outcome", "all")
    page.locator("#next").press("Enter")
    assert page.locator("#page").inner_text() == "page 2 of 100"
    watched.check()
    page.close()


def test_printing_opens_what_is_folded(opened):
    page = opened.page
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    assert not page.locator("#controls").is_visible()
    assert page.locator("#origin pre").first.is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0


def _axe() -> str:
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or not found.submodule_search_locations:
        pytest.skip("axe-core is not there (pip install axe-playwright-python)")
    return (Path(found.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_labels(browser, report_file, scheme):
    axe = _axe()
    watched = Watched(browser, report_file, color_scheme=scheme)
    page = watched.page
    page.select_option("#b", "1")
    page.locator("#questions button").nth(1).click()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")  # unfolded, so that all of it is looked at
    page.evaluate(axe)
    # Colours are all that differs in the dark.
    rules = {"runOnly": ["color-contrast"]} if scheme == "dark" else {}
    found = page.evaluate("rules => axe.run(rules)", rules)["violations"]
    assert not found, json.dumps([(v["id"], [n["html"][:120] for n in v["nodes"][:3]]) for v in found], indent=1)
    watched.check()
    page.close()
