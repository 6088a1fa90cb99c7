"""The layout of PCIe decides: one capture, planned for Big Sur's three layouts, and checked by hand."""

from __future__ import annotations

import pytest
import torch

import torchplace as tp
from examples.two_tower import ManyTower
from torchplace.errors import OptionError, TopologyError

SINGLE, DUAL, CASCADED = "big-sur-single-root", "big-sur-dual-root", "big-sur-cascaded"
LAYOUTS = [SINGLE, DUAL, CASCADED]
VECTORS = 16_384 * 256 * 4
"""Bytes of what one tower makes: a row of 256 numbers for each of the batch."""


def four() -> tuple[ManyTower, tuple[torch.Tensor, ...]]:
    """As `examples.two_tower.build_four`, without data."""
    with torch.device("meta"):
        return ManyTower(4), tuple(torch.empty(16_384, 16, dtype=torch.long) for _ in range(4))


@pytest.fixture(scope="module")
def compared() -> dict[tuple[str, str], tp.Plan]:
    model, args = four()
    seen: list[tuple[str, str]] = []
    rows = tp.compare(
        model, args, topologies=LAYOUTS, solvers="single,balanced,memory-balanced,heft",
        on_row=lambda row: seen.append((row.topology, row.solver)),
    )  # fmt: skip
    assert seen == [(row.topology, row.solver) for row in rows], "as they come"
    assert {row.topology for row in rows} == set(LAYOUTS)
    return {(row.topology, row.solver): row.plan for row in rows if row.plan is not None}


def test_the_slow_way_between_sockets_costs_what_crosses_it(compared: dict[tuple[str, str], tp.Plan]) -> None:
    """The best plan's last transfer crosses from switch to switch: 12 GB/s, or 6 GB/s and 58 ns over QPI."""
    single, dual, cascaded = (compared[layout, "memory-balanced"] for layout in LAYOUTS)
    assert single.placement == dual.placement, "this solver does not look at links"
    later = dual.predicted.step_time - single.predicted.step_time
    assert later == pytest.approx(VECTORS / 6e9 - VECTORS / 12e9 + 58e-9, rel=1e-6)
    assert single.predicted.step_time - cascaded.predicted.step_time == pytest.approx(150e-9, rel=1e-3), "a hop less"


def test_a_solver_that_looks_at_links_plans_otherwise() -> None:
    model, args = four()
    plans = [tp.plan(model, args, topology=layout, training=True, solver="heft") for layout in (SINGLE, DUAL)]
    assert plans[0].placement != plans[1].placement
    assert plans[0].topology.digest != plans[1].topology.digest


def test_vectors_that_meet_share_links_and_where_they_cross_decides() -> None:
    """A tower each on gpu:0, 1, 4 and 5; gpu:0 takes the other three vectors, which leave at the same time.

    Under one root its own link decides, with a third of 12 GB/s for each. Between two, QPI gives the two that cross
    3 GB/s each; the third has 6 of the 12 GB/s that are left, and is there long before.
    """
    model, args = four()
    pins = {f"towers.{i}.*": f"gpu:{device}" for i, device in enumerate((0, 1, 4, 5))} | {
        "top": "gpu:0",
        "cat": "gpu:0",
    }
    plans = [tp.plan(model, args, topology=layout, solver="heft", pins=pins) for layout in (SINGLE, DUAL)]
    later = plans[1].predicted.step_time - plans[0].predicted.step_time
    assert later == pytest.approx(VECTORS / 3e9 - VECTORS / 4e9 + 58e-9, rel=1e-6)


def test_a_table_with_a_part_for_each_topology(capsys: pytest.CaptureFixture[str]) -> None:
    model, args = four()
    rows = tp.compare(model, args, topologies=f"{SINGLE}, dgx-h100", solvers="single,balanced")
    assert capsys.readouterr().out.strip() == str(rows)
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in str(rows).splitlines() if "│" in line]
    assert [cells[0] for cells in lines] == [SINGLE, "single", "balanced *", "dgx-h100", "single", "balanced *"]
    assert lines[0][1:] == [""] * 7
    assert [cells[2] for cells in lines if "*" in cells[0]] == ["1.00x", "1.00x"], "the best of each topology"


def test_a_topology_has_its_own_name() -> None:
    model, args = four()
    mine = tp.Topology.preset("dgx1-v100")
    rows = tp.compare(model, args, topologies=[mine, "big-sur"], solvers="single", on_row=lambda row: None)
    assert [row.topology for row in rows] == ["dgx1-v100", "big-sur"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"topology": "big-sur", "topologies": [SINGLE]}, OptionError, "were both given; give one"),
        ({"topologies": []}, OptionError, "topologies is empty"),
        ({"topologies": "big-sur,big-sir"}, TopologyError, "big-sir"),
    ],
)
def test_mistakes(options: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        tp.compare(torch.nn.Linear(2, 2), (torch.ones(1, 2),), **options)  # type: ignore[arg-type]
