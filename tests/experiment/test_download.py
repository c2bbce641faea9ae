"""Downloads: resumed, verified, atomic, and one clear line when they fail; against a server on this machine."""

from __future__ import annotations

import fcntl
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from experiment.commands import download as command
from experiment.commands.download import download
from experiment.commands.tasks import tasks as list_tasks
from experiment.inputs.download import downloaded, fetch, fetch_all
from experiment.options.flags import DownloadOptions, TasksOptions
from preprocess.base.errors import DataError, UsageError
from tasks.core.discovery import get_task
from tasks.core.task import Source

BODY = bytes(range(256)) * 1000
NEW_BODY = BODY[::-1]


@dataclass
class Site:
    """What the server holds and how it behaves; `requests` are the headers it got, `over` ends a stall."""

    body: bytes = BODY
    etag: str = '"v1"'
    last_modified: str = ""
    status: int = 200
    ranges: bool = True
    honours_if_range: bool = True
    cut_after: int | None = None
    stall: bool = False
    over: threading.Event = field(default_factory=threading.Event)
    sends_length: bool = True
    requests: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site, headers = self.site, dict(self.headers.items())
        site.requests.append(headers)
        start = int(headers["Range"].removeprefix("bytes=").rstrip("-")) if "Range" in headers and site.ranges else 0
        current = site.etag or site.last_modified
        if site.honours_if_range and headers.get("If-Range", current) != current:
            start = 0
        if site.status != 200:
            self.send_response(site.status)
            self.end_headers()
            return
        if start and start >= len(site.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(site.body)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(site.body) - 1}/{len(site.body)}")
        if site.sends_length:
            self.send_header("Content-Length", str(len(site.body) - start))
        for name, value in (("ETag", site.etag), ("Last-Modified", site.last_modified)):
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(site.body[start : site.cut_after])
        if site.stall:
            self.wfile.flush()
            site.over.wait(60)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "*")
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": site}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}/data.json"
    yield site
    site.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


def source(site: Site, body: bytes = BODY, **changes: object) -> Source:
    known = Source("train", "data.json", site.url, "CC0", hashlib.sha256(body).hexdigest(), len(body))
    return replace(known, **changes)  # type: ignore[arg-type]


def unverified(site: Site) -> Source:
    return source(site, sha256="", n_bytes=0)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "data.json"


def names(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def cut(site: Site, target: Path, what: Source, n_bytes: int = 100_000) -> None:
    """Leave what a cut transfer leaves."""
    site.cut_after = n_bytes
    with pytest.raises(DataError, match=f"cut off after {n_bytes} of {len(site.body)} bytes"):
        fetch(what, target)
    site.cut_after = None
    site.requests.clear()


def test_a_file_is_fetched_once_and_nothing_else_is_left(site: Site, target: Path) -> None:
    assert fetch(source(site), target) is True
    assert target.read_bytes() == BODY and names(target) == ["data.json"]
    assert fetch(source(site), target) is False
    assert len(site.requests) == 1


def test_a_cut_transfer_goes_on_where_it_stopped(site: Site, target: Path) -> None:
    cut(site, target, source(site))
    assert names(target) == ["data.json.part", "data.json.part.json"]
    shown: list[tuple[int, int | None]] = []
    assert fetch(source(site), target, progress=lambda *at: shown.append(at))
    assert target.read_bytes() == BODY and names(target) == ["data.json"]
    assert site.requests[0]["Range"] == "bytes=100000-" and site.requests[0]["If-Range"] == '"v1"'
    # Progress counts the whole file, not only what this attempt fetched.
    assert shown[0][0] > 100_000 and shown[-1] == (len(BODY), len(BODY))


def test_a_transfer_goes_on_without_a_checksum_if_the_server_names_the_version(site: Site, target: Path) -> None:
    site.etag, site.last_modified = 'W/"weak"', "Sat, 01 Jan 2022 00:00:00 GMT"
    site.honours_if_range = False
    cut(site, target, unverified(site))
    fetch(unverified(site), target)
    assert target.read_bytes() == BODY
    assert (site.requests[0]["Range"], site.requests[0]["If-Range"]) == ("bytes=100000-", site.last_modified)


def test_a_transfer_begins_anew_where_two_versions_could_be_mixed(site: Site, target: Path) -> None:
    site.etag = ""
    cut(site, target, unverified(site))
    fetch(unverified(site), target)
    assert target.read_bytes() == BODY and "Range" not in site.requests[0]


@pytest.mark.parametrize("honours", [True, False])
def test_a_new_version_is_never_joined_to_the_old_one(site: Site, target: Path, honours: bool) -> None:
    cut(site, target, unverified(site))
    site.body, site.etag, site.honours_if_range = NEW_BODY, '"v2"', honours
    fetch(unverified(site), target)
    assert target.read_bytes() == NEW_BODY


def test_a_new_size_is_a_new_version(site: Site, target: Path) -> None:
    cut(site, target, unverified(site))
    site.body = NEW_BODY + b"more"  # under the old name of the version
    fetch(unverified(site), target)
    assert target.read_bytes() == site.body


def test_a_leftover_longer_than_the_file_begins_anew(site: Site, target: Path) -> None:
    cut(site, target, unverified(site), 200_000)
    site.body, site.honours_if_range = b"short", False
    fetch(unverified(site), target)
    assert target.read_bytes() == b"short"


def test_a_server_that_ignores_ranges_begins_anew(site: Site, target: Path) -> None:
    cut(site, target, source(site))
    site.ranges = False
    fetch(source(site), target)
    assert target.read_bytes() == BODY and "Range" in site.requests[0]


@pytest.mark.parametrize("facts", ["", "[]", '{"url": "http://elsewhere/", "validator": "x"}'])
def test_leftovers_of_unknown_origin_are_not_used(site: Site, target: Path, facts: str) -> None:
    target.parent.mkdir()
    target.with_name("data.json.part").write_bytes(b"x" * 500)
    target.with_name("data.json.part.json").write_text(facts)
    fetch(source(site), target)
    assert target.read_bytes() == BODY and "Range" not in site.requests[0] and names(target) == ["data.json"]


def test_damaged_leftover_is_found_by_its_checksum_and_fetched_again(site: Site, target: Path) -> None:
    cut(site, target, source(site))
    part = target.with_name("data.json.part")
    part.write_bytes(bytes(part.stat().st_size))  # what a power failure can leave: right size, zeros
    fetch(source(site), target)
    assert target.read_bytes() == BODY and ["Range" in headers for headers in site.requests] == [True, False]


def test_a_wrong_checksum_keeps_the_file_aside(site: Site, target: Path) -> None:
    site.body = NEW_BODY
    with pytest.raises(DataError) as caught:
        fetch(source(site), target)
    found, expected = (hashlib.sha256(body).hexdigest() for body in (NEW_BODY, BODY))
    assert f"found sha256 {found}, expected {expected}" in str(caught.value) and site.url in str(caught.value)
    assert names(target) == ["data.json.bad"]
    site.body = BODY
    assert fetch(source(site), target) and target.read_bytes() == BODY


def test_a_wrong_size_is_found_where_no_checksum_is_known(site: Site, target: Path) -> None:
    with pytest.raises(DataError, match=f"found {len(BODY)} bytes, expected 7"):
        fetch(source(site, sha256="", n_bytes=7), target)
    assert names(target) == ["data.json.bad"]


def test_a_damaged_file_in_place_is_replaced_only_by_a_good_one(site: Site, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"old")
    site.status = 404
    with pytest.raises(DataError):
        fetch(source(site), target)
    assert target.read_bytes() == b"old"
    site.status = 200
    assert fetch(source(site), target) and target.read_bytes() == BODY


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "no such file"), (403, "refuses access"), (500, "answered 500")]
)
def test_a_server_that_refuses_is_one_line_with_the_remedy(
    site: Site, target: Path, status: int, reason: str
) -> None:
    site.status = status
    with pytest.raises(DataError) as caught:
        fetch(source(site), target)
    message = str(caught.value)
    assert reason in message and site.url in message and f"save it as {target}" in message and "\n" not in message
    assert names(target) == []


def test_being_offline_is_one_line_with_the_remedy(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as listener:  # bound, but nobody accepts
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        with pytest.raises(DataError, match="can't be reached .*are you offline.*save it as") as caught:
            fetch(Source("train", "x", url, ""), target)
    assert url in str(caught.value) and names(target) == []


@pytest.mark.parametrize("url", ["no url", "http://[", "gopher://x/y", "http://127.0.0.1:99999/x"])
def test_an_address_that_is_none_is_one_line(target: Path, url: str) -> None:
    with pytest.raises(DataError, match="can't be reached"):
        fetch(Source("train", "x", url, ""), target)


def test_a_server_that_falls_silent_is_given_up_and_taken_up_again(site: Site, target: Path) -> None:
    site.stall, site.cut_after = True, 131_072
    with pytest.raises(DataError, match="cut off .*timed out"):
        fetch(source(site), target, timeout_s=2)  # for the connection, too
    site.stall, site.cut_after = False, None
    fetch(source(site), target)
    assert target.read_bytes() == BODY and site.requests[-1]["Range"] == "bytes=131072-"


def test_a_cut_without_content_length_is_found_by_the_checksum(site: Site, target: Path) -> None:
    site.sends_length, site.cut_after = False, 1000
    with pytest.raises(DataError, match="found 1000 bytes, expected 256000"):
        fetch(source(site), target)
    assert names(target) == ["data.json.bad"]


def test_two_downloads_of_one_file_do_not_mix(site: Site, target: Path) -> None:
    target.parent.mkdir()
    part = target.with_name("data.json.part")
    with part.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process is downloading it"):
            fetch(source(site), target)
    assert not site.requests
    fetch(source(site), target)
    assert target.read_bytes() == BODY


def test_many_downloads_at_once_leave_one_whole_file(site: Site, target: Path) -> None:
    ends: list[str] = []

    def work() -> None:
        try:
            ends.append("fetched" if fetch(source(site), target) else "found whole")
        except DataError as error:
            ends.append("busy" if "another process" in str(error) else str(error))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ends) == 8 and "fetched" in ends and set(ends) <= {"fetched", "found whole", "busy"}, ends
    assert target.read_bytes() == BODY and names(target) == ["data.json"]


@pytest.fixture
def task(site: Site, monkeypatch: pytest.MonkeyPatch):
    sources = (
        source(site),
        source(site, split="dev", file_name="dev.json"),
        source(site, split="test", url="no url"),
    )
    task = replace(get_task("cmrc2018"), sources=sources)
    monkeypatch.setattr(command, "get_task", lambda name: task)
    monkeypatch.setattr("experiment.commands.tasks.get_task", lambda name: task)
    monkeypatch.setattr("experiment.commands.tasks.task_names", lambda: (task.name,))
    return task


def test_the_command_fetches_the_splits_that_are_asked_for(task, tmp_path: Path, capsys) -> None:
    options = DownloadOptions(task="cmrc2018", splits=("dev",), data_dir=tmp_path)
    assert downloaded(task, "dev", tmp_path) is None
    assert download(options) == [tmp_path / "cmrc2018" / "dev.json"]
    assert downloaded(task, "dev", tmp_path) == tmp_path / "cmrc2018" / "dev.json"
    assert downloaded(task, "train", tmp_path) is None and downloaded(task, "trial", tmp_path) is None
    assert "dev.json: downloaded, 256,000 bytes, checksum verified" in capsys.readouterr().out
    download(options)
    assert "dev.json: already there" in capsys.readouterr().out


def test_the_command_names_every_file_that_failed_and_fetches_the_others(task, tmp_path: Path) -> None:
    bad = [replace(task.sources[0], file_name=name, url=f"no url {name}") for name in ("a", "b")]
    with pytest.raises(DataError, match="no url a: .*; no url b: "):
        fetch_all([*bad, task.sources[1]], tmp_path)
    assert (tmp_path / "dev.json").read_bytes() == BODY


def test_an_unpublished_split_names_the_published_ones(task, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(UsageError, match="--splits trial: task 'cmrc2018' publishes train, dev, test"):
        download(DownloadOptions(task="cmrc2018", splits=("dev", "trial"), data_dir=tmp_path))
    monkeypatch.setattr(command, "get_task", lambda name: replace(task, sources=()))
    with pytest.raises(UsageError, match="lists no files to download"):
        download(DownloadOptions(task="cmrc2018", data_dir=tmp_path))


def test_an_unknown_checksum_is_printed_for_the_record(task, site: Site, tmp_path: Path, capsys) -> None:
    fetch_all([unverified(site)], tmp_path)
    assert f"sha256 {hashlib.sha256(BODY).hexdigest()} (none published)" in capsys.readouterr().out


def test_the_list_of_tasks_says_what_is_downloaded(task, tmp_path: Path, capsys) -> None:
    download(DownloadOptions(task="cmrc2018", splits=("dev",), data_dir=tmp_path))
    capsys.readouterr()
    list_tasks(TasksOptions(data_dir=tmp_path))
    text = capsys.readouterr().out
    assert text.startswith(f"cmrc2018: CMRC 2018 (version {task.version})\n  recipe: --num_train_epochs 2")
    assert (
        f"dev   dev.json  0.3 MB, CC0\n        {task.sources[1].url}\n        {tmp_path}/cmrc2018/dev.json\n" in text
    )
    assert text.count(f"not downloaded: run_mrc.py download --task cmrc2018 --data_dir {tmp_path}\n") == 2


def test_leftover_facts_are_plain_json(site: Site, target: Path) -> None:
    cut(site, target, source(site))
    facts = json.loads(target.with_name("data.json.part.json").read_text())
    assert facts == {"url": site.url, "validator": '"v1"', "n_bytes": len(BODY)}
