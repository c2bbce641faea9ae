"""Intervals and tests against scipy, an independent implementation, and simulations whose truth is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests

from experiment.report.clusters import contexts_of
from experiment.report.statistics import Sample, compare, holm, intervals


def normal(n_questions, n_seeds, *, of_question=0.0, of_seed=0.0, noise=1.0, mean=0.0, seed=0):
    """Return a Sample of normal scores, each question its own context."""
    random = np.random.default_rng(seed)
    values = mean + of_question * random.standard_normal((n_questions, 1))
    values = (
        values + of_seed * random.standard_normal(n_seeds) + noise * random.standard_normal((n_questions, n_seeds))
    )
    return Sample(values, np.arange(n_questions))


def answers(random, contexts, n_seeds, *, of_seed, threshold=0.8, of_model=0.0, difficulty=None):
    """Return 0/1 answers [n_questions, n_seeds] of a model; questions of a context are alike, and so is a seed.

    Args:
        random: generator.
        contexts: of each question.
        n_seeds: runs of the model.
        of_seed: how much runs differ.
        threshold: of a latent normal variable; the larger, the more answers are right.
        of_model: how much the model finds other questions hard than the other one.
        difficulty: of each question, where two models share it.
    """
    if difficulty is None:
        difficulty = shared_difficulty(random, contexts)
    own = of_model * random.standard_normal(len(contexts))
    latent = (threshold + difficulty + own)[:, None] + of_seed * random.standard_normal(n_seeds)
    return (latent + random.standard_normal(latent.shape) > 0).astype(float)


OF_CONTEXT, OF_QUESTION = 0.7, 0.8


def shared_difficulty(random, contexts):
    of_context = OF_CONTEXT * random.standard_normal(contexts.max() + 1)
    return of_context[contexts] + OF_QUESTION * random.standard_normal(len(contexts))


def true_mean(of_seed, threshold=0.8):
    """Return the share of right answers over all questions and seeds that could be drawn."""
    return stats.norm.cdf(threshold / np.sqrt(1 + OF_CONTEXT**2 + OF_QUESTION**2 + of_seed**2))


def some_contexts(random, n, sizes):
    return np.repeat(np.arange(n), random.choice(sizes, n))


# By hand, and against others


def test_variances_are_those_of_the_two_way_table_worked_out_with_loops():
    """Three contexts of 1, 2 and 3 questions, two seeds; the formulas of an analysis of variance, cell by cell."""
    random = np.random.default_rng(5)
    sizes, n_seeds = [1, 2, 3], 2
    groups = np.repeat(np.arange(3), sizes)
    values = random.random((6, n_seeds))
    sample = Sample(values, groups)
    grand = sum(values[q][s] for q in range(6) for s in range(n_seeds)) / 12
    cell = [[0.0] * n_seeds for _ in sizes]
    for q, s in itertools.product(range(6), range(n_seeds)):
        cell[groups[q]][s] += (values[q][s] - grand) * 3 / 6
    by_seed = [sum(cell[g][s] for g in range(3)) / 3 for s in range(n_seeds)]
    by_group = [sum(row) / n_seeds for row in cell]
    between_seeds = sum(m**2 for m in by_seed) / (n_seeds - 1)
    rest = sum((cell[g][s] - by_group[g] - by_seed[s]) ** 2 for g in range(3) for s in range(n_seeds))
    assert sample.mean == pytest.approx(grand)
    assert sample.table == pytest.approx(np.array(cell))
    assert sample.seeds_variance == pytest.approx(between_seeds / n_seeds)
    assert sample.interaction_variance == pytest.approx(rest / (2 * (n_seeds - 1)) / (3 * n_seeds))


def test_interval_of_one_seed_is_that_of_students_t():
    sample = normal(400, 1, mean=0.5)
    (interval,) = intervals([sample])
    low, high = stats.ttest_1samp(sample.values[:, 0], 0).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.006)
    assert not interval.over_seeds


def test_interval_of_skewed_scores_is_that_of_scipys_bootstrap():
    """97 of 100 right: a symmetric interval would reach above what the bootstrap of scipy says."""
    values = (np.random.default_rng(3).random((600, 1)) < 0.97).astype(float)
    (interval,) = intervals([Sample(values, np.arange(600))])
    theirs = stats.bootstrap((values[:, 0],), np.mean, method="BCa", n_resamples=9999, rng=0).confidence_interval
    assert (interval.low, interval.high) == pytest.approx((theirs.low, theirs.high), abs=0.003)
    assert interval.high - values.mean() < values.mean() - interval.low


def test_interval_of_questions_that_are_all_alike_is_that_of_the_seeds():
    sample = normal(50, 4, of_seed=1.0, noise=0.0)
    (interval,) = intervals([sample])
    low, high = stats.ttest_1samp(sample.values.mean(axis=0), 0).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=0.06)
    assert interval.over_seeds


def test_p_of_one_seed_each_is_that_of_the_paired_t_test():
    for shift in (0.0, 0.05, 0.15):
        first, second = normal(300, 1, seed=1), normal(300, 1, mean=shift, seed=2)
        (comparison,) = compare([(first, second)])
        theirs = stats.ttest_rel(first.values[:, 0], second.values[:, 0])
        assert comparison.difference == pytest.approx(first.mean - second.mean)
        assert comparison.p == pytest.approx(theirs.pvalue, abs=0.02)


def test_p_of_questions_that_are_all_alike_is_that_of_welchs_test_over_seeds():
    for shift in (0.5, 1.5, 3.0):
        first, second = (
            normal(50, 5, of_seed=1.0, noise=0.0),
            normal(50, 4, of_seed=2.0, noise=0.0, mean=shift, seed=9),
        )
        (comparison,) = compare([(first, second)])
        theirs = stats.ttest_ind(first.values.mean(axis=0), second.values.mean(axis=0), equal_var=False)
        assert comparison.p == pytest.approx(theirs.pvalue, abs=0.025)


def test_pairing_finds_what_two_intervals_that_overlap_hide():
    random = np.random.default_rng(0)
    contexts = np.arange(800)
    difficulty = 3 * shared_difficulty(random, contexts)
    better, worse = (
        Sample(answers(random, contexts, 3, of_seed=0.0, threshold=t, difficulty=difficulty), contexts)
        for t in (1.0, 0.6)
    )
    (comparison,) = compare([(better, worse)])
    first, second = intervals([better, worse])
    assert second.high > first.low
    assert comparison.p < 0.01 and comparison.interval.low > 0


def test_holm_by_hand():
    """0.01 × 4, 0.02 × 3, then 0.03 × 2 = 0.06, and 0.5; none may be below one before it."""
    assert holm([0.02, 0.5, 0.01, 0.03]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_is_its_definition_on_random_p_values():
    """Reject in order of p while p(i) ≤ α / (n - i): the adjusted value is the least α that rejects."""
    p_values = list(np.random.default_rng(1).random(7) ** 3)
    adjusted = holm(p_values)
    for alpha in np.linspace(0.001, 0.999, 200):
        rejected = set()
        for rank, place in enumerate(np.argsort(p_values)):
            if p_values[place] > alpha / (len(p_values) - rank):
                break
            rejected.add(int(place))
        assert {i for i, p in enumerate(adjusted) if p <= alpha} == rejected


def test_holm_is_statsmodels():
    for seed in range(20):
        p_values = list(np.random.default_rng(seed).random(9) ** 2)
        assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]), abs=1e-12)


def test_questions_of_a_context_count_as_in_a_regression_with_clusters():
    """statsmodels' cluster-robust interval of a mean; the bootstrap's noise and skew are below 5 % of its width."""
    random = np.random.default_rng(5)
    contexts = np.repeat(np.arange(300), random.integers(1, 6, 300))
    values = random.standard_normal(300)[contexts] + random.standard_normal(len(contexts))
    found = intervals([Sample(values[:, None], contexts)])[0]
    fitted = OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": contexts}, use_t=True)
    low, high = fitted.conf_int()[0]
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.05 * (high - low))
    alone = OLS(values, np.ones(len(values))).fit(use_t=True).conf_int()[0]
    assert high - low > 1.3 * (alone[1] - alone[0])  # as if questions were independent: far too narrow


# What numbers must not depend on


def test_numbers_do_not_depend_on_what_else_stands_in_the_table():
    samples = [normal(60, 3, of_seed=0.3, seed=seed) for seed in range(4)]
    alone = [intervals([sample])[0] for sample in samples]
    for together, single in zip(intervals(samples), alone, strict=True):
        assert (together.low, together.high) == pytest.approx((single.low, single.high), abs=1e-12)
    pairs = [(samples[0], other) for other in samples[1:]]
    assert [c.p for c in compare(pairs)] == [compare([pair])[0].p for pair in pairs]


def test_seeds_whose_means_are_equal_by_luck_make_nothing_certain():
    """Each seed of the first model has two more right answers than one of the second, on questions of its own."""
    values = np.zeros((100, 2))
    values[:50] = 1
    first = values.copy()
    first[50:52, 0] = first[60:62, 1] = 1
    (comparison,) = compare([(Sample(first, np.arange(100)), Sample(values, np.arange(100)))])
    assert comparison.difference == pytest.approx(0.02)
    assert 0.005 < comparison.p < 0.3 and comparison.interval.low < comparison.interval.high


def test_swapping_the_models_turns_the_difference_round():
    pair = normal(80, 3, of_seed=0.2, mean=0.1), normal(80, 3, of_seed=0.2, seed=4)
    (one,), (other,) = compare([pair]), compare([pair[::-1]])
    assert one.difference == -other.difference
    assert one.p == pytest.approx(other.p, abs=0.02)


def test_questions_of_one_context_count_as_less_than_as_many_contexts():
    random = np.random.default_rng(2)
    contexts = np.repeat(np.arange(60), 5)
    values = (random.random((60, 1)) < 0.7).repeat(5, axis=0).astype(float)
    clustered, separate = (intervals([Sample(values, groups)])[0] for groups in (contexts, np.arange(len(contexts))))
    assert (clustered.high - clustered.low) / (separate.high - separate.low) == pytest.approx(5**0.5, rel=0.1)


def test_seeds_that_differ_widen_the_interval():
    values = normal(200, 3).values
    steady, shaken = (Sample(values + shift, np.arange(200)) for shift in (np.zeros(3), np.array([-0.4, 0, 0.4])))
    narrow, wide = intervals([steady, shaken])
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


@pytest.mark.parametrize("values", [np.zeros((0, 2)), np.zeros((2, 0)), np.zeros(2), np.full((2, 1), np.nan)])
def test_what_has_no_mean_is_refused(values):
    with pytest.raises(ValueError, match="finite scores"):
        Sample(values, np.arange(len(values)))


def test_other_questions_can_not_be_compared():
    with pytest.raises(ValueError, match="the same questions"):
        compare([(normal(5, 1), normal(6, 1))])
    with pytest.raises(ValueError, match="one context"):
        intervals([Sample(np.ones((3, 1)), np.zeros(3, dtype=int))])


# Contexts


@pytest.mark.parametrize(
    "ids",
    [
        [f"DEV_{c}_QUERY_{q}" for c in range(12) for q in range(3)],
        [f"{c}-7-{q}" for c in range(12) for q in range(3)],
        [f"{c}_{q}" for c in range(12) for q in range(3)],
    ],
)
def test_contexts_are_read_from_the_ids_of_published_files(ids):
    assert list(contexts_of(ids)[:4]) == [contexts_of(ids)[0]] * 3 + [contexts_of(ids)[3]]
    assert len(set(contexts_of(ids))) == 12


def test_ids_that_only_count_are_no_contexts():
    """q-1, q-2 … would be one context, of which nothing could be said."""
    assert list(contexts_of([f"q-{n}" for n in range(50)])) == list(range(50))
    assert len(set(contexts_of(["56be", "56bf", "9000"]))) == 3


def test_a_data_file_knows_better_than_the_ids():
    ids = [f"{c}-{q}" for c in range(24) for q in range(2)]
    articles = {id: str(int(id.split("-")[0]) // 2) for id in ids}
    assert len(set(contexts_of(ids))) == 24
    assert len(set(contexts_of(ids, articles))) == 12


# Simulations. The truth is known, so how often an interval holds it is, too.


def coverage(n, n_contexts, sizes, n_seeds, of_seed, threshold=0.8):
    random = np.random.default_rng(11)
    truth, hits = true_mean(of_seed, threshold), 0
    for _ in range(n):
        contexts = some_contexts(random, n_contexts, sizes)
        values = answers(random, contexts, n_seeds, of_seed=of_seed, threshold=threshold)
        (interval,) = intervals([Sample(values, contexts)], n_resamples=1000)
        hits += interval.holds(truth)
    return hits / n


def false_positives(n, n_contexts, sizes, n_seeds, of_seed):
    """Return how often two models that are equally good are found to differ at 5 %."""
    random, found = np.random.default_rng(12), 0
    for _ in range(n):
        contexts = some_contexts(random, n_contexts, sizes)
        difficulty = shared_difficulty(random, contexts)
        first, second = (
            Sample(answers(random, contexts, k, of_seed=of_seed, of_model=0.5, difficulty=difficulty), contexts)
            for k in n_seeds
        )
        found += compare([(first, second)], n_resamples=1000)[0].p < 0.05
    return found / n


COVERAGE = {
    "one seed": (300, (1, 2, 3, 4, 5), 1, 0.0),
    "2 seeds": (300, (1, 2, 3, 4, 5), 2, 0.06),
    "3 seeds, alike": (300, (1, 2, 3, 4, 5), 3, 0.0),
    "3 seeds": (300, (1, 2, 3, 4, 5), 3, 0.06),
    "3 seeds, apart": (300, (1, 2, 3, 4, 5), 3, 0.15),
    "5 seeds": (300, (1, 2, 3, 4, 5), 5, 0.06),
    "5 seeds, apart": (300, (1, 2, 3, 4, 5), 5, 0.15),
    "5 seeds, 1000 questions of their own": (1000, (1,), 5, 0.1),
    "5 seeds, few contexts": (40, (3, 4, 5), 5, 0.06),
    "3 seeds, 98 % right": (300, (1, 2, 3, 4, 5), 3, 0.06, 3.0),
}
FALSE_POSITIVES = {
    "one seed each": (200, (1, 2, 3, 4, 5), (1, 1), 0.0),
    "3 seeds each, alike": (200, (1, 2, 3, 4, 5), (3, 3), 0.0),
    "3 seeds each": (200, (1, 2, 3, 4, 5), (3, 3), 0.06),
    "5 seeds each": (200, (1, 2, 3, 4, 5), (5, 5), 0.06),
    "5 seeds each, apart": (200, (1, 2, 3, 4, 5), (5, 5), 0.15),
    "5 seeds and 1": (200, (1, 2, 3, 4, 5), (5, 1), 0.06),
}


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """A bootstrap of questions and seeds alike, without the t distribution, holds it 85 times of 100."""
    assert 0.90 <= coverage(150, 120, (1, 2, 3), 3, 0.15) <= 0.99


def test_equal_models_are_seldom_found_to_differ():
    assert 0.01 <= false_positives(150, 100, (1, 2, 3), (3, 3), 0.06) <= 0.10


@pytest.mark.soak
@pytest.mark.parametrize("design", COVERAGE)
def test_a_thousand_intervals_hold_the_truth_as_often_as_they_say(design):
    share = coverage(1000, *COVERAGE[design])
    print(f"coverage, {design}: {share:.3f}")
    assert 0.93 <= share <= 0.97


@pytest.mark.soak
@pytest.mark.parametrize("design", FALSE_POSITIVES)
def test_a_thousand_pairs_of_equal_models_are_found_to_differ_as_seldom_as_is_said(design):
    share = false_positives(1000, *FALSE_POSITIVES[design])
    print(f"false positives, {design}: {share:.3f}")
    assert 0.03 <= share <= 0.07
