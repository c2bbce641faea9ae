"""A reader that many requests share, and the limits that keep it answering."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from experiment.options.reading import ServingLimits
from experiment.reading.reader import Asked, Reader
from experiment.reading.results import Result
from experiment.serving.batching import Batcher, QueueFullError
from experiment.serving.messages import Asking
from experiment.serving.metrics import Metrics
from experiment.serving.refusals import Refused, busy
from preprocess.base.errors import DataError, UsageError

#: Threads that cut texts into windows and search answers in outputs, beside the one that computes.
_N_THREADS = 4

T = TypeVar("T")


class Service:
    """Answers requests, their windows computed together.

    Args:
        reader: answers; it is closed with the service.
        limits: of requests.
        batch_wait_s: seconds that a window waits for others.
        metrics: count what happens.
    """

    def __init__(self, reader: Reader, limits: ServingLimits, batch_wait_s: float, metrics: Metrics) -> None:
        """Start the threads."""
        self.reader, self.limits, self.metrics = reader, limits, metrics
        self._n_requests = 0
        self._pool = ThreadPoolExecutor(_N_THREADS, thread_name_prefix="texts")
        self._batcher = Batcher(
            reader.run,
            batch_size=reader.prepared.recipe.per_device_eval_batch_size,
            wait_s=batch_wait_s,
            max_waiting=limits.max_waiting_windows,
            watch=metrics.computed,
        )
        metrics.watch_queue(lambda: self._batcher.n_waiting)

    @property
    def ready(self) -> bool:
        """Whether a request would be answered."""
        return self._batcher.alive

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Hold a place for a request while the block runs.

        Raises:
            Refused: with 429 if there is none.
        """
        if self._n_requests >= self.limits.max_requests:
            raise busy(f"{self._n_requests} requests are being answered")
        self._n_requests += 1
        try:
            yield
        finally:
            self._n_requests -= 1

    async def read(self, receive: Callable[[], Awaitable[bytes | None]]) -> bytes:
        """Return the body of a request, of which `receive` gives the next part, None after the last.

        Raises:
            Refused: with 413 if it is too large, 408 if it takes too long.
        """
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.limits.read_timeout):
                while (part := await receive()) is not None:
                    size += len(part)
                    if size > self.limits.max_body_bytes:
                        raise self.too_large()
                    parts.append(part)
        except TimeoutError:
            message = f"the body did not come within {self.limits.read_timeout:g} s"
            raise Refused(408, message, {"Connection": "close"}) from None
        return b"".join(parts)

    def too_large(self) -> Refused:
        """Return the refusal of a body that is too large."""
        return Refused(413, f"a body of at most {self.limits.max_body_bytes} bytes was expected")

    async def answer(self, asking: Asking) -> list[Result]:
        """Answer the questions of a request.

        Raises:
            Refused: with 413 for too many texts, 422 for impossible ones, 429 if too much waits already, 503 if it
                takes too long.
        """
        most = self.limits.max_questions
        if len(asking.questions) > most or any(len(each.documents) > most for each in asking.questions):
            raise Refused(413, f"at most {most} questions, and documents of a question, were expected")
        try:
            async with asyncio.timeout(self.limits.answer_timeout):
                return await self._answer(asking)
        except TimeoutError:
            message = f"not answered within {self.limits.answer_timeout:g} s"
            raise Refused(503, message, {"Retry-After": "1"}) from None

    async def _answer(self, asking: Asking) -> list[Result]:
        try:
            asked: Asked = await self._in_thread(lambda: self.reader.encode(asking.questions))
        except (UsageError, DataError) as error:
            raise Refused(422, str(error)) from None
        n_windows = len(asked.data.features)
        if n_windows > self.limits.max_request_windows:
            most = self.limits.max_request_windows
            raise Refused(413, f"the texts are {n_windows} windows long; at most {most} were expected")
        self.metrics.asked(len(asking.questions), n_windows)
        try:
            computed = self._batcher.submit(asked.data.features)
        except QueueFullError as error:
            raise busy(str(error)) from None
        outputs = await asyncio.wrap_future(computed)
        return await self._in_thread(
            lambda: self.reader.decode(asked, outputs, n_best=asking.n_best, min_confidence=asking.min_confidence)
        )

    def _in_thread(self, function: Callable[[], T]) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, function)

    def close(self) -> None:
        """Compute what waits, end the threads, and give the model's memory back."""
        self._batcher.close()
        self._pool.shutdown()
        self.reader.close()
