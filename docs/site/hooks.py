"""What the site has beyond the pages of `docs/`: a page per command from its options, and files that pages link to.

Pages link to files of the repository as they lie there, so that they can be read there, too. In the site a file
outside of `docs/` stands under `tree/`, and links are turned to it; a directory has no page, and a link to one is
its text, unless it holds a README.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from experiment.commands import COMMANDS
from experiment.options.fields import Option, options_of
from experiment.options.help import as_typed, default_of, examples, paragraphs

ROOT = Path(__file__).resolve().parents[2]
_LINK = re.compile(r"\[([^\]]*)\]\((?!https?://|#|mailto:)([^)\s#]+)(#[^)\s]*)?\)")
_COMMANDS = "reference/commands"
#: The end of a line within a Chinese sentence, which a browser would show as a space.
_WRAP = re.compile(r"(?<=[\u3001-\u9fff\uff00-\uffef])\n *(?=[\u4e00-\u9fff])")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of the commands into the navigation."""
    pages = [{name: f"{_COMMANDS}/{name}.md"} for name in COMMANDS]
    for section in config.nav or []:
        if "Reference" in section:
            section["Reference"].append({"Commands": pages})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is made and what lies elsewhere."""
    for name, command in COMMANDS.items():
        files.append(File.generated(config, f"{_COMMANDS}/{name}.md", content=command_page(name, command.options)))
    todo = [f"docs/{file.src_uri}" for file in files.documentation_pages() if not file.src_uri.startswith(_COMMANDS)]
    todo += ["README.md", "README.zh.md"]
    seen = set(todo)
    while todo:
        page = todo.pop()
        if not page.startswith("docs/"):
            files.append(File.generated(config, f"tree/{page}", abs_src_path=str(ROOT / page)))
        if not page.endswith(".md"):
            continue
        for target in _targets(page):
            if target not in seen and (ROOT / target).is_file() and not target.startswith("docs/"):
                seen.add(target)
                todo.append(target)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links from where files lie to where they stand in the site."""
    source = page.file.src_uri
    if source.startswith(_COMMANDS):
        return markdown
    place = source.removeprefix("tree/") if source.startswith("tree/") else f"docs/{source}"

    def turned(link: re.Match[str]) -> str:
        target = _target(place, link[2])
        if (ROOT / target).is_dir():
            return link[1]
        there = target.removeprefix("docs/") if target.startswith("docs/") else f"tree/{target}"
        return f"[{link[1]}]({posixpath.relpath(there, posixpath.dirname(source))}{link[3] or ''})"

    return _WRAP.sub("", _LINK.sub(turned, markdown))


def _targets(page: str) -> Iterator[str]:
    """Yield the paths of the repository that a page links to."""
    for link in _LINK.finditer((ROOT / page).read_text(encoding="utf-8")):
        yield _target(page, link[2])


def _target(page: str, path: str) -> str:
    """Return the path that a page's link leads to, seen from the root; of a directory its README, if there is one."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
    return f"{target}/README.md" if (ROOT / target / "README.md").is_file() else target


def command_page(name: str, options: type) -> str:
    """Return the reference of a command: what it does, examples, and every option in its group."""
    lines = [f"# {name}", ""]
    for paragraph in paragraphs(options):
        lines += [_text(paragraph), ""]
    lines += ["```text", *(f"chinese-mrc {example}" for example in examples(options)), "```"]
    groups: dict[str, list[Option]] = {}
    for option in options_of(options):
        title = "Required" if option.required else option.group or f"Options of {name}"
        groups.setdefault(title, []).append(option)
    for title in sorted(groups, key=lambda title: title != "Required"):
        lines += ["", f"## {_text(title)}", ""]
        for option in groups[title]:
            help = option.help.removesuffix(".") + default_of(option, {}) + "."
            lines += [f"`{as_typed(option)}`", f":   {_text(help)}", ""]
    return "\n".join(lines) + "\n"


def _text(text: str) -> str:
    """Return a text in which nothing but `code` means anything to Markdown."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([\\*_\[\]<>#|])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)
