"""The documentation as a site: every page is in it, it builds without a warning, and nothing comes from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from experiment.commands import COMMANDS
from experiment.options.fields import options_of
from experiment.options.help import as_typed

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def _commands(name):
    """Commands of a README, without what is shown of their output."""
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.S)
    return {line for block in blocks for line in block.splitlines() if line.startswith("$ ")}


def _pages(nav):
    """Yield the pages of a navigation."""
    for value in nav.values() if isinstance(nav, dict) else nav:
        if isinstance(value, str):
            yield value
        else:
            yield from _pages(value)


def test_every_page_can_be_reached():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    pages = list(_pages(config["nav"]))
    assert len({*pages}) == len(pages)
    here = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert here == {page for page in pages if not page.startswith("tree/")}


def test_chinese_readme_has_the_commands_of_the_english_one_and_explains_what_there_is():
    text = (ROOT / "README.zh.md").read_text(encoding="utf-8")
    assert len(_commands("README.zh.md")) > 20
    assert _commands("README.zh.md") == _commands("README.md")
    assert set(re.findall(r"^\| `(\w+)` \|", text.partition("## 命令")[2], re.M)) == {*COMMANDS}
    english, chinese = (
        {*re.findall(r"\]\((?!http)([^)#]+)", page)} for page in ((ROOT / "README.md").read_text("utf-8"), text)
    )
    assert english - chinese == {"README.zh.md", "docs/index.md"}, "and its own in their place"
    for target in chinese:
        assert (ROOT / target).exists(), target


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site."""
    for package in ("material", "mkdocstrings"):
        pytest.importorskip(package)
    directory = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(directory)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.mark.soak
def test_site_has_every_option_of_every_command_and_every_name_of_the_api(site):
    for name, command in COMMANDS.items():
        page = (site / "reference/commands" / name / "index.html").read_text(encoding="utf-8")
        for option in options_of(command.options):
            shown = as_typed(option) if option.positional else option.name
            assert shown in page, f"{name} --{option.name}"
    import experiment

    page = (site / "reference/api/index.html").read_text(encoding="utf-8")
    for name in experiment.__all__:
        assert re.search(rf'id="[\w.]*\.{name}"', page), name


@pytest.mark.soak
def test_site_loads_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 60
    loads = re.compile(
        r"""<(?:script|img|iframe)[^>]*\bsrc=["']?(?:https?:)?//|<link[^>]*rel=["']?stylesheet[^>]*//"""
    )
    for page in pages:
        assert not loads.search(page.read_text(encoding="utf-8")), page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//|@import", sheet.read_text(encoding="utf-8")), sheet
