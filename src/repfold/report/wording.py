"""How values are written for people: percent, significant digits, powers of ten, times, sizes; one function each."""

from __future__ import annotations

import math

ABSENT = "–"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_SIZES = ("B", "kB", "MB", "GB", "TB")


def percent(value: float | None) -> str:
    """Write an accuracy that is in percent already, with two decimals: 68.56."""
    return special(value) if value is None or not math.isfinite(value) else f"{value:.2f}"


def share(value: float | None) -> str:
    """Write a share of 0..1 as percent: 0.031 -> 3.1 %."""
    return special(value) if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def significant(value: float | None, digits: int = 4) -> str:
    """Write a number with ``digits`` significant digits, in powers of ten when it is very large or very small."""
    if value is None or not math.isfinite(value):
        return special(value)
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        return scientific(value, digits)
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}".replace(",", "\u202f")


def large(value: float, digits: int = 3) -> str:
    """Write a count of parameters, operations or images with its thousands as a letter: 812, 36.9 k, 1.36 M."""
    for power, unit in ((9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 10**power:
            return f"{significant(value / 10**power, digits)}\u202f{unit}"
    return count(value)


def scientific(value: float | None, digits: int = 2) -> str:
    """Write a number as mantissa and power of ten: 3.1e-07 -> 3.1·10⁻⁷; with one digit a power stands alone, 10⁻⁷."""
    if value is None or not math.isfinite(value):
        return special(value)
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPT)
    return power if mantissa == "1" else f"{mantissa}·{power}"


def count(value: float | None) -> str:
    """Write a whole number with thin spaces between thousands."""
    return special(value) if value is None or not math.isfinite(value) else f"{value:,.0f}".replace(",", "\u202f")


def seconds(value: float | None) -> str:
    """Write a duration: 0.8 s, 42 s, 3 min 20 s, 1 h 12 min."""
    if value is None or not math.isfinite(value):
        return special(value)
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(number_of_bytes: int) -> str:
    """Write a file's size in decimal units: 33.2 MB."""
    value = float(number_of_bytes)
    for unit in _SIZES[:-1]:
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} {_SIZES[-1]}"


def special(value: float | None) -> str:
    """Write what is no finite number: a dash for a value that is absent, else NaN, ∞ or -∞."""
    if value is None:
        return ABSENT
    if math.isnan(value):
        return "NaN"
    return "∞" if value > 0 else "-∞"


def plain(value: object) -> str:
    """Write a value of a recipe or of an environment: true, 0.05, a, b."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}" if math.isfinite(value) else special(value)
    if isinstance(value, list | tuple):
        return ", ".join(plain(entry) for entry in value) if value else "none"
    return str(value)
