"""Options of the commands that keep a fine-tuned model in memory: a chat in the terminal, and a server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from experiment.options.devices import EngineOfTraining, PrecisionOptions
from experiment.options.fields import ABOVE_0, AT_LEAST_0, AT_LEAST_1, SHARE, NameOrPath, Rule
from experiment.options.model import HiddenAct, TokenizerOptions
from experiment.options.windows import Size, WindowOptions

_PORT = Rule("at least 0 and at most 65535", lambda x: 0 <= x <= 65535)
_FEW = Rule("at least 1 and at most 256", lambda x: 1 <= x <= 256)
_MAX_BYTES = Rule("at least 1024 and at most 1073741824", lambda x: 1024 <= x <= 1 << 30)


@dataclass(frozen=True, kw_only=True)
class ReadingOptions(TokenizerOptions, WindowOptions, EngineOfTraining, PrecisionOptions):
    """Model."""

    model_name_or_path: NameOrPath
    """Run directory, whose best seed answers; or a fine-tuned checkpoint, or what `export` made of one."""
    task: str | None = None
    """Task (default: the one that the model was fine-tuned for)."""
    opencc_config: str | None = None
    """OpenCC configuration that converts the text for the model (default: as in the fine-tuning)."""
    hidden_act: HiddenAct | None = None
    """Activation, if the one of the checkpoint's config is to be overruled."""
    temperature: Annotated[float, ABOVE_0] | None = None
    """Above 1 the model's confidence is lower than its probabilities, below 1 higher (default: what `calibrate` has
    found for the checkpoint, else 1)."""


@dataclass(frozen=True, kw_only=True)
class AskOptions(ReadingOptions):
    """Ask a fine-tuned model about a text, again and again, in the terminal.

    Questions are typed, or read from standard input, a line each; /help lists what else can be typed.

    Examples:
        ask --model_name_or_path runs/roberta --file article.txt
        ask --model_name_or_path runs/roberta --context 小猫住在北京。 --n_best 3
        ask --model_name_or_path runs/roberta --file article.txt < questions.txt
    """

    file: Path | None = None
    """Text file to ask about."""
    context: str | None = None
    """Text to ask about, instead of --file."""
    n_best: Size = 5
    """Answers that are listed."""
    min_confidence: Annotated[float, SHARE] = 0.0
    """Give no answer where the best one is less sure than this."""
    history: Path | None = Path("~/.cache/chinese_mrc/ask_history")
    """File that keeps the questions typed, for the arrow keys; None for none."""


@dataclass(frozen=True, kw_only=True)
class ServingLimits:
    """Limits."""

    max_body_bytes: Annotated[int, _MAX_BYTES] = 1 << 20
    """Largest request; larger ones get 413."""
    max_questions: Size = 64
    """Most questions of a request, and most documents of a question; more get 413."""
    max_request_windows: Size = 256
    """Most windows that a request's texts may be cut into; more get 413."""
    max_waiting_windows: Size = 1024
    """Most windows that wait to be computed; requests beyond get 429."""
    max_requests: Size = 256
    """Most requests that are worked on; more get 429."""
    max_connections: Size = 2048
    """Most connections; requests on more get 503."""
    read_timeout: Annotated[float, ABOVE_0] = 10.0
    """Seconds in which a request's head, and then its body, must have come, else 408."""
    answer_timeout: Annotated[float, ABOVE_0] = 60.0
    """Seconds in which a request must be answered, else 503."""


@dataclass(frozen=True, kw_only=True)
class ServeOptions(ReadingOptions, ServingLimits):
    """Answer questions over HTTP, with a web page at / and the interface described at /docs.

    Examples:
        serve --model_name_or_path runs/roberta
        serve --model_name_or_path runs/roberta --port 9000 --framework onnx --workers 4
        serve --model_name_or_path runs/roberta --host 0.0.0.0 --api_key_env READER_KEY
    """

    host: str = "127.0.0.1"
    """Address to listen at; others than this machine's own need a key (see --api_key_env)."""
    port: Annotated[int, _PORT] = 8000
    """Port to listen at; 0 for any that is free."""
    api_key_env: str = "MRC_API_KEY"
    """Environment variable that holds the key which requests must show; nothing is asked for if it is not set."""
    allow_anyone: bool = False
    """Listen at an address that others can reach without a key."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names that the server is reached by, such as reader.example.com behind a proxy; elsewhere than at a
    loopback address any is allowed if none is given."""
    workers: Annotated[int, _FEW] = 1
    """Processes, each with the model in its own memory."""
    batch_wait: Annotated[float, AT_LEAST_0] = 0.002
    """Seconds that a window waits for others to be computed with."""
    shutdown_timeout: Annotated[int, AT_LEAST_1] = 30
    """Seconds that requests may still take when the server is told to end."""
    access_log: bool = True
    """Write a line of JSON per request on standard error: when, path, status, seconds, numbers of texts."""
    log_texts: bool = False
    """Write questions, texts and answers, too."""
    language: Literal["auto", "zh", "en"] = "auto"
    """Language of the web page; auto for the browser's."""
