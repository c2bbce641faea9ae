"""All questions of a file: asked a few at a time, kept as the replies come."""

from __future__ import annotations

import hashlib
import json
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from experiment.asking.endpoint import Endpoint, PassingError, RefusedError, Reply
from experiment.asking.journal import Journal
from preprocess.base.errors import UsageError

#: So many questions in a row without a reply: the server is gone, and the others need not be tried.
_MAX_FAILURES = 5
#: So many refusals before the first reply: the request itself must be wrong.
_MAX_REFUSALS = 3

_Outcome = Reply | Exception


def fingerprint(body: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a request: all that the reply depends on but the endpoint."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def ask_all(
    endpoint: Endpoint,
    bodies: Mapping[str, Mapping[str, Any]],
    journal: Journal,
    concurrency: int,
    advance: Callable[[], None],
) -> int:
    """Ask, and add the replies to the journal.

    Args:
        endpoint: that is asked.
        bodies: question id -> request, of what is to be asked.
        journal: gets each reply, or why the server refuses the question.
        concurrency: requests at the same time.
        advance: called after each reply.

    Returns:
        the number of requests that were answered or refused.

    Raises:
        UsageError: if no request can succeed, or some have no reply yet.
    """
    n_done, failures, n_failed = 0, [], 0
    refused: list[dict[str, Any]] = []
    replied = any(not entry["error"] for entry in journal.entries.values())
    unheard = {*bodies}
    for id, outcome in _outcomes(endpoint, bodies, concurrency):
        entry = {"id": id, "request": fingerprint(bodies[id]), "reply": "", "error": ""}
        if isinstance(outcome, PassingError):
            failures.append(outcome)
            n_failed += 1
            if len(failures) == _MAX_FAILURES:
                break
            continue
        if isinstance(outcome, RefusedError):
            refused.append(entry | {"error": str(outcome)})
            if not replied and len(refused) == _MAX_REFUSALS:
                raise UsageError(_all_refused(endpoint, outcome))
        elif isinstance(outcome, Reply):
            replied = True
            values = asdict(outcome)
            journal.add(entry | {"reply": values.pop("text"), **values})
        else:
            raise outcome
        failures.clear()
        if replied:
            while refused:
                journal.add(refused.pop(0))
        unheard.discard(id)
        n_done += 1
        advance()
    if refused:
        raise UsageError(_all_refused(endpoint, RefusedError(refused[0]["error"])))
    if n_failed:
        last = failures[-1] if failures else "some requests failed too often"
        raise UsageError(
            f"--base_url {endpoint.base_url}: {len(unheard)} of {len(bodies)} questions that were asked now "
            f"have no reply yet ({last}); the same command asks them again"
        )
    return n_done


def _all_refused(endpoint: Endpoint, error: Exception) -> str:
    return f"--base_url {endpoint.base_url}: the server refuses every question: {error}; check the options"


def _outcomes(
    endpoint: Endpoint, bodies: Mapping[str, Mapping[str, Any]], concurrency: int
) -> Iterator[tuple[str, _Outcome]]:
    """Yield what comes of each request, as it comes; nothing new is sent once the caller has left."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    come: queue.SimpleQueue[tuple[str, _Outcome]] = queue.SimpleQueue()
    for id in bodies:
        waiting.put(id)
    stopped = threading.Event()

    def work() -> None:
        while not stopped.is_set():
            try:
                id = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                come.put((id, endpoint.ask(bodies[id], stopped)))
            except Exception as error:
                come.put((id, error))
                if isinstance(error, UsageError):
                    stopped.set()  # no request can succeed: this thread must not send another before that is heard

    # Threads that the program does not wait for: Ctrl-C must not take as long as the slowest reply.
    for _ in range(min(concurrency, len(bodies))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for _ in bodies:
            yield come.get()
    finally:
        stopped.set()


def check_same(journal: Journal, bodies: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse to go on with replies to other requests: another model, prompt or parameter.

    Raises:
        UsageError: naming a question.
    """
    kept = {id: journal.entries[id]["request"] for id in bodies if id in journal.entries}
    other = [id for id, request in kept.items() if request != fingerprint(bodies[id])]
    if other:
        raise UsageError(
            f"{journal.path}: holds replies to other requests for {len(other)} questions, such as {other[0]!r} "
            "(another model, prompt, parameter or data); give another --output_dir"
        )


def totals(entries: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the tokens of all replies."""
    return {
        name: sum(int(entry.get(name, 0)) for entry in entries) for name in ("prompt_tokens", "completion_tokens")
    }
