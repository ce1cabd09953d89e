"""Paired t-tests, Holm's correction, areas under ROC curves and bootstrap intervals."""

import numpy
from scipy import stats

from store import write


def holm(ps: list[float]) -> list[float]:
    """By its definition as a closed test: the greatest Bonferroni p of all sets of hypotheses that hold this one."""
    indices = range(len(ps))
    sets = [[i for i in indices if mask >> i & 1] for mask in range(1, 2 ** len(ps))]
    return [max(min(1.0, len(s) * min(ps[i] for i in s)) for s in sets if k in s) for k in indices]


def paired(random: numpy.random.Generator, n: int) -> dict:
    values = random.normal(0.05, 0.1, n).round(4)
    boot = stats.bootstrap((values,), numpy.mean, n_resamples=100_000, method="percentile", random_state=random)
    return {
        "values": values.tolist(),
        "p": float(stats.ttest_1samp(values, 0).pvalue),
        "bootstrap": [float(boot.confidence_interval.low), float(boot.confidence_interval.high)],
    }


def roc(random: numpy.random.Generator, bad: int, good: int) -> dict:
    low = random.normal(0.4, 0.2, bad).round(1)
    high = random.normal(0.6, 0.2, good).round(1)
    u = stats.mannwhitneyu(high, low).statistic
    return {"bad": low.tolist(), "good": high.tolist(), "area": float(u / (bad * good))}


def make() -> None:
    random = numpy.random.default_rng(11)
    families = [random.uniform(0, limit, n).round(5).tolist() for n, limit in [(1, 1), (4, 0.1), (9, 0.05)]]
    write(
        "paired-tests",
        ["scipy", "numpy"],
        {
            "pValues": [[t, df, float(2 * stats.t.sf(abs(t), df))] for t in [0, 0.3, -2.1, 9.5] for df in [1, 2, 7, 19]],
            "holm": [{"p": ps, "adjusted": holm(ps)} for ps in [*families, [0.02, 0.01, 0.02]]],
            "paired": [paired(random, n) for n in [8, 20]],
            "roc": [roc(random, bad, good) for bad, good in [(3, 5), (40, 60)]],
        },
    )
