"""SI figures as people read them: ms, GiB, GB/s."""

from __future__ import annotations


def duration_text(seconds: float) -> str:
    """Seconds in the unit that suits them: `1.23 ms`."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if float(f"{seconds:.3g}") >= size:  # as it is shown: 0.9996 s is 1 s, not 1000 ms
            return f"{_three_digits(seconds / size)} {unit}"
    return f"{_three_digits(seconds * 1e6)} us"


def _three_digits(number: float) -> str:
    return f"{number:.3g}" if number < 999.5 else f"{number:.0f}"


def bytes_text(count: float) -> str:
    """Bytes in binary units: `1.50 GiB`."""
    for unit, exponent in (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count >= 2**exponent:
            return f"{count / 2**exponent:.2f} {unit}"
    return f"{count:.0f} B"


def ratio_text(part: float, whole: float) -> str:
    """A share in per cent."""
    return "-" if whole == 0 else f"{100 * part / whole:.1f}%"
