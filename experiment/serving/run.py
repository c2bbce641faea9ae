"""A server's processes: the socket, who listens at it, and how it ends."""

from __future__ import annotations

import ipaddress
import logging
import resource
import socket
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from uvicorn import Config, Server

from experiment.answering import Prepared
from experiment.io.streams import say
from experiment.io.terminal import warn
from experiment.launch import secret, share
from experiment.options.reading import ServeOptions
from experiment.reading.reader import Reader, prepared_of
from experiment.serving.app import create_app
from experiment.serving.guard import LOOPBACK, Guard
from experiment.serving.metrics import Metrics
from experiment.serving.patience import PatientProtocol
from experiment.serving.service import Service
from experiment.serving.workers import FAILED, end_with_parent, watch
from preprocess.base.errors import UsageError

#: Seconds that processes may take to end beyond what requests may take.
_GRACE_S = 5
#: Files that a process opens at most, connections among them: of the 1024 that many shells allow, a thousand clients
#: leave too few.
_MOST_FILES = 65536


def serve(options: ServeOptions) -> int:
    """Listen until the process is told to end, and answer what has been asked by then.

    Returns:
        0, or 2 where a process could not load the model.

    Raises:
        UsageError, DataError, CheckpointError: for options and files that can't be used.
    """
    key = secret(options.api_key_env)
    _check_address(options, key)
    prepared = prepared_of(options)
    warn(prepared.notes)
    listener = _bind(options)
    host, port = listener.getsockname()[:2]
    where = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    keyless = "" if key else ", without a key"
    say(f"{prepared.source.name} for task {prepared.task.name} at {where}{keyless}; Ctrl-C ends it")
    if options.workers == 1:
        return _listen(options, key, listener, prepared)
    with tempfile.TemporaryDirectory() as directory:
        share(options.workers, Path(directory))
        work = partial(_work, options, key, listener, directory)
        return watch(options.workers, work, directory, options.shutdown_timeout + _GRACE_S)


def _work(options: ServeOptions, key: str, listener: socket.socket, directory: str) -> None:
    """Be one of several processes."""
    end_with_parent()
    sys.exit(_listen(options, key, listener, None, directory))


def _listen(
    options: ServeOptions, key: str, listener: socket.socket, prepared: Prepared | None, directory: str | None = None
) -> int:
    _open_more_files()
    # What it says of requests that are none, and of every connection, is in the log of requests.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    # Where no file is left for a connection, asyncio tries again, and says so with a traceback each time.
    logging.getLogger("asyncio").addFilter(lambda record: "out of system resource" not in record.getMessage())
    build = partial(application, options, key, partial(start, options, prepared), directory)
    try:
        Server(config_of(build, options)).run([listener])
    except KeyboardInterrupt:  # uvicorn raises the signal again that it has ended for
        return 0
    except SystemExit:  # the model could not be loaded, and the line that says why is out
        return FAILED
    return 0


def start(options: ServeOptions, prepared: Prepared | None, metrics: Metrics) -> Service:
    """Load the model.

    Args:
        options: of the server.
        prepared: what the model answers with; None to find that out, in a process of its own.
        metrics: count what happens.

    Raises:
        UsageError, DataError, CheckpointError: for options and files that can't be used.
    """
    reader = Reader(prepared or prepared_of(options), temperature=options.temperature)
    return Service(reader, options, options.batch_wait, metrics)


def application(
    options: ServeOptions, key: str, begin: Callable[[Metrics], Service], directory: str | None = None
) -> Guard:
    """Return the application of a process.

    Args:
        options: of the server.
        key: that requests have to show; "" for none.
        begin: loads the model when the server starts.
        directory: that the processes share for their metrics.
    """
    own = {*LOOPBACK, options.host} if _is_loopback(options.host) else ()
    hosts = {*own, *options.allowed_hosts}
    return create_app(
        begin,
        metrics=Metrics(directory),
        key=key,
        hosts={host.lower() for host in hosts},
        language=options.language,
        log=options.access_log,
        log_texts=options.log_texts,
    )


def config_of(build: partial[Guard], options: ServeOptions) -> Config:
    """Return what uvicorn is told.

    Args:
        build: makes the application.
        options: of the server.
    """
    return Config(
        build,
        factory=True,
        loop="asyncio",
        http=PatientProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=options.max_connections,
        timeout_keep_alive=max(1, round(options.read_timeout)),
        timeout_graceful_shutdown=options.shutdown_timeout,
    )


def _open_more_files() -> None:
    """Let this process have as many connections as the machine allows, at least as many as it was given."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _check_address(options: ServeOptions, key: str) -> None:
    if not (key or options.allow_anyone or _is_loopback(options.host)):
        raise UsageError(
            f"--host {options.host}: others could ask without a key; set the variable {options.api_key_env}, or "
            "give --allow_anyone"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bind(options: ServeOptions) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise UsageError(f"--host {options.host} --port {options.port}: {error.strerror}; give others") from None
    listener.set_inheritable(True)
    return listener
