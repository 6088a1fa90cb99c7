from __future__ import annotations

from typing import Any

import pytest

from tests.compiler.graphs import Builder
from tests.placement.graphs import machine, problem
from torchplace.compiler.graph import Graph
from torchplace.errors import InfeasibleError, OptionError
from torchplace.placement.groups import colocation_groups
from torchplace.placement.hints import Wishes, read_hints
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
    return resolve_pins(model(), colocation_groups(model()), read_hints(model(), DEVICES, Wishes(pins)), {}, DEVICES)


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
    with pytest.raises(InfeasibleError, match=r"^pin 'h.1': 'gpu:0' and pin 'mm_1': 'gpu:1' clash over op 'mm_1'"):
        resolve({"h.1": "gpu:0", "mm_1": "gpu:1"})


def test_two_pins_for_one_group() -> None:
    with pytest.raises(
        InfeasibleError,
        match=r"'more': 'gpu:0' and pin 'write': 'gpu:1' clash over op 'more' and op 'write', which write the same state",
    ):
        resolve({"more": "gpu:0", "write": "gpu:1"})


def clash(topology_size: int = 3, **hints: Any) -> str:
    """What is said of hints for `model` that clash."""
    with pytest.raises(InfeasibleError) as error:
        problem(model(), machine([2**20] * topology_size), **hints)
    return str(error.value)


def test_pins_of_what_stays_together() -> None:
    said = clash(pins={"h.1": "d0", "mm_10": "d1"}, together=[["add_1", "h.10.mlp"]])
    assert said == (
        "pin 'h.1': 'd0' and pin 'mm_10': 'd1' clash over op 'add_1' and op 'mm_10', which stay together by "
        "together ['add_1', 'h.10.mlp']; drop one of them"
    )


def test_a_pin_to_a_forbidden_device() -> None:
    said = clash(pins={"h.1": "d1"}, forbid={"h.*": ["d0", "d1"]})
    assert said == "pin 'h.1': 'd1' and forbid 'h.*': 'd0', 'd1' clash over op 'mm_1'; drop one of them"
    said = clash(pins={"mm_1": "d1"}, together=[["mm_1", "head"]], forbid={"head": ["d1"]})
    assert said == (
        "pin 'mm_1': 'd1' and forbid 'head': 'd1' clash over op 'mm_1' and op 'head', which stay together by "
        "together ['mm_1', 'head']; drop one of them"
    )


def test_a_pin_against_the_code() -> None:
    graph = model()
    graph.op("mm_1").hint, graph.op("mm_1").source = "d1", "model.py:7"
    with pytest.raises(
        InfeasibleError, match=r"^tp.place\('d1'\) and pin 'h.1': 'd0' clash over op 'mm_1' \(model.py:7\); drop"
    ):
        problem(graph, machine([2**20] * 2), pins={"h.1": "d0"})
    assert problem(graph, machine([2**20] * 2), pins={"h.1": "d1"}).pins == {"mm_1": "d1", "add_1": "d1"}


def test_the_code_pins_whole_groups() -> None:
    graph = model()
    graph.op("write").hint = "d1"
    assert problem(graph, machine([2**20] * 2)).pins == {"more": "d1", "write": "d1"}
