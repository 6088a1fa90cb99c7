"""Checks that the parts of a topology share, and how their errors are worded."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable

from torchplace.errors import TopologyError

# Programs and plans print names between blanks and parse them back, so a name holds none.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/@+-]*")


def require_name(what: str, name: object) -> None:
    """Checks the name of a device or switch; `what` says which of the two it is."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise TopologyError(
            f"{what} name {name!r}: expected letters, digits and _ . : / @ + -, starting with a letter, digit or _"
        )


def require_text(owner: str, field: str, value: object) -> None:
    """Checks that a field is text that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise TopologyError(f"{owner}: {field} is {value!r}, expected text that is not blank")


def require_number(owner: str, field: str, value: object, unit: str, *, zero: bool = False) -> None:
    """Checks that a field is a finite number above zero (or zero, where that means something)."""
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    if real and math.isfinite(value) and (value > 0 or (zero and value == 0)):  # type: ignore[arg-type,operator]
        return
    bound = "a number, 0 or more" if zero else "a number above 0"
    raise TopologyError(f"{owner}: {field} is {value!r}, expected {bound} ({unit})")


def require_whole(owner: str, field: str, value: object, unit: str) -> None:
    """Checks that a field is a whole number above zero."""
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise TopologyError(f"{owner}: {field} is {value!r}, expected a whole number above 0 ({unit})")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A clause that suggests the known name nearest to `name`; empty when none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def listed(names: Iterable[str], limit: int = 12) -> str:
    """Names for an error message: the first few, and how many more there are."""
    names = list(names)
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")
