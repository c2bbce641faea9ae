"""The web page, and that about the interface: files of this package, read once; nothing comes from elsewhere."""

from __future__ import annotations

from importlib.resources import files
from typing import NamedTuple

#: Address -> file and type. Only these are served: what a request names is looked up, and is no path.
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/words.js": ("words.js", "text/javascript; charset=utf-8"),
    "/demo.json": ("demo.json", "application/json"),
    "/docs": ("docs.html", "text/html; charset=utf-8"),
    "/docs.js": ("docs.js", "text/javascript; charset=utf-8"),
}
#: A page runs the scripts of this server, and talks to this server, alone.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


class Page(NamedTuple):
    """A file to be served."""

    content: bytes
    content_type: str


def read_pages() -> dict[str, Page]:
    """Return the files by their addresses."""
    folder = files(f"{__package__}") / "page"
    return {address: Page((folder / name).read_bytes(), kind) for address, (name, kind) in _FILES.items()}
