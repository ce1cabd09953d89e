"""Rank correlations of scipy on vectors with and without ties, and the null distribution of tau."""

from itertools import permutations

import numpy
from scipy import stats

from store import write


def cases() -> list[dict]:
    random = numpy.random.default_rng(3000)
    result = []
    while len(result) < 300:
        n = int(random.integers(2, 13))
        kind = len(result) % 4
        if kind == 0:  # continuous: no ties
            a, b = random.normal(size=n), random.normal(size=n)
        elif kind == 1:  # few levels: many ties on both sides
            a, b = random.integers(0, 3, n), random.integers(0, 3, n)
        elif kind == 2:  # related, ties on one side
            a = random.normal(size=n)
            b = numpy.round(a + 0.3 * random.normal(size=n))
        else:  # ties in the same places: duplicates among the responses
            base = random.normal(size=(2, n))
            index = random.integers(0, n, n)
            a, b = base[0][index], base[1][index]
        a, b = [round(float(x), 6) for x in a], [round(float(x), 6) for x in b]
        if len(set(a)) < 2 or len(set(b)) < 2:
            continue
        tau, rho = stats.kendalltau(a, b).statistic, stats.spearmanr(a, b).statistic
        result.append({"a": a, "b": b, "tau": float(tau), "rho": float(rho)})
    return result


def null_band() -> list[dict]:
    """Mean and standard deviation of tau over all orders of n values."""
    result = []
    for n in range(2, 8):
        taus = [stats.kendalltau(range(n), order).statistic for order in permutations(range(n))]
        result.append({"n": n, "mean": float(numpy.mean(taus)), "standardDeviation": float(numpy.std(taus))})
    return result


def make() -> None:
    write("ranks", ["scipy", "numpy"], {"cases": cases(), "nullBand": null_band()})
