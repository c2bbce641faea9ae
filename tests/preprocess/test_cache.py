"""The feature cache: right content or none, whatever happens to its files."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocess import cache
from preprocess.base.errors import DataError
from preprocess.cache import cache_key, cached_encode, open_features, write_features
from preprocess.tokenizers.wordpiece import SPECIAL_TOKENS, WordPieceTokenizer
from preprocess.types import Answer, Example, FeatureSet
from tasks.problems.kinds import KindProblem
from tasks.problems.span import SpanProblem
from tests.support.values import encode

SPANS = SpanProblem()
PIECES = [*SPECIAL_TOKENS, "甲", "乙", "丙", "问"]
CONTEXT = "甲乙丙甲乙丙甲乙丙"


def tokenizer(**options: bool) -> WordPieceTokenizer:
    return WordPieceTokenizer(PIECES, **options)


def data() -> tuple[list[Example], list[Answer | None]]:
    return [Example("1", "问", CONTEXT), Example("2", "问甲", "乙")], [Answer("乙", 1, 2), None]


def run(cache_dir: Path | None) -> FeatureSet:
    return cached_encode(cache_dir, SpanProblem(), *data(), tokenizer(), max_seq_length=9, doc_stride=3)


def assert_same(left: FeatureSet, right: FeatureSet) -> None:
    assert left.targets.keys() == right.targets.keys()
    for name in (*FeatureSet.columns(), *left.targets):
        a, b = (f.targets[name] if name in f.targets else getattr(f, name) for f in (left, right))
        assert a.dtype == b.dtype and np.array_equal(a, b), name
    assert left.meta == right.meta


def only_entry(cache_dir: Path) -> Path:
    (entry,) = cache_dir.iterdir()
    return entry


def test_a_second_call_maps_the_same_features_without_encoding(tmp_path: Path, monkeypatch: Any) -> None:
    first = run(tmp_path)
    assert_same(first, run(None))
    monkeypatch.setattr(SpanProblem, "encode", None)
    second = run(tmp_path)
    assert_same(first, second)
    assert isinstance(second.input_ids, np.memmap) and not second.input_ids.flags.writeable


def test_the_key_depends_on_all_that_matters_and_on_nothing_else(monkeypatch: Any) -> None:
    def key(*arguments: Any, problem: Any = SPANS, **params: Any) -> str:
        return cache_key(problem, *arguments, **params)

    (one, two), targets = data()
    keys = [
        key([one, two], targets, tokenizer()),
        key([two, one], targets, tokenizer()),
        key([one, Example("2", "问乙", "乙")], targets, tokenizer()),
        key([one, Example("2", "问甲", "丙")], targets, tokenizer()),
        key([one, two], [Answer("乙", 4, 5), None], tokenizer()),
        key([one, two], [None, None], tokenizer()),
        key([one, two], [Answer("x", kind="yes"), None], tokenizer()),
        key([one, two], targets, tokenizer(do_lower_case=False)),
        key([one, two], targets, tokenizer(), doc_stride=7),
        key([one, two], targets, tokenizer(), max_seq_length=7),
        key([one, two], targets, tokenizer(), problem=KindProblem({"unknown": "", "yes": "YES"})),
    ]
    monkeypatch.setattr(cache, "_code_version", lambda: "another")
    keys.append(key([one, two], targets, tokenizer()))
    assert len(set(keys)) == len(keys)
    monkeypatch.undo()
    assert key([Example("other", "问", CONTEXT), two], targets, tokenizer()) == keys[0]


def damage_cases() -> list[tuple[str, Any]]:
    def flip(name: str) -> Any:
        def damage(entry: Path) -> None:
            content = bytearray((entry / name).read_bytes())
            content[-1] ^= 1
            (entry / name).write_bytes(bytes(content))

        return damage

    def cut(name: str) -> Any:
        return lambda entry: (entry / name).write_bytes((entry / name).read_bytes()[:-3])

    def change_meta(entry: Path) -> None:
        manifest = json.loads((entry / "manifest.json").read_text())
        manifest["body"]["meta"]["pad_id"] = 3
        (entry / "manifest.json").write_text(json.dumps(manifest))

    return [
        ("a flipped bit", flip("input_ids.npy")),
        ("a flipped bit in a label", flip("target.start.npy")),
        ("a cut column", cut("piece_spans.npy")),
        ("a cut manifest", cut("manifest.json")),
        ("an empty column", lambda entry: (entry / "target.end.npy").write_bytes(b"")),
        ("a missing column", lambda entry: (entry / "row_splits.npy").unlink()),
        ("a missing manifest", lambda entry: (entry / "manifest.json").unlink()),
        ("a changed manifest", change_meta),
        ("a manifest that is a list", lambda entry: (entry / "manifest.json").write_text("[]")),
        ("another column's file", lambda entry: os.replace(entry / "doc_length.npy", entry / "doc_offset.npy")),
    ]


@pytest.mark.parametrize("damage", [case for _, case in damage_cases()], ids=[name for name, _ in damage_cases()])
def test_a_damaged_entry_is_detected_and_rebuilt_with_a_warning(tmp_path: Path, caplog: Any, damage: Any) -> None:
    run(tmp_path)
    entry = only_entry(tmp_path)
    damage(entry)
    with pytest.raises(DataError, match="damaged features"):
        open_features(entry)
    with caplog.at_level(logging.WARNING):
        assert_same(run(tmp_path), run(None))
    assert "rebuilding it" in caplog.text and "\n" not in caplog.records[0].getMessage()
    assert_same(open_features(only_entry(tmp_path)), run(None))


@pytest.mark.parametrize("name", ["input_ids.npy", "manifest.json"])
def test_no_flipped_bit_of_a_header_or_manifest_ends_in_anything_but_a_rebuild(tmp_path: Path, name: str) -> None:
    # What numpy makes of a damaged header was any error there is: a traceback at every start, for ever.
    run(tmp_path)
    entry = only_entry(tmp_path)
    sound = (entry / name).read_bytes()
    for place in range(min(len(sound), 160)):
        damaged = bytearray(sound)
        damaged[place] ^= 1 << place % 8
        (entry / name).write_bytes(damaged)
        with pytest.raises(DataError, match="damaged features"):
            open_features(entry)
    (entry / name).write_bytes(sound)
    assert_same(open_features(entry), run(None))


def test_exchanged_entries_are_rebuilt(tmp_path: Path, caplog: Any) -> None:
    def other() -> FeatureSet:
        return cached_encode(tmp_path, SPANS, *data(), tokenizer(), max_seq_length=10, doc_stride=4)

    expected = run(tmp_path), other()
    one, two = sorted(tmp_path.iterdir())
    for source, target in ((one, tmp_path / "aside"), (two, one), (tmp_path / "aside", two)):
        os.rename(source, target)
    with caplog.at_level(logging.WARNING):
        assert_same(run(tmp_path), expected[0])
        assert_same(other(), expected[1])
    assert caplog.text.count("they belong to") == 2


#: `_VERSION` -> a digest of what `encode` makes of `odd_texts()`. What was cached under a version stays in use.
#: Version 6 places the pieces without a character of derived texts, of which there are none here.
DIGESTS = {"6": "03a3b3a9d963a22b68aec0c8225c04a142ff9142f29897e10b461f4dabff9974"}


def odd_texts() -> tuple[list[Example], list[Answer | None], WordPieceTokenizer]:
    """Return a little of all that `encode` and a tokenizer decide on."""
    contexts = ["Ça coûte １２3 元, é\u0301\ufe0fx甲乙", "\ue000a\U00020000甲\x00 ä##b", "", "甲乙丙 " * 40 + "fin"]
    examples = [Example(str(n), "甲问 Who?" * (1 + 3 * n), context) for n, context in enumerate(contexts)]
    targets = [Answer("乙", 21, 22), Answer("yes", kind="yes"), Answer("", kind="unknown"), Answer("fin", 160, 163)]
    pieces = [*SPECIAL_TOKENS, *"甲乙丙问元caouteihwnfbx123,?#", *(f"##{c}" for c in "aouteihwnfx123"), "co", "##in"]
    return examples, targets, WordPieceTokenizer(pieces)


def test_what_encode_makes_belongs_to_the_version_in_the_caches_key() -> None:
    digest = hashlib.sha256()
    problem = KindProblem({"unknown": "", "yes": "YES", "no": "NO"})
    for params in ({}, {"max_seq_length": 40, "doc_stride": 7, "max_query_length": 20}):
        features = problem.encode(*odd_texts(), **params)
        arrays = {name: getattr(features, name) for name in FeatureSet.columns()}
        for name, array in {**arrays, **features.targets}.items():
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode() + array.tobytes())
        digest.update(json.dumps(features.meta, sort_keys=True).encode())
    # If this fails, users' caches hold what is not made any more: raise cache._VERSION, and add the new digest above.
    assert DIGESTS.get(cache._VERSION) == digest.hexdigest()


def make_entries(cache_dir: Path) -> list[cache.Entry]:
    """Make three entries, used a day, two and three days ago, and return them in this order."""
    for length in (9, 10, 11):
        cached_encode(cache_dir, SPANS, *data(), tokenizer(), max_seq_length=length, doc_stride=3)
    found = cache.entries(cache_dir)
    for days, entry in enumerate(found, start=1):
        for path in (*entry.path.iterdir(), entry.path):
            os.utime(path, (time.time() - days * 86400,) * 2)
    return cache.entries(cache_dir)


def test_entries_are_listed_by_their_last_use(tmp_path: Path) -> None:
    assert cache.entries(tmp_path / "none") == []
    first, second, third = make_entries(tmp_path)
    assert [round((time.time() - e.used_s) / 86400) for e in (first, second, third)] == [1, 2, 3]
    assert first.n_bytes == sum(path.stat().st_size for path in first.path.iterdir()) > 1000
    for length in (9, 10, 11):  # one of them is the third
        cached_encode(tmp_path, SPANS, *data(), tokenizer(), max_seq_length=length, doc_stride=3)
        if cache.entries(tmp_path)[0].path == third.path:
            break
    assert time.time() - cache.entries(tmp_path)[0].used_s < 60 and cache.entries(tmp_path)[0].path == third.path


def test_pruning_deletes_what_was_used_longest_ago(tmp_path: Path) -> None:
    first, second, third = make_entries(tmp_path)
    assert cache.prune(tmp_path, unused_s=4 * 86400) == []
    assert cache.prune(tmp_path, max_bytes=first.n_bytes + second.n_bytes) == [third]
    assert cache.prune(tmp_path, unused_s=1.5 * 86400) == [second]
    assert cache.prune(tmp_path) == [first] and list(tmp_path.iterdir()) == []


def test_pruning_leaves_what_is_not_ours_and_what_is_in_use(tmp_path: Path) -> None:
    cache_dir, elsewhere = tmp_path / "cache", tmp_path / "elsewhere"
    features = run(cache_dir)
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x")
    (cache_dir / ("a" * 32)).symlink_to(elsewhere)
    (cache_dir / ("b" * 32)).write_text("a file")
    (cache_dir / "notes").mkdir()
    assert len(cache.prune(cache_dir)) == 1
    assert sorted(path.name for path in cache_dir.iterdir()) == ["a" * 32, "b" * 32, "notes"]
    assert (elsewhere / "precious").exists()
    assert_same(features, run(None))  # mapped before


def test_a_cache_that_is_only_read_is_used(tmp_path: Path, monkeypatch: Any) -> None:
    run(tmp_path)

    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(cache.os, "utime", refuse)
    monkeypatch.setattr(SpanProblem, "encode", None)
    assert_same(run(tmp_path), encode(*data(), tokenizer(), max_seq_length=9, doc_stride=3))


def test_a_killed_writers_leftovers_do_no_harm_and_go_away(tmp_path: Path) -> None:
    old, young = tmp_path / f".x.1{cache._TEMPORARY}", tmp_path / f".x.2{cache._TEMPORARY}"
    for leftover in (old, young):
        leftover.mkdir()
        (leftover / "input_ids.npy").write_bytes(b"half")
    long_ago = time.time() - 2 * cache._ABANDONED_S
    os.utime(old, (long_ago, long_ago))
    assert_same(run(tmp_path), run(None))
    # The young one may belong to a writer at work.
    assert not old.exists() and young.exists()


def test_a_full_disk_costs_a_warning_and_leaves_nothing(tmp_path: Path, monkeypatch: Any, caplog: Any) -> None:
    n_written, really_save = 0, np.save

    def save(file: Any, array: Any) -> None:
        nonlocal n_written
        n_written += 1
        if n_written > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        really_save(file, array)

    monkeypatch.setattr(cache.np, "save", save)
    with caplog.at_level(logging.WARNING):
        assert_same(run(tmp_path), run(None))
    assert "No space left" in caplog.text and "going on in memory" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_a_directory_costs_a_warning(tmp_path: Path, caplog: Any) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with caplog.at_level(logging.WARNING):
        assert_same(run(file), run(None))
    assert "going on in memory" in caplog.text and file.read_text() == "x"


def test_an_empty_feature_set_survives_the_cache(tmp_path: Path) -> None:
    features = encode([], [], tokenizer())
    write_features(tmp_path / "empty", features)
    assert_same(open_features(tmp_path / "empty"), features)


def test_a_finished_sound_entry_is_not_replaced(tmp_path: Path) -> None:
    write_features(tmp_path / "entry", run(None))
    before = (tmp_path / "entry").stat().st_ino
    write_features(tmp_path / "entry", run(None))
    assert (tmp_path / "entry").stat().st_ino == before and len(list(tmp_path.iterdir())) == 1


def _compete_slowly(cache_dir: str, barrier: Any, results: Any) -> None:
    encode, n_calls = SpanProblem.encode, 0

    def slow(*arguments: Any, **params: Any) -> FeatureSet:
        nonlocal n_calls
        n_calls += 1
        time.sleep(0.3)
        return encode(*arguments, **params)

    SpanProblem.encode = slow  # type: ignore[method-assign]
    barrier.wait()
    run(Path(cache_dir))
    results.put(n_calls)


def test_of_processes_that_need_the_same_features_one_computes_them(tmp_path: Path) -> None:
    # The cells of a grid start together, and those of a task share their features.
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(3), context.Queue()
    workers = [context.Process(target=_compete_slowly, args=(str(tmp_path), barrier, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    assert sorted(results.get(timeout=60) for _ in workers) == [0, 0, 1]
    for worker in workers:
        worker.join(60)
    only_entry(tmp_path)  # and no lock is left


def _compete(cache_dir: str, barrier: Any, results: Any) -> None:
    barrier.wait()
    features = run(Path(cache_dir))
    results.put((features.input_ids.tolist(), isinstance(features.input_ids, np.memmap)))


@pytest.mark.parametrize("damaged", [False, True])
def test_processes_writing_at_once_all_get_the_features(tmp_path: Path, damaged: bool) -> None:
    if damaged:
        run(tmp_path)
        (only_entry(tmp_path) / "target.end.npy").unlink()
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(4), context.Queue()
    workers = [context.Process(target=_compete, args=(str(tmp_path), barrier, results)) for _ in range(4)]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert all(ids == run(None).input_ids.tolist() for ids, _ in found)
    assert any(mapped for _, mapped in found)
    assert_same(open_features(only_entry(tmp_path)), run(None))
