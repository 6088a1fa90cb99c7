from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, graphs, placed
from tests.compiler.memory_oracle import most_alive
from torchplace.compiler.footprint import TEMPORARY, find_peaks, measure_segments
from torchplace.compiler.graph import Graph, Op
from torchplace.compiler.instructions import Accumulate, Free, Instruction, Recv, Run
from torchplace.compiler.lifetimes import Ledger, insert_frees, peak_memory
from torchplace.compiler.lower import lower
from torchplace.compiler.program import Entry, Exit, Program, Segment, Slot
from torchplace.compiler.types import TensorType

ONE = ("gpu:0",)


def workspace(op: Op, device: str = "") -> int:
    """Some bytes for some ops."""
    return 7 * (len(op.name + op.target) % 3)


@given(placed())
def test_peaks_are_those_of_python_references(case: tuple) -> None:
    graph, devices, placement, owners = case
    program = lower(graph, placement, devices, owners, workspace=workspace)
    expected = {d: most_alive(program, graph, d, workspace) for d in devices}
    assert peak_memory(program) == expected
    found = find_peaks(program, graph, {}, workspace)
    assert {d: peak.nbytes for d, peak in found.items()} == expected
    assert all(sum(peak.parts.values()) == peak.nbytes for peak in found.values())


@given(graphs(), st.integers(1, 3), st.booleans(), st.data())
def test_several_microbatches(graph: Graph, count: int, one_by_one: bool, data: st.DataObject) -> None:
    """One device's list, for micro-batches that follow each other, or that all go a step before any goes the next."""
    program = lower(graph, {op.name: "gpu:0" for op in graph.ops}, ONE)
    taken = [n for n, e in program.inputs.items() if not e.resident]
    program.inputs = {n: e for n, e in program.inputs.items() if e.resident}
    for name in taken:
        program.values.setdefault(name, Slot(graph.values[name].nbytes))
    once: list[Instruction] = [Recv(name, "gpu:1") for name in taken]
    once += [i for i in program.instructions["gpu:0"] if isinstance(i, Run)]
    made = [name for i in once if isinstance(i, Run) for name in i.outputs]
    if made and data.draw(st.booleans()):
        name = data.draw(st.sampled_from(made))
        program.values["sum"] = Slot(program.values[name].memory)
        once.append(Accumulate(name, "sum"))
    places = [(k, i) for k in range(count) for i in range(len(once))]
    places.sort(key=lambda p: p if one_by_one else p[::-1])
    program.outputs = tuple(Exit(o.value, o.device) for o in program.outputs if o.value in program.inputs)
    program.instructions = {"gpu:0": [dataclasses.replace(once[i], microbatch=k) for k, i in places]}
    insert_frees(program)
    measure_segments(program, graph, workspace)
    expected = most_alive(program, graph, "gpu:0", workspace)
    assert find_peaks(program, graph, {}, workspace)["gpu:0"].nbytes == expected
    ledger = Ledger(program, "gpu:0")
    for instruction in program.instructions["gpu:0"]:
        ledger.step(instruction)
    assert ledger.peak >= expected, "a segment is as hungry as its hungriest run"
    if count == 1:
        assert ledger.peak == expected


def _memory(program: Program, graph: Graph) -> tuple[int, dict[str, int]]:
    peak = find_peaks(program, graph, {"x": "caller", "w": "parameters", "y": "activations", "g": "gradients"})["gpu:0"]
    assert peak.nbytes == peak_memory(program)["gpu:0"] == most_alive(program, graph, "gpu:0")
    return peak.nbytes, peak.parts


def test_a_segment_drops_what_it_was_the_last_to_use() -> None:
    b = Builder()
    x, w = b.add("x", "saved", 100), b.parameter("w", 1)
    y = b.add_op(x, w, shape=(50,), name="y")
    z = b.add_op(y, shape=(120,), name="z")
    b.returns(b.view(z, "view"))
    program = lower(b.graph, dict.fromkeys(("y", "z", "view"), "gpu:0"), ONE)
    assert _memory(program, b.graph) == (4 * 171, {"parameters": 4, "activations": 200, TEMPORARY: 480})
    assert program.segments["s0"].peak == 4 * (50 + 120 - 100)
    program.inputs["x"] = Entry("gpu:0", lent=True)
    measure_segments(program, b.graph)
    assert program.segments["s0"].peak == 4 * (50 + 120)
    assert _memory(program, b.graph) == (4 * 271, {"caller": 400, "parameters": 4, "activations": 200, TEMPORARY: 480})


def test_a_view_keeps_all_that_it_views_till_it_goes() -> None:
    b = Builder()
    x = b.add("x", "saved", 100)
    part = b.op("aten.slice.Tensor", x, 0, 0, 10, shape=(10,), name="part", base=x)
    y = b.add_op(part, shape=(5,), name="y")
    b.returns(b.add_op(y, shape=(50,), name="z"))
    program = lower(b.graph, dict.fromkeys(("part", "y", "z"), "gpu:0"), ONE)
    assert _memory(program, b.graph)[0] == 4 * 105, "part is gone when z is made"


def test_a_workspace_counts_while_its_op_runs() -> None:
    b = Builder()
    b.returns(b.add_op(b.add_op(b.input("x", 1), shape=(10,), name="small"), shape=(1,), name="end"))
    spaces = {"small": 8, "end": 1000}
    program = lower(b.graph, dict.fromkeys(spaces, "gpu:0"), ONE, workspace=lambda op, device: spaces[op.name])
    peak = find_peaks(program, b.graph, {}, lambda op, device: spaces[op.name])["gpu:0"]
    assert (peak.nbytes, peak.op, peak.parts) == (4 + 40 + 4 + 1000, "end", {TEMPORARY: 1048})
    assert peak_memory(program)["gpu:0"] == peak.nbytes


def test_what_arrives_takes_the_memory_between_its_first_and_last_element() -> None:
    b = Builder()
    whole = b.add_op(b.input("x", 1), shape=(8, 6), name="whole")
    part = b.op("aten.slice.Tensor", whole, 1, 0, 2, shape=(8, 2), name="part", base=whole)
    part.type = TensorType("float32", (8, 2), (6, 1))
    b.returns(b.add_op(part, shape=(1,), name="end"))
    program = lower(b.graph, {"whole": "gpu:0", "part": "gpu:0", "end": "gpu:1"}, ("gpu:0", "gpu:1"))
    assert program.values["part"] == Slot(64, "whole", 4 * 44)
    assert peak_memory(program) == {"gpu:0": 4 + 4 * 48, "gpu:1": 4 * 44 + 4}


PIPELINE = """
program "toy" on gpu:0
value %w: 40 bytes
value %x: 10 bytes
value %y: 100 bytes
value %d: 10 bytes
value %g: 40 bytes
value %sum: 40 bytes
input %w on gpu:0 resident
background 80 bytes of optimizer on gpu:0
segment forward on gpu:0 peak 0: y
segment backward on gpu:0 peak 0: g
output %sum on gpu:0
gpu:0:
"""
FORWARD = "recv %x from gpu:1 @{k}\nrun forward (%w, %x) -> %y @{k}"
BACKWARD = "recv %d from gpu:1 @{k}\nrun backward (%w, %y, %d) -> %g @{k}\naccumulate %g into %sum @{k}"


def pipeline(order: str) -> tuple[Program, Graph]:
    """One device of a pipeline, for an order such as `F0 F1 B0 B1`."""
    b = Builder()
    y = b.op("aten.mul.Tensor", b.parameter("w", 10), b.input("x", 2), shape=(25,), name="y")
    b.op("aten.mul.Tensor", b.graph.inputs[0], y, b.input("d", 2), shape=(10,), name="g")
    lines = [(FORWARD if step[0] == "F" else BACKWARD).format(k=step[1:]) for step in order.split()]
    text = "\n".join(f"  {line}".removesuffix(" @0") for line in "\n".join(lines).splitlines())
    program = Program.parse(PIPELINE.strip() + "\n" + text)
    insert_frees(program)
    measure_segments(program, b.graph)
    return program, b.graph


def test_microbatches_in_flight_keep_their_activations() -> None:
    standing = 40 + 80  # the parameter, and its optimizer's state
    gpipe, graph = pipeline("F0 F1 F2 F3 B0 B1 B2 B3")
    peak = find_peaks(gpipe, graph, {"w": "parameters", "y": "activations", "sum": "gradients"})["gpu:0"]
    assert peak.nbytes == standing + 4 * 100 + 10 + 40, "the first gradient is made, all activations are there"
    assert peak.parts == {"optimizer": 80, "parameters": 40, "activations": 400, TEMPORARY: 50}
    alternating, _ = pipeline("F0 F1 B0 F2 B1 F3 B2 B3")
    assert peak_memory(alternating)["gpu:0"] == standing + 2 * 100 + 40 + 10 + 40, "two in flight, the sum, a gradient"
    for program in (gpipe, alternating):
        assert peak_memory(program)["gpu:0"] == most_alive(program, graph, "gpu:0")


def test_a_parameter_is_there_once_for_all_microbatches() -> None:
    program = Program("toy", ONE, {"w": Slot(8), "t": Slot(8, "w")}, {"w": Entry("gpu:0", resident=True)})
    program.segments = {"s0": Segment("s0", "gpu:0", ("t",))}
    program.instructions = {
        "gpu:0": [Run("s0", ("w",), ("t",), k) for k in range(3)] + [Free("t", k) for k in range(3)]
    }
    b = Builder()
    b.view(b.parameter("w", 2), "t")
    measure_segments(program, b.graph)
    assert peak_memory(program)["gpu:0"] == most_alive(program, b.graph, "gpu:0") == 8
