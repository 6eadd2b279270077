"""Student's t distribution, to the last digits of float64, without a library of statistics.

The distribution function is an incomplete beta function, by its continued fraction (Press et al., Numerical Recipes,
3rd edition, section 6.4); the quantile is found by bisection on it.
"""

from __future__ import annotations

import math
from functools import cache

_TINY = 1e-300
_MOST = 10_000  # terms; the fraction needs about the root of the larger parameter


def cdf(t: float, df: float) -> float:
    """Return P(T <= ``t``) for T of Student's distribution with ``df`` > 0 degrees of freedom."""
    if math.isinf(t):
        return 1.0 if t > 0 else 0.0
    tail = survival(abs(t), df)
    return 1.0 - tail if t >= 0 else tail


def survival(t: float, df: float) -> float:
    """Return P(T > ``t``), exact also where it is tiny."""
    if math.isinf(t):
        return 0.0 if t > 0 else 1.0
    if t < 0:
        return 1.0 - survival(-t, df)
    return 0.5 * _beta(df / 2, 0.5, df / (df + t * t), t * t / (df + t * t))


@cache
def quantile(p: float, df: float) -> float:
    """Return t with P(T <= t) = ``p``, 0 < p < 1."""
    if p < 0.5:
        return -quantile(1 - p, df)
    low, high = 0.0, 1.0
    while survival(high, df) > 1 - p:
        low, high = high, 2 * high
    while high - low > 4e-16 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if survival(middle, df) > 1 - p else (low, middle)
    return (low + high) / 2


def _beta(a: float, b: float, x: float, rest: float) -> float:
    """Return the regularized incomplete beta function I_x(a, b); ``rest`` is 1 - x, without its rounding."""
    if x <= 0 or rest <= 0:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _beta(b, a, rest, x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest))
    return front * _fraction(a, b, x) / a


def _fraction(a: float, b: float, x: float) -> float:
    """Return the continued fraction of I_x(a, b), by Lentz's method."""
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1)
    d = 1.0 / (d if abs(d) > _TINY else _TINY)
    value = d
    for m in range(1, _MOST):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 + step * d
            c = 1.0 + step / c
            d = 1.0 / (d if abs(d) > _TINY else _TINY)
            c = c if abs(c) > _TINY else _TINY
            value *= d * c
        if abs(d * c - 1.0) < 1e-16:
            break
    return value
