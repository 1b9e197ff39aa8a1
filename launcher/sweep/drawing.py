"""Draws the numbers of random points: the same on every machine and every Python, and each for itself.

The draw number `i` (from 0) of the parameter `name` begins with SHA-256 of the UTF-8 text `<seed>/<name>/<i>`, read as
a big-endian integer `h` of 256 bits. So more points keep those that were there, another parameter changes no other's
numbers, and nobody's generator can change under us. Arithmetic is decimal with 20 digits (the General Decimal
Arithmetic Specification rounds exp, ln and sqrt correctly), since a C library's exp and log differ in their last bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from itertools import count

from launcher.spec.model import Distribution, Param, RandomPoints

BITS = 256
DECIMAL = Context(prec=20, rounding=ROUND_HALF_EVEN, Emin=-99999, Emax=99999)
HALF = Decimal("0.5")
UNIT = Decimal(1 << 64)
WIDTH, SHIFT_X, SHIFT_Y, A, B, INNER, OUTER = map(
    Decimal, ["1.7156", "0.449871", "0.386595", "0.19600", "0.25472", "0.27597", "0.27846"]
)

Draw = Callable[[str], Param]


def draw(points: RandomPoints) -> list[dict[str, Param]]:
    """Return the rows that are drawn; their number is `count`."""
    with localcontext(DECIMAL):
        columns = {name: column(points, name, what) for name, what in points.draws.items()}
    return [{name: values[i] for name, values in columns.items()} for i in range(points.count)]


def column(points: RandomPoints, name: str, what: Distribution) -> list[Param]:
    one = DRAWS[what.kind](what)
    return [one(f"{points.seed}/{name}/{i}") for i in range(points.count)]


def bits(word: str) -> int:
    return int.from_bytes(hashlib.sha256(word.encode()).digest(), "big")


def share(word: str) -> Decimal:
    """Return a number from 0 up to 1: the first 64 bits of h, over 2^64."""
    return Decimal(bits(word) >> BITS - 64) / UNIT


def below(number: int, word: str) -> int:
    """Return one of the whole numbers from 0 to number - 1: floor(h * number / 2^256)."""
    return bits(word) * number >> BITS


def exact(number: int | float) -> Decimal:
    """Return a number as it is written in decimal: 0.1 is a tenth, so that steps of a tenth are tenths."""
    return Decimal(repr(number))


def uniform(what: Distribution) -> Draw:
    """Draw between two bounds; with a step one of low, low + step, ... up to high, all alike."""
    low, high = map(exact, what.numbers)
    if what.step is None:
        return lambda word: float(min(max(low + share(word) * (high - low), low), high))  # rounding stays within
    step = exact(what.step)
    number = int((high - low) / step) + 1
    return lambda word: float(low + step * below(number, word))


def log_uniform(what: Distribution) -> Draw:
    """Draw so that the logarithm is uniform; with a step the nearest of low, low + step, ... up to high."""
    low, high = map(exact, what.numbers)
    first, span = low.ln(), high.ln() - low.ln()

    def one(word: str) -> Decimal:
        return min(max((first + share(word) * span).exp(), low), high)

    if what.step is None:
        return lambda word: float(one(word))
    step = exact(what.step)
    last = (high - low) // step
    return lambda word: float(low + step * min(((one(word) - low) / step).to_integral_value(), last))


def int_uniform(what: Distribution) -> Draw:
    """Draw a whole number between two bounds, both included; with a step counted from the lower one."""
    low, high = map(int, what.numbers)
    step = int(what.step or 1)
    number = (high - low) // step + 1
    return lambda word: low + step * below(number, word)


def int_log_uniform(what: Distribution) -> Draw:
    """Draw from low - 1/2 to high + 1/2 so that the logarithm is uniform, and take the nearest whole number."""
    low, high = map(int, what.numbers)
    first, end = (low - HALF).ln(), (high + HALF).ln()

    def one(word: str) -> int:
        value = (first + share(word) * (end - first)).exp()
        return min(max(int(value.to_integral_value()), low), high)

    return one


def standard_normal(word: str) -> Decimal:
    """Draw from the normal distribution with mean 0 and deviation 1 by the ratio of two uniform numbers.

    Kinderman and Monahan, ACM TOMS 3 (1977) 257; with the bounds of Leva, ACM TOMS 18 (1992) 449, which spare the
    logarithm nearly always. The try number `k` (from 0) takes its numbers from `<word>/<k>/u` and `<word>/<k>/v`.
    """
    for k in count():
        u, v = share(f"{word}/{k}/u"), WIDTH * (share(f"{word}/{k}/v") - HALF)
        x, y = u - SHIFT_X, abs(v) + SHIFT_Y
        q = x * x + y * (A * y - B * x)
        if u and (q < INNER or (q <= OUTER and v * v <= -4 * u * u * u.ln())):
            return v / u
    raise AssertionError


def normal(what: Distribution) -> Draw:
    """Draw from a normal distribution; with a step the nearest multiple of it."""
    mean, deviation = map(exact, what.numbers)
    return lambda word: stepped(mean + deviation * standard_normal(word), what.step)


def log_normal(what: Distribution) -> Draw:
    """Draw a number whose logarithm has this mean and deviation; with a step the nearest multiple of it."""
    mean, deviation = map(exact, what.numbers)
    return lambda word: stepped((mean + deviation * standard_normal(word)).exp(), what.step)


def stepped(value: Decimal, step: int | float | None) -> float:
    if step is None:
        return float(value)
    return float((value / exact(step)).to_integral_value() * exact(step))


def choice(what: Distribution) -> Draw:
    """Draw one of a few values, as often as their weights say."""
    if not what.weights:
        return lambda word: what.choices[below(len(what.choices), word)]
    weights = [exact(weight) for weight in what.weights]
    ends = [sum(weights[: i + 1], Decimal(0)) for i in range(len(weights))]
    return lambda word: what.choices[chosen(share(word) * ends[-1], ends)]


def chosen(at: Decimal, ends: list[Decimal]) -> int:
    """Return the first interval that ends after a number; a number at the very end is in the last with a weight."""
    return next((i for i, end in enumerate(ends) if at < end), ends.index(ends[-1]))


DRAWS: dict[str, Callable[[Distribution], Draw]] = {
    "uniform": uniform,
    "log_uniform": log_uniform,
    "normal": normal,
    "log_normal": log_normal,
    "int_uniform": int_uniform,
    "int_log_uniform": int_log_uniform,
    "choice": choice,
}
