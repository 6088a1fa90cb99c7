"""The memory model of the placement problem: bytes that stay on a device, and bytes that come and go.

Resident bytes add up over ops: each piece of state, and each saved activation, belongs to one op and lives where
that op is placed. So a solver packs ops by one number each. What the model leaves out (copies of what is sent,
the order in which memory is given back) is counted when a placement's program is simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torchplace.compiler.graph import STATE, Graph, Op, Value
from torchplace.compiler.pipeline import sum_name


def state_bytes(graph: Graph, *, training: bool, optimizer: Mapping[str, int] | None = None) -> dict[str, int]:
    """Input name -> bytes that it takes on its owner, for every parameter, buffer and constant.

    In training a parameter whose gradient the graph returns counts twice, for its gradient lives beside it.

    Args:
        graph: forward alone, or with its backward.
        training: whether gradients are kept.
        optimizer: input name -> bytes of optimizer state, which counts, too (`optimizer.optimizer_bytes`).
    """
    trained = parameter_gradients(graph).values() if training else ()
    twice = {name for names in trained for name in names}
    beside = optimizer or {}
    return {
        v.name: v.storage_bytes * (2 if v.name in twice else 1) + beside.get(v.name, 0)
        for v in graph.inputs
        if v.kind in STATE
    }


def memory_kinds(part: Graph, whole: Graph) -> dict[str, str]:
    """Value name -> what its memory is, for the breakdown of a peak: see `plan.Predicted`; others are temporaries.

    Args:
        part: that is run.
        whole: of which it is a part; it has all parameters.
    """
    parameters = {v.path for v in whole.inputs if v.kind == "parameter"}
    ends = [(o.value.name, o) for o in part.outputs if isinstance(o.value, Value)]
    kinds = {v.name: "parameters" for v in part.inputs if v.kind in STATE}
    kinds.update((v.name, "caller") for v in part.inputs if v.kind in ("input", "tangent"))
    for wanted, what in (("output", "caller"), ("gradient", "gradients"), ("saved", "activations")):
        for name, output in ends:
            if output.kind == wanted:
                kind = what if wanted != "gradient" or output.path in parameters else "caller"
                kinds.setdefault(name, kind)
                kinds.update({sum_name(name): kind} if kind == "gradients" else {})
    for value in (*part.inputs, *_saved(part, _roots(part))):
        kinds.setdefault(value.name, "activations")
    return kinds


def saved_bytes(graph: Graph, *, training: bool) -> dict[str, int]:
    """Op name -> bytes that it makes and that are kept for the backward pass; ops that keep none are left out.

    A forward value that a backward or weight-grad op takes keeps the memory that it stands in, once, however
    many views and users there are. Memory of an input is not counted: it is state, or the caller's.
    """
    kept: dict[str, int] = {}
    for value in _saved(graph, _roots(graph)) if training else ():
        if value.producer is not None:
            kept[value.producer.name] = kept.get(value.producer.name, 0) + value.storage_bytes
    return kept


def transient_bytes(graph: Graph, *, training: bool, workspace: Callable[[Op], int] = lambda op: 0) -> int:
    """Bytes that are live at most, beyond what stays, if one device ran the whole graph in program order.

    A reserve to pack with: a device needs more only for copies of what is sent to it. Inputs that are no state are
    live all the time.

    Args:
        graph: forward alone, or with its backward.
        training: whether gradients and activations are kept.
        workspace: bytes that an op takes while it runs, beyond its inputs and results.

    Cost: linear.
    """
    root = _roots(graph)
    staying = _staying(graph, root, training=training)
    last = _last_uses(graph, root)
    ending: dict[int, int] = {}
    for name, i in last.items():
        if name not in staying and root[name].producer is not None:
            ending[i] = ending.get(i, 0) + root[name].storage_bytes
    live = peak = sum(v.storage_bytes for v in graph.inputs if v.name not in staying)
    for i, op in enumerate(graph.ops):
        live += sum(v.storage_bytes for v in op.outputs if root[v.name] is v and v.name not in staying)
        peak = max(peak, live + workspace(op))
        live -= ending.get(i, 0)
    return peak


def _roots(graph: Graph) -> dict[str, Value]:
    """Value name -> the value whose memory it stands in."""
    values = graph.values
    return {name: values.get(memory, values[name]) for name, memory in graph.storage().items()}


def parameter_gradients(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Name of a gradient that the graph returns -> names of the parameters whose gradient it is: mostly one."""
    named = {v.path: v.name for v in graph.inputs if v.kind == "parameter"}
    found: dict[str, tuple[str, ...]] = {}
    for output in graph.outputs:
        if output.kind == "gradient" and isinstance(output.value, Value) and output.path in named:
            found[output.value.name] = (*found.get(output.value.name, ()), named[output.path])
    return found


def _staying(graph: Graph, root: Mapping[str, Value], *, training: bool) -> set[str]:
    """Names of the values whose memory is counted as resident: state, gradients, saved activations."""
    staying = {v.name for v in graph.inputs if v.kind in STATE}
    if not training:
        return staying
    gradients = parameter_gradients(graph)
    for value in graph.output_values:
        # A gradient that is a part of something larger keeps all of it, and does not stand for it.
        if value.name in gradients and root[value.name].nbytes <= value.nbytes:
            staying.add(root[value.name].name)
    staying.update(v.name for v in _saved(graph, root))
    return staying


def _saved(graph: Graph, root: Mapping[str, Value]) -> list[Value]:
    """The values whose memory, made by forward ops, backward or weight-grad ops take: each once, in order."""
    late = (op for op in graph.ops if op.phase != "forward")
    taken = (root[v.name] for op in late for v in op.inputs)
    return [v for v in dict.fromkeys(taken) if v.producer is not None and v.producer.phase == "forward"]


def _last_uses(graph: Graph, root: Mapping[str, Value]) -> dict[str, int]:
    """Name of a piece of memory -> index of the last op that uses it; what is returned lives to the end."""
    last: dict[str, int] = {}
    for i, op in enumerate(graph.ops):
        for value in (*op.inputs, *op.outputs):
            last[root[value.name].name] = i
    last.update((root[v.name].name, len(graph.ops)) for v in graph.output_values)
    return last
