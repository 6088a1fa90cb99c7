from __future__ import annotations

from torchplace.placement.progress import listening, tell


def test_who_listens_is_told() -> None:
    outer: list[str] = []
    inner: list[str] = []
    tell("nobody listens")
    with listening(outer.append):
        tell("one")
        with listening(inner.append):
            tell("two")
        tell("three")
    tell("nobody again")
    assert (outer, inner) == (["one", "three"], ["two"])
