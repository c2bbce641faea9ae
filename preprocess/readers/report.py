"""What a reader found in one data file: every question is kept or dropped for a counted, typed reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Examples printed per kind of problem; `to_json` holds all ids.
EXAMPLES_PER_KIND = 3
#: Ids printed of a note that needs no words.
_IDS_PER_KIND = 5
#: Problems of a file that hide questions: what has no "qas" list holds none that could be counted.
_LOST_KINDS = ("article_malformed", "paragraph_malformed")
#: Longest part of a problem that is shown; a damaged file can have an id of megabytes.
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Problem:
    """One oddity of a data file, in words.

    Args:
        id: question id, or the place in the file where there is none.
        kind: the reason or note it is counted under.
        found: what the file holds.
        expected: what it should hold.
        remedy: what was done, or what the user can do.
    """

    id: str
    kind: str
    found: str
    expected: str
    remedy: str

    def __str__(self) -> str:
        """Return the problem as one printable line."""
        parts = [shown(part) for part in (self.id, self.expected, self.found, self.remedy)]
        return f"{parts[0]}: {self.kind}: expected {parts[1]}, found {parts[2]}; {parts[3]}"


def shown(text: str) -> str:
    r"""Return text that may come from a damaged file for one line of a message: clipped, "\n" for a line break."""
    clipped = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in clipped)


@dataclass(slots=True)
class DataReport:
    """What became of each question of one file: `n_kept` plus all dropped ids is `n_questions`.

    Args:
        file: the path as given.
        n_articles: articles (original layout: contexts) in the file.
        n_contexts: paragraphs with a text.
        n_questions: entries of all "qas" lists.
        n_kept: questions that became an Example.
        dropped: reason -> ids of the questions dropped for it.
        notes: kind -> ids of kept questions, one entry per answer (or question) that the note is about.
        problems: the same in words, in file order; notes that need no words have none.
        layout: what the file's layout is called.
        sha256: of the bytes that were read, in hexadecimal digits.
    """

    file: str
    n_articles: int = 0
    n_contexts: int = 0
    n_questions: int = 0
    n_kept: int = 0
    dropped: dict[str, list[str]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    layout: str = ""
    sha256: str = ""

    def drop(self, reason: str, id: str, found: str, expected: str) -> None:
        """Count a question that is not used."""
        self.dropped.setdefault(reason, []).append(id)
        self.problems.append(Problem(id, reason, found, expected, "question dropped"))

    def note(self, kind: str, id: str, problem: Problem | None = None) -> None:
        """Count a repair or an oddity of a question that is kept."""
        self.notes.setdefault(kind, []).append(id)
        if problem is not None:
            self.problems.append(problem)

    @property
    def lost(self) -> bool:
        """Whether questions are not used, or articles and paragraphs whose questions can't be counted."""
        return bool(self.dropped) or any(problem.kind in _LOST_KINDS for problem in self.problems)

    def to_json(self) -> dict[str, Any]:
        """Return counts and ids as JSON-able values."""
        return {
            "file": self.file,
            "layout": self.layout,
            "sha256": self.sha256,
            "n_articles": self.n_articles,
            "n_contexts": self.n_contexts,
            "n_questions": self.n_questions,
            "n_kept": self.n_kept,
            "dropped": _counted(self.dropped),
            "notes": _counted(self.notes),
        }

    def lines(self, limit: int | None = EXAMPLES_PER_KIND) -> list[str]:
        """Return the report as lines for printing: all counts, `limit` problems of each kind (None: all, and ids)."""
        lines = [
            f"{self.file}: {self.n_articles} articles, {self.n_contexts} contexts, {self.n_questions} questions, "
            f"{self.n_kept} kept, {self.n_questions - self.n_kept} dropped"
        ]
        by_kind: dict[str, list[Problem]] = {}
        for problem in self.problems:
            by_kind.setdefault(problem.kind, []).append(problem)
        for title, groups in (("dropped", self.dropped), ("note", self.notes)):
            for kind, ids in sorted(groups.items()):
                unique = list(dict.fromkeys(ids))
                lines.append(f"  {title} {kind}: {len(ids)} in {len(unique)} questions")
                problems = by_kind.pop(kind, [])
                lines += dict.fromkeys(f"    {problem}" for problem in problems[:limit])
                if limit is None and not problems:
                    more = f" and {len(unique) - _IDS_PER_KIND} more" if len(unique) > _IDS_PER_KIND else ""
                    lines.append("    " + ", ".join(map(shown, unique[:_IDS_PER_KIND])) + more)
        lines += [f"  {problem}" for problems in by_kind.values() for problem in problems]
        return lines


def merged(reports: Sequence[DataReport], sha256: str) -> DataReport:
    """Return one report on files that are read as one.

    Args:
        reports: of each, in order; ids and places are those in their own file.
        sha256: of all of them.
    """
    whole = DataReport(", ".join(report.file for report in reports), sha256=sha256)
    whole.layout = ", ".join(dict.fromkeys(report.layout for report in reports))
    for report in reports:
        whole.n_articles += report.n_articles
        whole.n_contexts += report.n_contexts
        whole.n_questions += report.n_questions
        whole.n_kept += report.n_kept
        for groups, more in ((whole.dropped, report.dropped), (whole.notes, report.notes)):
            for kind, ids in more.items():
                groups.setdefault(kind, []).extend(ids)
        whole.problems += report.problems
    return whole


def _counted(groups: Mapping[str, list[str]]) -> dict[str, dict[str, Any]]:
    return {
        kind: {"count": len(ids), "questions": len(unique), "ids": unique}
        for kind, ids in sorted(groups.items())
        for unique in [list(dict.fromkeys(ids))]
    }
