"""What a server counts, in the form that Prometheus reads; several processes are counted together."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of a process; where several share a directory, what is read is their sum.

    Args:
        directory: that the processes share; None for one alone.
    """

    def __init__(self, directory: str | None = None) -> None:
        """Begin at zero."""
        self._directory = directory
        self._registry = registry = CollectorRegistry()
        self._n_waiting: Callable[[], int] = lambda: 0

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(name, about, labels, registry=registry)

        def histogram(name: str, about: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(name, about, labels, buckets=buckets, registry=registry)

        self._requests = counter("mrc_requests", "Requests by path and status.", "path", "status")
        self._seconds = histogram("mrc_request_seconds", "From request to answer.", _SECONDS, "path")
        self._questions = counter("mrc_questions", "Questions that became windows.")
        self._windows = counter("mrc_windows", "Windows that were asked for.")
        self._batch = histogram("mrc_batch_windows", "Windows of a batch.", _WINDOWS)
        self._batch_seconds = histogram("mrc_batch_seconds", "Time of a batch.", _SECONDS)
        about = "Windows that wait to be computed."
        self._waiting = Gauge("mrc_waiting_windows", about, multiprocess_mode="livesum", registry=registry)

    def watch_queue(self, n_waiting: Callable[[], int]) -> None:
        """Ask this how many windows wait whenever somebody reads the metrics."""
        self._n_waiting = n_waiting

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def asked(self, n_questions: int, n_windows: int) -> None:
        """Count questions and their windows."""
        self._questions.inc(n_questions)
        self._windows.inc(n_windows)

    def computed(self, n_windows: int, seconds: float) -> None:
        """Count a batch."""
        self._batch.observe(n_windows)
        self._batch_seconds.observe(seconds)
        self._waiting.set(self._n_waiting())

    def text(self) -> bytes:
        """Return all metrics."""
        self._waiting.set(self._n_waiting())
        if self._directory is None:
            return generate_latest(self._registry)
        shared = CollectorRegistry()
        MultiProcessCollector(shared, self._directory)
        return generate_latest(shared)

    def close(self) -> None:
        """Take the process out of the sums that count living ones."""
        if self._directory is not None:
            mark_process_dead(os.getpid(), self._directory)
