from __future__ import annotations

from typing import Any

import pytest

from tests.compiler.graphs import Builder
from torchplace.compiler.graph import Graph
from torchplace.errors import OptionError
from torchplace.placement.hints import Hint, Wishes, read_hints

DEVICES = ("gpu:0", "gpu:1")


def model() -> Graph:
    """Two blocks of two ops each; the code asks for a device for one op of each block."""
    b = Builder()
    at = b.input("x", 4)
    for block, device in (("h.1", "gpu:1"), ("h.2", "gpu:0")):
        at = b.add_op(at, name=f"mm_{block[2:]}", module=f"{block}.mlp", hint=device, source="model.py:7")
        at = b.add_op(at, name=f"add_{block[2:]}", module=block)
    return b.returns(at)


def read(partial: bool = False, **wishes: Any) -> tuple[Hint, ...]:
    return read_hints(model(), DEVICES, Wishes(**{"pins": {}, **wishes}), partial=partial)


CODE = (
    Hint("pin", "tp.place('gpu:1')", ("mm_1",), ("gpu:1",)),
    Hint("pin", "tp.place('gpu:0')", ("mm_2",), ("gpu:0",)),
)
"""What the code itself asks for."""


def test_hints_are_of_the_code_and_of_each_option() -> None:
    found = read(
        pins={"h.1": "gpu:1"},
        together=[("mm_*", "add_2"), ("h.1.*",)],
        forbid={"add_?": ("gpu:0", "gpu:1"), "h.2": ("gpu:1",)},
    )
    assert found == (
        *CODE,
        Hint("pin", "pin 'h.1': 'gpu:1'", ("mm_1", "add_1"), ("gpu:1",)),
        Hint("together", "together ['mm_*', 'add_2']", ("mm_1", "mm_2", "add_2")),
        Hint("together", "together ['h.1.*']", ("mm_1", "add_1")),
        Hint("forbid", "forbid 'add_?': 'gpu:0', 'gpu:1'", ("add_1", "add_2"), ("gpu:0", "gpu:1")),
        Hint("forbid", "forbid 'h.2': 'gpu:1'", ("mm_2", "add_2"), ("gpu:1",)),
    )
    assert read() == CODE


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"pins": {"h.3": "gpu:0"}}, "the pin 'h.3' matches no op and no module; did you mean 'h."),
        ({"together": [["h.1", "h_2"]]}, "the together pattern 'h_2' matches no op and no module"),
        ({"forbid": {"*.mpl": ["gpu:0"]}}, r"the forbid pattern '\*.mpl' matches no op"),
        ({"pins": {"h.1": "gpu:2"}}, r"^pins\['h.1'\] is 'gpu:2', which is no device; did you mean 'gpu:"),
        (
            {"forbid": {"h.1": ["gpu:0", "gpu:9"]}},
            r"^forbid\['h.1'\] is 'gpu:9', which is no.* \(devices: gpu:0, gpu:1\)",
        ),
    ],
)
def test_mistakes(wishes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        read(**wishes)


def test_a_device_of_the_code_that_is_not_there() -> None:
    message = r"^tp.place\('gpu:1'\) around op 'mm_1' \(model.py:7\) is 'gpu:1', which is no device.*\(devices: gpu:0\)"
    with pytest.raises(OptionError, match=message):
        read_hints(model(), ("gpu:0",), Wishes({}))


def test_patterns_for_other_graphs_are_left_out() -> None:
    wishes = {"pins": {"other": "gpu:0"}, "together": [["other", "mm_1"], ["else"]], "forbid": {"other": ["gpu:0"]}}
    with pytest.raises(OptionError):
        read(**wishes)
    found = read(partial=True, **wishes)
    assert found == (*CODE, Hint("together", "together ['other', 'mm_1']", ("mm_1",)))
    with pytest.raises(OptionError, match="no device"):
        read(partial=True, pins={"other": "gpu:7"})
