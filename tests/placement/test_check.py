from __future__ import annotations

from tests.compiler.graphs import Builder, chain
from tests.placement.graphs import FLOAT, machine, perceptron, problem
from torchplace.placement.check import check


def test_a_valid_placement() -> None:
    made = problem(chain(3), machine([2**20] * 2), pins={"v1": "d1"})
    assert check(made, {"v0": "d0", "v1": "d1", "v2": "d0"}) == []


def test_an_op_without_a_device() -> None:
    made = problem(chain(2), machine([2**20] * 2))
    assert check(made, {"v0": "d0"}) == ["op 'v1' has no device; expected one of ['d0', 'd1']"]


def test_an_unknown_device_and_an_unknown_op() -> None:
    made = problem(chain(1), machine([2**20]))
    assert check(made, {"v0": "gpu:9", "v7": "d0"}) == [
        "op 'v0' is on 'gpu:9', which is no device; expected one of ['d0']",
        "'v7' is placed, but is no op of the graph",
    ]


def test_a_pin_that_is_ignored() -> None:
    made = problem(chain(2), machine([2**20] * 2), pins={"v1": "d1"})
    assert check(made, {"v0": "d0", "v1": "d0"}) == ["op 'v1' is pinned to 'd1', but placed on 'd0'"]


def test_state_that_is_written_from_elsewhere() -> None:
    b = Builder()
    mean = b.buffer("mean", 4)
    new = b.add_op(b.input("x", 4), mean, name="reader")
    b.update(mean, new, name="writer")
    (fault,) = check(problem(b.graph, machine([2**20] * 2)), {"reader": "d0", "writer": "d1"})
    assert fault == "op 'writer' writes %mean, which lives with op 'reader' on 'd0', but is placed on 'd1'"


def test_parameters_that_are_too_much() -> None:
    made = problem(chain(3), machine([8 * FLOAT, 4 * FLOAT]))
    assert check(made, {"v0": "d0", "v1": "d0", "v2": "d1"}) == []
    assert check(made, {"v0": "d0", "v1": "d0", "v2": "d0"}) == ["device 'd0' holds 48 bytes, has 32: 16 too few"]


def test_gradients_and_saved_activations_count_in_training() -> None:
    # Two parameters with their gradients, and the activation that layer 1 saves.
    need = (16 + 8 + 8) * FLOAT
    for memory, faults in ((need, []), (need - 1, [f"device 'd0' holds {need} bytes, has {need - 1}: 1 too few"])):
        made = problem(perceptron((8, 4)), machine([memory]), training=True)
        assert check(made, dict.fromkeys(made.ops, "d0")) == faults


def test_state_of_nobody_counts_on_the_first_device() -> None:
    b = Builder()
    b.buffer("unused", 10)
    b.returns(b.add_op(b.input("x", 4)))
    (fault,) = check(problem(b.graph, machine([39, 2**20])), {"v0": "d1"})
    assert fault == "device 'd0' holds 40 bytes, has 39: 1 too few"


def test_hints_that_are_ignored() -> None:
    made = problem(
        chain(4), machine([2**20] * 3), together=[["v0", "v2"]], forbid={"v1": ["d1"], "v[23]": ["d0", "d2"]}
    )
    assert check(made, {"v0": "d1", "v1": "d0", "v2": "d1", "v3": "d1"}) == []
    faults = check(made, {"v0": "d0", "v1": "d1", "v2": "d1", "v3": "d2"})
    assert faults == [
        "op 'v0' is pinned to 'd1', but placed on 'd0'",
        "op 'v3' is pinned to 'd1', but placed on 'd2'",
        "together ['v0', 'v2'] is broken: its ops are on ['d0', 'd1']",
        "op 'v1' is on 'd1', against forbid 'v1': 'd1'",
        "op 'v3' is on 'd2', against forbid 'v[23]': 'd0', 'd2'",
    ]
