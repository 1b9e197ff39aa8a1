"""Draws the numbers of random points: the same on every machine and every Python, and each for itself.

The draw number `i` (from 0) of the parameter `name` begins with SHA-256 of the UTF-8 text `<seed>/<name>/<i>`, read as
a big-endian integer `h` of 256 bits. So more points keep those that were there, another parameter changes no other's
numbers, and nobody's generator can change under us. Arithmetic is decimal with 40 digits (the General Decimal
Arithmetic Specification rounds exp, ln and sqrt correctly), since a C library's exp and log differ in their last bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext

from launcher.spec.model import Distribution, Param, RandomPoints

BITS = 256
DECIMAL = Context(prec=40, rounding=ROUND_HALF_EVEN, Emin=-99999, Emax=99999)


def draw(points: RandomPoints) -> list[dict[str, Param]]:
    """Return the rows that are drawn; their number is `count`."""
    with localcontext(DECIMAL):
        columns = {name: column(points, name, what) for name, what in points.draws.items()}
    return [{name: values[i] for name, values in columns.items()} for i in range(points.count)]


def column(points: RandomPoints, name: str, what: Distribution) -> Sequence[Param]:
    form = FORMS[what.kind]
    return [form(what, f"{points.seed}/{name}/{i}") for i in range(points.count)]


def bits(word: str) -> int:
    return int.from_bytes(hashlib.sha256(word.encode()).digest(), "big")


def share(word: str) -> Decimal:
    """Return a number from 0 up to, and without, 1: h / 2^256."""
    return Decimal(bits(word)) / (1 << BITS)


def below(count: int, word: str) -> int:
    """Return one of the whole numbers from 0 to count - 1: floor(h * count / 2^256)."""
    return bits(word) * count >> BITS


def exact(number: int | float) -> Decimal:
    """Return a number as it is written in decimal: 0.1 is a tenth, so that steps of a tenth are tenths."""
    return Decimal(repr(number))


def uniform(what: Distribution, word: str) -> float:
    """Draw between two bounds; with a step one of low, low + step, ... up to high, all alike."""
    low, high = map(exact, what.numbers)
    if what.step is None:
        return float(low + share(word) * (high - low))
    step = exact(what.step)
    return float(low + step * below(int((high - low) / step) + 1, word))


def log_uniform(what: Distribution, word: str) -> float:
    """Draw so that the logarithm is uniform; with a step the nearest of low, low + step, ... up to high."""
    low, high = map(exact, what.numbers)
    value = between(low.ln(), high.ln(), word).exp()
    if what.step is None:
        return float(min(max(value, low), high))
    step = exact(what.step)
    last = (high - low) // step
    return float(low + step * min(max(((value - low) / step).to_integral_value(), Decimal(0)), last))


def between(low: Decimal, high: Decimal, word: str) -> Decimal:
    return low + share(word) * (high - low)


def int_uniform(what: Distribution, word: str) -> int:
    """Draw a whole number between two bounds, both included; with a step counted from the lower one."""
    low, high = map(int, what.numbers)
    step = int(what.step or 1)
    return low + step * below((high - low) // step + 1, word)


def int_log_uniform(what: Distribution, word: str) -> int:
    """Draw a whole number whose logarithm is nearly uniform: that of [low - 1/2, high + 1/2] is, before rounding."""
    low, high = map(int, what.numbers)
    half = Decimal("0.5")
    value = between((low - half).ln(), (high + half).ln(), word).exp().to_integral_value()
    return min(max(int(value), low), high)


def standard_normal(word: str) -> Decimal:
    """Draw from the normal distribution with mean 0 and deviation 1 by Marsaglia's polar method (SIAM Review 6, 1964).

    The try number `k` (from 0) takes its two numbers from `<word>/<k>/x` and `<word>/<k>/y`.
    """
    k = 0
    while True:
        x, y = (2 * share(f"{word}/{k}/{axis}") - 1 for axis in "xy")
        square = x * x + y * y
        if 0 < square < 1:
            return x * (-2 * square.ln() / square).sqrt()
        k += 1


def normal(what: Distribution, word: str) -> float:
    """Draw from a normal distribution; with a step the nearest multiple of it."""
    mean, deviation = map(exact, what.numbers)
    return stepped(mean + deviation * standard_normal(word), what.step)


def log_normal(what: Distribution, word: str) -> float:
    """Draw a number whose logarithm has this mean and deviation; with a step the nearest multiple of it."""
    mean, deviation = map(exact, what.numbers)
    return stepped((mean + deviation * standard_normal(word)).exp(), what.step)


def stepped(value: Decimal, step: int | float | None) -> float:
    if step is None:
        return float(value)
    return float((value / exact(step)).to_integral_value() * exact(step))


def choice(what: Distribution, word: str) -> Param:
    """Draw one of a few values, as often as their weights say."""
    if not what.weights:
        return what.choices[below(len(what.choices), word)]
    weights = [exact(weight) for weight in what.weights]
    left = share(word) * sum(weights)
    for value, weight in zip(what.choices, weights, strict=True):
        left -= weight
        if left < 0:
            return value
    return what.choices[-1]


FORMS: dict[str, Callable[[Distribution, str], Param]] = {
    "uniform": uniform,
    "log_uniform": log_uniform,
    "normal": normal,
    "log_normal": log_normal,
    "int_uniform": int_uniform,
    "int_log_uniform": int_log_uniform,
    "choice": choice,
}
