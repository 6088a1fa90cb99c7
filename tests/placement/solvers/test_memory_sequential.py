from __future__ import annotations

from tests.compiler.graphs import chain
from tests.placement.graphs import FLOAT, machine, perceptron, problem
from torchplace.placement.solvers.memory_sequential import MemorySequential

W = 4 * FLOAT


def test_what_fits_one_device_uses_one() -> None:
    made = problem(chain(4), machine([10**6] * 2, [9.0, 1.0]))
    assert MemorySequential().solve(made) == dict.fromkeys(made.ops, "d0")


def test_a_device_is_filled_before_the_next() -> None:
    transient = problem(chain(5), machine([1])).transient_bytes
    made = problem(chain(5), machine([2 * W + transient, 2 * W + transient, 10**6]))
    assert list(MemorySequential().solve(made).values()) == ["d0", "d0", "d1", "d1", "d2"]


def test_room_that_is_short_is_used_up() -> None:
    made = problem(chain(4), machine([2 * W, 2 * W]))
    assert list(MemorySequential().solve(made).values()) == ["d0", "d0", "d1", "d1"]


def test_gradients_and_saved_activations_count_in_training() -> None:
    graph = perceptron((8, 4, 2))
    first = (16 + 8) * FLOAT  # its parameter and gradient, and what layer 1 saves of it
    room = problem(graph, machine([1]), training=True).transient_bytes
    made = problem(graph, machine([first + room, 10**6]), training=True)
    placement = MemorySequential().solve(made)
    assert {op for op, device in placement.items() if device == "d0"} == {"layer0", "grad0"}
    made = problem(graph, machine([first + room - 1, 10**6]), training=True)
    assert set(MemorySequential().solve(made).values()) == {"d1"}
