"""The options that are hints of a placement: `--pins`, `--together`, `--forbid`, each as often as wanted."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from torchplace.errors import OptionError

Pins = Annotated[list[str] | None, typer.Option(help="PATTERN=DEVICE; may be given many times")]
Together = Annotated[list[str] | None, typer.Option(help="PATTERN,PATTERN on one device; may be given many times")]
Forbid = Annotated[list[str] | None, typer.Option(help="PATTERN=DEVICE,DEVICE not to be used; may be given many times")]


def hints(pins: list[str] | None, together: list[str] | None, forbid: list[str] | None) -> dict[str, Any]:
    """The options of `torchplace.plan` that hints on the command line stand for.

    Raises:
        OptionError: one of them is not of its form.
    """
    return {
        "pins": dict(_pair("pins", given) for given in pins or ()),
        "together": [_names("together", given, given) for given in together or ()],
        "forbid": _forbidden(forbid or []),
    }


def _forbidden(given: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in given:
        pattern, devices = _pair("forbid", one)
        found.setdefault(pattern, []).extend(_names("forbid", one, devices))
    return found


def _pair(option: str, given: str) -> tuple[str, str]:
    pattern, equals, device = given.rpartition("=")
    if not equals or not pattern:
        raise OptionError(f"--{option} {given!r}: expected PATTERN=DEVICE, such as 'transformer.h.3.*=gpu:1'")
    return pattern, device


def _names(option: str, given: str, names: str) -> list[str]:
    found = [name.strip() for name in names.split(",")]
    if not all(found):
        raise OptionError(f"--{option} {given!r}: there is nothing on one side of a comma or equals sign")
    return found
