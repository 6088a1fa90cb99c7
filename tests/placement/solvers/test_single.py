from __future__ import annotations

import pytest

from tests.compiler.graphs import chain
from tests.placement.graphs import FLOAT, machine, problem
from torchplace.errors import InfeasibleError
from torchplace.placement.solvers.single import Single

W = 4 * FLOAT


def test_the_fastest_device_runs_everything() -> None:
    made = problem(chain(3), machine([10**6] * 3, [2.0, 1.0, 1.0]))
    assert Single().solve(made) == dict.fromkeys(made.ops, "d1")


def test_a_device_that_is_too_small_is_passed_over() -> None:
    made = problem(chain(3), machine([10**6, 3 * W - 1], [2.0, 1.0]))
    assert Single().solve(made) == dict.fromkeys(made.ops, "d0")


def test_a_device_with_room_for_what_comes_and_goes_is_preferred() -> None:
    made = problem(chain(3), machine([10**6, 3 * W], [2.0, 1.0]))
    assert Single().solve(made) == dict.fromkeys(made.ops, "d0")
    made = problem(chain(3), machine([3 * W - 1, 3 * W], [2.0, 1.0]))
    assert Single().solve(made) == dict.fromkeys(made.ops, "d1")


def test_pinned_ops_stay_and_their_bytes_count_where_they_are() -> None:
    made = problem(chain(3), machine([10**6, 2 * W], [2.0, 1.0]), pins={"v1": "d0"})
    assert Single().solve(made)["v1"] == "d0"
    made = problem(chain(3), machine([W, 2 * W], [2.0, 1.0]), pins={"v1": "d0"})
    assert Single().solve(made) == {"v0": "d1", "v1": "d0", "v2": "d1"}


def test_no_device_is_large_enough() -> None:
    made = problem(chain(3), machine([2 * W, 2 * W]))
    with pytest.raises(InfeasibleError, match=r"solver 'single' found .* d0 lacks 16 bytes"):
        Single().solve(made)


def test_what_must_not_be_there_goes_elsewhere() -> None:
    made = problem(chain(4), machine([10**6] * 3, [1.0, 2.0, 3.0]), forbid={"v[12]": ["d0"]})
    assert Single().solve(made) == {"v0": "d0", "v1": "d1", "v2": "d1", "v3": "d0"}
    made = problem(chain(4), machine([2 * W, W, W, 1]), forbid={"v[12]": ["d0"]})
    assert sorted(Single().solve(made).values()) == ["d0", "d0", "d1", "d2"]
    made = problem(chain(4), machine([9 * W, W, W, 1]), forbid={"v[123]": ["d0"]})
    with pytest.raises(InfeasibleError, match=r"d\d lacks .*; hints in force: forbid 'v\[123\]': 'd0'"):
        Single().solve(made)
