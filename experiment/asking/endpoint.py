"""An OpenAI-compatible endpoint: chat completions over HTTP, tried again where that may help.

The standard library is enough for one request at a time in each of a few threads. The key is sent, and is nowhere
else: wherever the server repeats it, it is taken out before anything is kept or printed.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from experiment.launch import secret
from preprocess.base.errors import UsageError
from preprocess.readers.report import shown

#: Statuses of requests that may succeed later; all of 5xx may.
_PASSING = (408, 409, 425, 429)
#: Statuses that all requests will get.
_HOPELESS = {
    401: "set the environment variable {variable} to a valid key",
    402: "the account has to be paid for",
    403: "the key of {variable} may not use this model",
    404: "check --base_url (it ends in /v1 in most cases) and --model",
}
_LONGEST_WAIT_S = 120.0
_LEAST_SECRET = 8
_LOCAL = ("localhost", "127.0.0.1", "::1")
#: More than any answer is long; what sends more is no such endpoint.
_MAX_BYTES = 16 << 20


class PassingError(RuntimeError):
    """A request failed for now; the message says how, and `wait_s` what the server asks to wait, if it does."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        """Keep both."""
        super().__init__(message)
        self.wait_s = wait_s


class RefusedError(RuntimeError):
    """The server refuses this very request, such as for its length or its content."""


@dataclass(frozen=True)
class Reply:
    """What came back for a question.

    Args:
        text: of the message; "" where it has none.
        finish_reason: why the model ended, such as "stop" or "length".
        prompt_tokens: as the server counts; 0 where it does not say.
        completion_tokens: likewise.
        model: that the server says has answered.
        seconds: that the request took, without those before it that failed.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    model: str
    seconds: float


class Endpoint:
    """Where chat completions are asked for."""

    def __init__(self, base_url: str, key_variable: str, *, timeout_s: float, max_retries: int, retry_wait_s: float):
        """Take the key from the environment; without one, requests are sent without.

        Args:
            base_url: such as "https://api.openai.com/v1".
            key_variable: name of the environment variable that holds the key.
            timeout_s: for the server to say something.
            max_retries: times that a request is sent again.
            retry_wait_s: before the first of them, doubled with each.

        Raises:
            UsageError: for an address or a key that can't be sent.
        """
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"--base_url {shown(base_url)}: an address such as http://localhost:8000/v1 was expected"
            )
        if parts.username or parts.password or parts.query or parts.fragment:
            raise UsageError(
                f"--base_url: an address without name, password, ? and # was expected; give the key in {key_variable}"
            )
        self.base_url = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
        self._variable = key_variable
        self._key = secret(key_variable)
        if not (self._key.isascii() and self._key.isprintable()):
            raise UsageError(f"{key_variable}: the key holds characters that can't be sent; set it again")
        self._timeout_s, self._max_retries, self._retry_wait_s = timeout_s, max_retries, retry_wait_s
        # No redirects: urllib would hand the key on to wherever they lead.
        local = parts.hostname in _LOCAL
        proxies = [urllib.request.ProxyHandler({})] if local else []
        self._opener = urllib.request.build_opener(_NoRedirects, *proxies)
        self.warnings = (
            [f"--base_url {self.base_url}: the key of {key_variable} is sent unencrypted"]
            if self._key and parts.scheme == "http" and not local
            else []
        )

    def ask(self, body: Mapping[str, Any], stopped: threading.Event) -> Reply:
        """Ask for a completion, again and again where that may help.

        Args:
            body: the request.
            stopped: ends the waiting.

        Raises:
            UsageError: if no request can succeed.
            RefusedError: if this one can't.
            PassingError: if it has failed too often, or waiting was ended.
        """
        for n_failed in range(self._max_retries + 1):
            try:
                return self._ask_once(body)
            except PassingError as error:
                if n_failed == self._max_retries:
                    raise
                # Not all threads at once: they would fail together again.
                backoff = self._retry_wait_s * 2**n_failed * random.uniform(0.75, 1.25)
                wait_s = min(max(error.wait_s or 0.0, backoff), _LONGEST_WAIT_S)
                if stopped.wait(wait_s):
                    raise
        raise AssertionError("the last try returns or raises")

    def _ask_once(self, body: Mapping[str, Any]) -> Reply:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "chinese-mrc"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", "backslashreplace")
        request = urllib.request.Request(f"{self.base_url}/chat/completions", content, headers, method="POST")
        begun = time.perf_counter()
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                text = self._text(response.read(_MAX_BYTES))
        except urllib.error.HTTPError as error:
            raise self._error_of(error) from None
        except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
            reason = getattr(error, "reason", None) or error
            raise PassingError(self._hidden(f"no answer ({reason or type(error).__name__})")) from None
        return _reply_of(text, time.perf_counter() - begun)

    def _text(self, content: bytes) -> str:
        return self._hidden(content.decode("utf-8", "replace"))

    def _hidden(self, text: str) -> str:
        """Return a text without the key."""
        # What is shorter is no secret ("EMPTY" is what local servers are given), and may be part of an answer.
        return text.replace(self._key, "***") if len(self._key) >= _LEAST_SECRET else text

    def _error_of(self, error: urllib.error.HTTPError) -> Exception:
        try:
            said = _message_of(self._text(error.read(_MAX_BYTES)))
        except (OSError, http.client.HTTPException):
            said = ""
        what = f"HTTP {error.code}" + (f" ({shown(said)})" if said else "")
        where = f"--base_url {self.base_url}"
        if error.code in _HOPELESS:
            return UsageError(f"{where}: {what}; {_HOPELESS[error.code].format(variable=self._variable)}")
        if 300 <= error.code < 400:
            to = self._hidden(error.headers.get("Location", "elsewhere"))
            return UsageError(
                f"{where}: {what} leads to {shown(to)}; give that address, if you trust it with the key"
            )
        if error.code in _PASSING or error.code >= 500:
            return PassingError(what, _asked_wait(error.headers.get("Retry-After")))
        return RefusedError(what)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _asked_wait(header: str | None) -> float | None:
    """Return the seconds that a server asks to wait: a number, or a time of day."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _message_of(text: str) -> str:
    """Return what a server says of an error, in one line."""
    try:
        error = json.loads(text)["error"]
        text = str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    return " ".join(text.split())


def _reply_of(text: str, seconds: float) -> Reply:
    """Understand a completion.

    Raises:
        PassingError: if it is none; gateways send pages of HTML when what is behind them is not there.
    """
    try:
        values = json.loads(text)
        choice = values["choices"][0]
        content = choice["message"].get("content")
        usage = values.get("usage") or {}
        if isinstance(content, list):
            content = "".join(part.get("text", "") for part in content)
        if not isinstance(content, str | None):
            raise TypeError
        return Reply(
            text=content or "",
            finish_reason=str(choice.get("finish_reason") or ""),
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
            model=str(values.get("model") or ""),
            seconds=round(seconds, 3),
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError):
        start = " ".join(text[:60].split())
        raise PassingError(f"the reply is no chat completion (it begins {start!r})") from None
