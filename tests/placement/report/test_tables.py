from __future__ import annotations

import dataclasses

from tests.compiler.graphs import chain
from tests.placement.plans import plan_of
from tests.placement.report.rows import rows_of
from torchplace.placement.predicted import Predicted
from torchplace.placement.report.tables import plan_text, render


def test_a_plan_as_people_read_it() -> None:
    plan = plan_of()
    text = plan_text(plan)
    assert text.splitlines()[0] == "toy on machine"
    rows = rows_of(text.split("memory at")[0])
    assert list(rows) == ["d0", "d1", "d2"]
    p = plan.predicted
    for i, device in enumerate(("d0", "d1", "d2")):
        ops, share, parameters, peak, capacity, received, sent = rows[device]
        assert ops == str(plan.ops_on[device])
        assert share == ("75.0%", "12.5%", "12.5%")[i]
        assert parameters == f"{plan.parameter_bytes[device]} B"
        assert peak == f"{p.peak_memory[device]} B (0.0%)"
        assert capacity == "1.00 MiB"
        assert received == f"{p.bytes_in[device]} B"
        assert sent == f"{p.bytes_out[device]} B"
    assert f"predicted step time {p.step_time:.3g} s (forward; costs: table)" in text.splitlines()
    gap = f"so the plan is at most {100 * plan.gap:.1f}% above it"
    assert f"lower bound 3.02 s (critical path with transfers), {gap}" in text.splitlines()
    assert "solver by hand, objective latency, 250 ms, seed 7" in text


def test_what_takes_the_memory() -> None:
    plan = plan_of()
    first, *lines = plan_text(plan).split("memory at")[1].splitlines()
    assert first == " each device's peak"
    headings = [cell.strip() for cell in lines[1].split("┃")[1:-1]]
    assert headings == ["device", "parameters", "gradients", "saved activations", "inputs, outputs", "temporaries"]
    rows = rows_of("\n".join(lines))
    memory = plan.predicted.memory
    for device in ("d0", "d1", "d2"):
        kinds = ("parameters", "gradients", "activations", "caller", "temporaries")
        assert rows[device] == [f"{memory[device].get(kind, 0)} B" for kind in kinds]
    adam = dataclasses.replace(plan, optimizer="adam")
    assert "optimizer adam: its state is counted" in plan_text(adam).splitlines()
    assert "optimizer" not in plan_text(plan)


def test_devices_that_do_nothing_share_a_line() -> None:
    plan = plan_of(dict.fromkeys(plan_of().placement, "d0"))
    assert list(rows_of(plan_text(plan).split("memory at")[0])) == ["d0", "2 idle"]
    assert list(rows_of(plan_text(plan).split("memory at")[1])) == ["d0"]
    unknown = dataclasses.replace(plan, predicted=Predicted(1.0))
    assert "memory at" not in plan_text(unknown)


def test_what_else_a_plan_may_be() -> None:
    plan = dataclasses.replace(plan_of(), training=True, lower_bound=0.0, bound="")
    assert "(forward and backward; costs: table)" in plan_text(plan)
    assert "lower bound 0 us; the gap is unknown" in plan_text(plan)
    assert "for any sizes with" not in plan_text(plan)
    assert "for calls in which" not in plan_text(plan)
    dynamic = dataclasses.replace(
        plan, holds=("x[0] from 2 to 64", "y[0] = x[0]"), lower_bound=plan.value * (1 + 1e-12)
    )
    assert "for any sizes with x[0] from 2 to 64; y[0] = x[0]\n" in plan_text(dynamic) + "\n"
    assert "at most 0.0% above it" in plan_text(dynamic)
    looked_up = dataclasses.replace(plan, found=("models/net.py:7 finds True",))
    assert "for calls in which models/net.py:7 finds True\n" in plan_text(looked_up) + "\n"
    broken = dataclasses.replace(plan, rest=(plan_of({"v0": "d0", "v1": "d0"}, chain(2)),), broken="model.py:7: print")
    assert "1 more graph(s), with 2 ops" in plan_text(broken)
    assert "1 graph break(s), between which Python runs where its inputs are, at:\n  model.py:7: print" in plan_text(
        broken
    )


def test_a_plan_read_from_a_file_reads_the_same() -> None:
    plan = plan_of()
    assert plan_text(dataclasses.replace(plan, programs=(), timeline=None)) == plan_text(plan)


def test_plain_text_without_trailing_lines() -> None:
    text = render("one", "two", width=20)
    assert text == "one\ntwo"
    assert "\x1b" not in render("[b]bold[/]")
