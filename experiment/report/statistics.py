"""How sure a score is, and whether two models differ: bootstrap over the questions, seeds as a random effect.

A model's score is its mean over questions and seeds. What it estimates is the score that training with a further seed
would reach on average, on further questions of the same kind. So two things are drawn at random: the contexts, whose
questions stand or fall together, and the seeds. The variance of the mean has a part for each (Searle, Casella and
McCulloch, Variance Components, 1992, section 4.7: the crossed two-way model, contexts in place of rows), and

* the questions' part is resampled: a bootstrap of the contexts, studentised, since scores near 100 % are skewed;
* the seeds' part has a handful of values, of which no resampling makes more: it gets the tails of a t distribution,
  with seeds - 1 degrees of freedom divided by the seeds' share of the variance.

`docs/leaderboard.md` says it in plain words and holds the measured coverage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
N_RESAMPLES = 10_000
#: The draws are the same for every table: a number must not move because the table was printed again.
_RANDOM_SEED = 20181017
_CHUNK = 500
#: Share of the whole sample's variance in a resample's, which may have none: near 100 % few are wrong.
_STEADYING = 0.1
#: Least share of the variance given the seeds. With all of it 2 % of equal models would differ instead of 5 %.
_LEAST = 0.5


@dataclass(frozen=True)
class Interval:
    """Where the mean lies.

    Args:
        low: lower end, in the unit of the scores.
        high: upper end.
        over_seeds: whether the seeds' part is in it; there is none of a single seed.
    """

    low: float
    high: float
    over_seeds: bool

    def holds(self, value: float) -> bool:
        """Whether a value lies in it."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Comparison:
    """One model against another on the same questions.

    Args:
        difference: of the means, first minus second.
        interval: of the difference.
        p: two-sided p value of no difference.
    """

    difference: float
    interval: Interval
    p: float


@dataclass(frozen=True)
class Sample:
    """Scores of one model in one metric.

    Args:
        values: float [n_questions, n_seeds].
        groups: int [n_questions], number of each question's context, from 0 without gaps.
    """

    values: NDArray[np.float64]
    groups: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Refuse what has no mean.

        Raises:
            ValueError: if there is no question or seed, a value is not finite, or a question has no context.
        """
        if self.values.ndim != 2 or not self.values.size or not np.isfinite(self.values).all():
            raise ValueError(f"finite scores [n_questions, n_seeds] were expected, found shape {self.values.shape}")
        if self.groups.shape != self.values.shape[:1]:
            raise ValueError(f"{len(self.groups)} contexts for {len(self.values)} questions")

    @property
    def n_seeds(self) -> int:
        """Number of seeds."""
        return self.values.shape[1]

    @cached_property
    def mean(self) -> float:
        """Mean over questions and seeds."""
        return float(self.values.mean())

    @cached_property
    def table(self) -> NDArray[np.float64]:
        """What each context and seed adds to the mean, [n_groups, n_seeds]: the mean of the table is 0.

        A context with many questions counts for more, so that the mean over the table is that over the questions.
        """
        n_questions = np.bincount(self.groups)
        sums = np.stack([np.bincount(self.groups, column) for column in self.values.T], axis=1)
        result: NDArray[np.float64] = (sums - n_questions[:, None] * self.mean) * (
            len(n_questions) / len(self.values)
        )
        return result

    @cached_property
    def seeds_variance(self) -> float:
        """Variance that the seeds add to the mean, with what they answer differently by chance; 0 of one seed."""
        if self.n_seeds < 2:
            return 0.0
        return float(self.table.mean(axis=0).var(ddof=1)) / self.n_seeds

    @cached_property
    def interaction_variance(self) -> float:
        """Variance of the mean by what seeds answer differently from each other, context by context; 0 of one seed.

        It is part of the variance between contexts and of that between seeds, and must count once.
        """
        if self.n_seeds < 2:
            return 0.0
        n_groups, n_seeds = self.table.shape
        rest = self.table - self.table.mean(axis=1, keepdims=True) - self.table.mean(axis=0)
        return float((rest**2).sum()) / ((n_groups - 1) * (n_seeds - 1)) / (n_groups * n_seeds)


def intervals(samples: Sequence[Sample], *, level: float = LEVEL, n_resamples: int = N_RESAMPLES) -> list[Interval]:
    """Return the interval of each sample's mean; all are of the same contexts.

    Raises:
        ValueError: if there are fewer than two contexts.
    """
    return [estimate.interval(level) for estimate in _estimates([_of_one(sample) for sample in samples], n_resamples)]


def compare(
    pairs: Sequence[tuple[Sample, Sample]], *, level: float = LEVEL, n_resamples: int = N_RESAMPLES
) -> list[Comparison]:
    """Compare two models each, which have answered the same questions.

    A model with one seed is taken to vary with the seed as the other one does. Of two such models only what the
    questions say is known.

    Raises:
        ValueError: if the questions of a pair differ, or there are fewer than two contexts.
    """
    for first, second in pairs:
        if not np.array_equal(first.groups, second.groups):
            raise ValueError("two models can be compared on the same questions only")
    estimates = _estimates([_of_two(first, second) for first, second in pairs], n_resamples)
    return [Comparison(each.parts.mean, each.interval(level), each.p) for each in estimates]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p values of a family of tests by Holm's step-down method (1979)."""
    order = np.argsort(p_values, kind="stable")
    n, running, adjusted = len(p_values), 0.0, [0.0] * len(p_values)
    for rank, place in enumerate(order):
        running = max(running, min(1.0, (n - rank) * p_values[place]))
        adjusted[place] = running
    return adjusted


@dataclass(frozen=True)
class _Parts:
    """What is estimated, and what its variance is made of.

    Args:
        mean: the estimate.
        by_group: what each context adds to it, [n_groups], mean 0.
        questions_variance: its variance by the contexts, without what counts among the seeds.
        seeds: variance by the seeds and its degrees of freedom, a pair for each model.
    """

    mean: float
    by_group: NDArray[np.float64]
    questions_variance: float
    seeds: tuple[tuple[float, int], ...]

    @property
    def seeds_variance(self) -> float:
        return sum(variance for variance, _ in self.seeds)

    @property
    def degrees_of_freedom(self) -> float:
        """Those of the seeds (Welch and Satterthwaite), and the more, the less their variance counts."""
        if not self.seeds_variance:
            return np.inf
        of_seeds = self.seeds_variance**2 / sum(variance**2 / df for variance, df in self.seeds)
        return of_seeds * (self.questions_variance + self.seeds_variance) / self.seeds_variance


def _variance_of_mean(by_group: NDArray[np.float64]) -> float:
    if len(by_group) < 2:
        raise ValueError("the questions of one context say nothing about others")
    return float(by_group.var(ddof=1)) / len(by_group)


def _of_one(sample: Sample) -> _Parts:
    by_group = sample.table.mean(axis=1)
    seeds = ((sample.seeds_variance, sample.n_seeds - 1),) if sample.n_seeds > 1 else ()
    return _Parts(sample.mean, by_group, _of_questions(by_group, sample.interaction_variance, seeds), seeds)


def _of_questions(by_group: NDArray[np.float64], interaction: float, seeds: Sequence[tuple[float, int]]) -> float:
    """Return the variance by the contexts without the chance differences that count among the seeds.

    The whole is at least half of what it would be if there were no other seeds than these: seeds whose means are
    equal by luck make nothing certain.
    """
    given_the_seeds = _variance_of_mean(by_group)
    of_seeds = sum(variance for variance, _ in seeds)
    return max(0.0, given_the_seeds - interaction, _LEAST * given_the_seeds - of_seeds)


def _of_two(first: Sample, second: Sample) -> _Parts:
    by_group = first.table.mean(axis=1) - second.table.mean(axis=1)
    several = [sample for sample in (first, second) if sample.n_seeds > 1]
    # A single seed is one of those that the other model has: its mean varies n_seeds times as much as theirs.
    times = [1 + sample.n_seeds if len(several) == 1 else 1 for sample in several]
    interaction = sum(n * sample.interaction_variance for n, sample in zip(times, several, strict=True))
    seeds = tuple((n * sample.seeds_variance, sample.n_seeds - 1) for n, sample in zip(times, several, strict=True))
    return _Parts(first.mean - second.mean, by_group, _of_questions(by_group, interaction, seeds), seeds)


@dataclass(frozen=True)
class _Estimate:
    """A mean with draws of how far it may lie from the truth."""

    parts: _Parts
    errors: NDArray[np.float64] = field(repr=False)

    def interval(self, level: float) -> Interval:
        tail = (1 - level) / 2
        low, high = np.quantile(self.errors, (tail, 1 - tail))
        return Interval(self.parts.mean - float(high), self.parts.mean - float(low), bool(self.parts.seeds))

    @property
    def p(self) -> float:
        as_far = np.count_nonzero(np.abs(self.errors) >= abs(self.parts.mean))
        # The observed difference is one more draw: no p value is 0.
        return float((as_far + 1) / (len(self.errors) + 1))


def _estimates(all_parts: Sequence[_Parts], n_resamples: int) -> list[_Estimate]:
    if not all_parts:
        return []
    residuals = np.stack([parts.by_group for parts in all_parts], axis=1)
    draws = _studentised(residuals, n_resamples)
    return [_Estimate(parts, _errors(parts, t)) for parts, t in zip(all_parts, draws.T, strict=True)]


def _errors(parts: _Parts, t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return draws of estimate - truth: the questions' from the bootstrap, the seeds', and the tails of few seeds."""
    # Each estimate draws from the beginning: its numbers do not depend on what else stands in the table.
    random = np.random.default_rng(_RANDOM_SEED)
    errors = np.sqrt(parts.questions_variance) * t
    if parts.seeds:
        errors = errors + np.sqrt(parts.seeds_variance) * random.standard_normal(len(t))
        df = parts.degrees_of_freedom
        if np.isfinite(df):
            errors = errors * np.sqrt(df / random.chisquare(df, len(t)))
    return errors


def _studentised(residuals: NDArray[np.float64], n_resamples: int) -> NDArray[np.float64]:
    """Return bootstrap draws of mean / standard error, for each column of residuals with mean 0.

    Args:
        residuals: [n_groups, n_columns].
        n_resamples: how many.

    Returns:
        [n_resamples, n_columns]; 0 where all residuals of a column are.
    """
    n_groups = len(residuals)
    random = np.random.default_rng(_RANDOM_SEED)
    squares = residuals**2
    whole = squares.mean(axis=0) / (n_groups - 1)
    scale = np.where(whole > 0, whole, 1.0)
    parts = []
    for begin in range(0, n_resamples, _CHUNK):
        n = min(_CHUNK, n_resamples - begin)
        drawn = random.integers(0, n_groups, (n, n_groups), dtype=np.int64)
        drawn += np.arange(n)[:, None] * n_groups
        counts = np.bincount(drawn.ravel(), minlength=n * n_groups).reshape(n, n_groups).astype(np.float64)
        means = counts @ residuals / n_groups
        variances = (counts @ squares / n_groups - means**2) / (n_groups - 1)
        parts.append(means / np.sqrt((1 - _STEADYING) * variances + _STEADYING * scale))
    return np.concatenate(parts)
