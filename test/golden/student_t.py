"""Student's t: quantiles, and intervals of a mean and of paired differences."""

import numpy
from scipy import stats

from store import write


def interval(values: numpy.ndarray) -> list[float]:
    low, high = stats.t.interval(0.95, len(values) - 1, numpy.mean(values), stats.sem(values))
    return [float(low), float(high)]


def sample(random: numpy.random.Generator, n: int) -> dict:
    first = random.normal(0.4, 0.1, n).round(4)
    second = (first + random.normal(0.02, 0.05, n)).round(4)
    paired = stats.ttest_rel(second, first).confidence_interval(0.95)
    return {
        "first": first.tolist(),
        "second": second.tolist(),
        "interval": interval(first),
        "paired": [float(paired.low), float(paired.high)],
    }


def make() -> None:
    random = numpy.random.default_rng(7)
    degrees = [1, 2, 3, 4, 5, 6, 9, 10, 19, 20, 99, 100, 1001]
    write(
        "student-t",
        ["scipy", "numpy"],
        {
            "quantiles": [[df, float(stats.t.ppf(0.975, df))] for df in degrees],
            "samples": [sample(random, n) for n in [2, 3, 5, 20]],
        },
    )
