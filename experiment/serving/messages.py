"""The body of a request, strictly read, and what is answered."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any, NamedTuple, NoReturn

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from experiment.reading.results import Question, Result
from experiment.serving.refusals import Refused
from preprocess.text.offsets import is_unicode

_Id = Annotated[str, Field(max_length=256, description="comes back with the answer")]
_NBest = Annotated[int, Field(ge=1, le=100, description="alternatives to list")]
_Share = Annotated[float, Field(ge=0, le=1, description="where the best answer is less sure, there is none")]
#: Longest message; names of fields that do not exist could be of any length.
_LONGEST = 300


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class OneQuestion(_Strict):
    """A question, and the text or the documents that answer it."""

    question: str
    context: str | None = Field(None, description="the text; or give documents")
    documents: Annotated[list[str], Field(min_length=1)] | None = Field(None, description="texts that compete")
    options: list[str] = Field([], description="answers to choose from, for tasks with such")
    id: _Id = ""


class AskOne(OneQuestion):
    """A request with one question."""

    n_best: _NBest = 5
    min_confidence: _Share = 0.0


class AskMany(_Strict):
    """A request with several questions."""

    questions: Annotated[list[OneQuestion], Field(min_length=1)]
    n_best: _NBest = 5
    min_confidence: _Share = 0.0


class AlternativeBody(BaseModel):
    """An entry of an n-best list."""

    text: str
    char_start: int
    char_end: int
    document: int
    confidence: float


class WindowBody(BaseModel):
    """A part of a document that was read at once."""

    document: int
    char_start: int
    char_end: int


class AnswerBody(BaseModel):
    """An answer; places count the code points of the document, and are -1 where there is none."""

    id: str
    answered: bool
    text: str
    kind: str
    char_start: int
    char_end: int
    document: int
    confidence: float
    n_best: list[AlternativeBody]
    windows: list[WindowBody]
    question_cut: bool
    value: Any = Field(None, description="of tasks whose answers are more than a text: parts, evidence, entities")


class AnswersBody(BaseModel):
    """The answers, in the order of the questions."""

    model: str
    task: str
    answers: list[AnswerBody]


class ErrorBody(BaseModel):
    """Why a request was not answered, in one line."""

    error: str


class Asking(NamedTuple):
    """What a request asks."""

    questions: list[Question]
    n_best: int
    min_confidence: float


_ONE, _MANY = TypeAdapter(AskOne), TypeAdapter(AskMany)


def read_body(content: bytes) -> Asking:
    """Read the body of a request.

    Raises:
        Refused: with 400 for what is not JSON, 422 for JSON that asks nothing.
    """
    value = _parse(content)
    if not isinstance(value, dict):
        raise Refused(422, "a JSON object was expected")
    try:
        if "questions" in value:
            many = _MANY.validate_python(value)
            return Asking([_question(each, f"questions.{n}.") for n, each in enumerate(many.questions)], *_rest(many))
        one = _ONE.validate_python(value)
        return Asking([_question(one, "")], *_rest(one))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise Refused(422, f"{place}: {problem['msg']}"[:_LONGEST]) from None


def answers_body(model: str, task: str, results: list[Result]) -> dict[str, Any]:
    """Return the body of an answer."""
    return {"model": model, "task": task, "answers": [asdict(result) for result in results]}


def _parse(content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise Refused(400, f"not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise Refused(400, f"not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise Refused(400, "JSON nested too deeply") from None
    except ValueError:  # an integer of more digits than Python converts
        raise Refused(400, "JSON with a number that can't be read") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise Refused(400, "an object has a key twice")
    return made


def _no_constant(name: str) -> NoReturn:
    raise Refused(400, f"not JSON: {name}")


def _question(asked: OneQuestion, where: str) -> Question:
    if (asked.context is None) == (asked.documents is None):
        raise Refused(422, f"{where}context: either context or documents was expected")
    context = asked.context if asked.documents is None else asked.documents
    assert context is not None
    texts = [asked.id, asked.question, *asked.options, *([context] if isinstance(context, str) else context)]
    if not all(map(is_unicode, texts)):
        raise Refused(422, f"{where}question: a text holds half of a character (an unpaired surrogate)")
    return Question(asked.question, context, asked.options, asked.id)


def _rest(asked: AskOne | AskMany) -> tuple[int, float]:
    return asked.n_best, asked.min_confidence
