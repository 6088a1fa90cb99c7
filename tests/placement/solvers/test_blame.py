from __future__ import annotations

from tests.compiler.graphs import chain
from tests.placement.graphs import FLOAT, machine, problem
from torchplace.placement.solvers.blame import about, in_force, pinned_bytes

W = 4 * FLOAT


def test_each_pin_is_named_with_its_bytes_on_each_device() -> None:
    made = problem(
        chain(6), machine([99] * 3), pins={"v0": "d0", "v[12]": "d0", "v5": "d1"}, forbid={"v3": ["d1", "d2"]}
    )
    assert pinned_bytes(made, ["d0"]) == (
        f": pin 'v[12]': 'd0' puts {2 * W} bytes on d0, pin 'v0': 'd0' puts {W} bytes on d0, "
        f"forbid 'v3': 'd1', 'd2' puts {W} bytes on d0"
    )
    assert pinned_bytes(made, ["d1", "d2"]) == f": pin 'v5': 'd1' puts {W} bytes on d1"
    assert pinned_bytes(made, ["d2"]) == ""


def test_the_hints_about_a_group() -> None:
    hints = {"pins": {"v0": "d1"}, "together": [["v0", "v1"], ["v2"]], "forbid": {"v[12]": ["d0"]}}
    made = problem(chain(4), machine([99] * 3), **hints)
    assert about(made, ("v0", "v1")) == " by together ['v0', 'v1'] and forbid 'v[12]': 'd0'"
    assert about(made, ("v3",)) == ""
    assert in_force(made) == (
        "; hints in force: pin 'v0': 'd1', together ['v0', 'v1'], together ['v2'], forbid 'v[12]': 'd0'"
    )
    assert in_force(problem(chain(1), machine([99]))) == ""
