"""What a plan is predicted to cost is what its timeline shows."""

from __future__ import annotations

from tests.placement.graphs import machine
from tests.placement.plans import plan_of
from torchplace.placement.predicted import Predicted
from torchplace.placement.timeline import Timeline


def test_predicted_figures_are_those_of_the_timeline() -> None:
    plan = plan_of()
    p, timeline = plan.predicted, plan.timeline
    assert timeline is not None
    assert p.step_time == timeline.duration
    assert p.peak_memory == timeline.peak_memory
    assert p.busy == {"d0": 6.0, "d1": 1.0, "d2": 1.0}
    assert sum(p.bytes_in.values()) == sum(p.bytes_out.values()) > 0
    assert sum(p.link_bytes.values()) == 2 * sum(p.bytes_in.values()), "every transfer crosses two links"
    assert {d: sum(parts.values()) for d, parts in p.memory.items()} == p.peak_memory
    assert p.memory["d2"] == {"parameters": 8, "activations": 16, "gradients": 8, "caller": 8}, "layer1 comes as a copy"
    empty = Predicted.of(Timeline(), (), machine([1]), {})
    assert empty == Predicted(0.0, {}, {}, {"d0": 0}, {"d0": 0}, {"d0": 0}, {})
