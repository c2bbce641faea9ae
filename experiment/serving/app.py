"""The application: addresses, and what each answers."""

from __future__ import annotations

import json
import traceback
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from experiment.io.streams import say
from experiment.serving.guard import Door, Guard
from experiment.serving.messages import AnswersBody, Asking, AskMany, AskOne, ErrorBody, answers_body, read_body
from experiment.serving.metrics import CONTENT_TYPE, Metrics
from experiment.serving.pages import Page, read_pages
from experiment.serving.refusals import Refused
from experiment.serving.service import Service
from preprocess.base.errors import CheckpointError, DataError, UsageError

_ASK = "/v1/answer"
_SCHEMA = "#/components/schemas/{model}"
#: Why a server may not start, each said in a line.
_MISTAKES = (UsageError, DataError, CheckpointError, OSError, MemoryError)
_STATUSES = {
    400: "not JSON, or not UTF-8", 401: "no key, or another one", 408: "the body came too slowly",
    413: "too much at once", 415: "not application/json", 422: "JSON that asks nothing",
    429: "busy: try again", 503: "not ready, or not answered in time",
}  # fmt: skip


def create_app(
    start: Callable[[Metrics], Service],
    *,
    metrics: Metrics,
    key: str = "",
    hosts: Collection[str] = (),
    language: str = "auto",
    log: bool = False,
    log_texts: bool = False,
) -> Guard:
    """Return the application, for an ASGI server.

    Args:
        start: makes the service; called when the server starts.
        metrics: count requests.
        key: that requests have to show, pages apart; "" for none.
        hosts: names that the server may be reached by; empty for any.
        language: of the page: "auto", "zh" or "en".
        log: whether a line is written per request.
        log_texts: whether lines hold questions, texts and answers.
    """
    pages = read_pages()
    started: list[Service] = []

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            service = start(metrics)
        except _MISTAKES as error:
            say(f"error: {error}")
            raise
        started.append(service)
        yield
        started.clear()
        service.close()
        metrics.close()

    app = FastAPI(
        title="Chinese MRC reader", description="Answers questions with slices of the text that is given.",
        version="1", docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan,
    )  # fmt: skip

    def service() -> Service:
        if not started or not started[0].ready:
            raise Refused(503, "the model is not ready", {"Retry-After": "1"})
        return started[0]

    @app.exception_handler(Refused)
    async def refuse(_request: Request, refused: Refused) -> Response:
        return JSONResponse({"error": refused.message}, refused.status, refused.headers)

    @app.exception_handler(HTTPException)
    async def refuse_address(_request: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)

    errors: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorBody, "description": said} for status, said in _STATUSES.items()
    }
    schemas = [{"$ref": _SCHEMA.format(model=model.__name__)} for model in (AskOne, AskMany)]
    body = {"content": {"application/json": {"schema": {"oneOf": schemas}}}}

    @app.post(
        _ASK, responses={200: {"model": AnswersBody}, **errors},
        openapi_extra={"requestBody": {"required": True, **body}},
    )  # fmt: skip
    async def answer(request: Request) -> Response:
        """Answer one question, or many at once."""
        try:
            return await _answer(service(), request, log_texts)
        except Refused:
            raise
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        except Exception as error:
            # A message may hold a text: where it was raised has to be enough.
            frames = traceback.extract_tb(error.__traceback__)
            places = "; ".join(f"{frame.filename}:{frame.lineno}" for frame in frames[-3:])
            say(f"error: {type(error).__name__}{f': {error}' if log_texts else ''} at {places}")
            raise Refused(500, "internal error") from None

    @app.get("/v1/about")
    async def about() -> dict[str, Any]:
        """Say which model answers, and what it takes."""
        return _about(service())

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Say that the process lives."""
        return {"status": "ok"}

    @app.get("/readyz", responses={503: errors[503]})
    async def readyz() -> dict[str, str]:
        """Say whether questions would be answered."""
        service()
        return {"status": "ready"}

    @app.get("/metrics", response_class=Response)
    async def read_metrics() -> Response:
        """Return counters, as Prometheus reads them."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    settings = json.dumps({"language": language, "key": bool(key)}).encode()
    for address, page in {**pages, "/settings.json": Page(settings, "application/json")}.items():
        app.add_api_route(address, partial(_page, page), methods=["GET"], include_in_schema=False)
    openapi = app.openapi

    def described() -> dict[str, Any]:
        schema = openapi()
        for model in (AskOne, AskMany):
            own = model.model_json_schema(ref_template=_SCHEMA)
            schema["components"]["schemas"] |= {**own.pop("$defs", {}), model.__name__: own}
        return schema

    app.openapi = described  # type: ignore[method-assign]
    open_paths = (*pages, "/settings.json", "/openapi.json", "/healthz", "/readyz")
    known = {*open_paths, _ASK, "/v1/about", "/metrics"}
    return Guard(app, door=Door(key, hosts, open_paths), metrics=metrics, known=known, log=log)


async def _answer(service: Service, request: Request, log_texts: bool) -> Response:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" or request.headers.get("content-encoding", "identity") != "identity":
        # Also because pages of others may send forms here, and not this.
        raise Refused(415, "Content-Type: application/json was expected, without a Content-Encoding")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > service.limits.max_body_bytes:
        raise service.too_large()
    with service.admitted():
        parts = request.stream()

        async def receive() -> bytes | None:
            return await anext(parts, None)

        asking = read_body(await service.read(receive))
        results = await service.answer(asking)
    facts: dict[str, Any] = {"questions": len(results), "windows": sum(len(each.windows) for each in results)}
    if log_texts:
        facts["asked"] = _texts(asking)
        facts["answers"] = [result.text for result in results]
    request.scope["mrc"] = facts
    return JSONResponse(answers_body(service.reader.name, service.reader.task, results))


def _texts(asking: Asking) -> list[dict[str, Any]]:
    return [asdict(question) for question in asking.questions]


def _about(service: Service) -> dict[str, Any]:
    prepared, limits = service.reader.prepared, service.limits
    told = ("max_body_bytes", "max_questions", "max_request_windows")
    return {
        "model": service.reader.name,
        "task": prepared.task.name,
        "title": prepared.task.title,
        "inputs": list(prepared.task.inputs),
        "max_seq_length": prepared.recipe.max_seq_length,
        "documents": any(output.loss == "position" for output in prepared.task.problem.head.outputs),
        "limits": {name: getattr(limits, name) for name in told},
    }


async def _page(page: Page) -> Response:
    return Response(page.content, media_type=page.content_type)
