from __future__ import annotations

import pytest

from tests.compiler.graphs import Builder
from torchplace.compiler.graph import Graph
from torchplace.errors import InfeasibleError, OptionError
from torchplace.placement.groups import colocation_groups
from torchplace.placement.pins import resolve_pins

DEVICES = ("gpu:0", "gpu:1")


def model() -> Graph:
    """Two blocks of two ops each, `h.1` and `h.10`, a head, and a buffer that is written at the end."""
    b = Builder()
    at = b.input("x", 4)
    for block in ("h.1", "h.10"):
        at = b.add_op(at, name=f"mm_{block[2:]}", module=f"{block}.mlp")
        at = b.add_op(at, name=f"add_{block[2:]}", module=block)
    count = b.buffer("count", 1)
    more = b.add_op(count, name="more", module="head")
    b.update(count, more, name="write")
    return b.returns(b.add_op(at, name="head", module="head.linear"))


def resolve(pins: dict[str, str]) -> dict[str, str]:
    return resolve_pins(model(), colocation_groups(model()), pins, DEVICES)


@pytest.mark.parametrize(
    ("key", "ops"),
    [
        ("mm_1", {"mm_1"}),
        ("mm_*", {"mm_1", "mm_10"}),
        ("h.1.*", {"mm_1", "add_1"}),
        ("h.1", {"mm_1", "add_1"}),
        ("h.10", {"mm_10", "add_10"}),
        ("h.*", {"mm_1", "add_1", "mm_10", "add_10"}),
        ("h.[!2]?.mlp", {"mm_10"}),
        ("head", {"head"}),  # an op's name comes before a module's path
        ("head.*", {"head", "more", "write"}),  # the whole group of `more`
        ("write", {"more", "write"}),
        ("*", {"mm_1", "add_1", "mm_10", "add_10", "more", "write", "head"}),
    ],
)
def test_what_a_key_matches(key: str, ops: set[str]) -> None:
    assert resolve({key: "gpu:1"}) == dict.fromkeys(ops, "gpu:1")


def test_no_pins() -> None:
    assert resolve({}) == {}


def test_pins_that_agree_may_overlap() -> None:
    assert resolve({"h.1": "gpu:0", "mm_1": "gpu:0", "h.10": "gpu:1"}) == {
        "mm_1": "gpu:0",
        "add_1": "gpu:0",
        "mm_10": "gpu:1",
        "add_10": "gpu:1",
    }


def test_nothing_matches() -> None:
    with pytest.raises(OptionError, match=r"pin 'h.1.mpl' matches no op and no module; did you mean 'h.1.mlp'\?"):
        resolve({"h.1.mpl": "gpu:0"})


def test_no_pattern_matches() -> None:
    with pytest.raises(OptionError, match=r"pin 'decoder.\*' matches no op"):
        resolve({"decoder.*": "gpu:0"})


def test_unknown_device() -> None:
    with pytest.raises(OptionError, match=r"pins\['h.1'\] is 'gpu:7', which is no device.*devices: gpu:0, gpu:1"):
        resolve({"h.1": "gpu:7"})


def test_two_pins_for_one_op() -> None:
    with pytest.raises(InfeasibleError, match=r"pins 'h.1': 'gpu:0' and 'mm_1': 'gpu:1' clash over op 'mm_1'"):
        resolve({"h.1": "gpu:0", "mm_1": "gpu:1"})


def test_two_pins_for_one_group() -> None:
    with pytest.raises(
        InfeasibleError, match=r"'more': 'gpu:0' and 'write': 'gpu:1' clash over ops 'more' and 'write'"
    ):
        resolve({"more": "gpu:0", "write": "gpu:1"})
