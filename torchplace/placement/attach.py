"""Which forward op every other op stands with: what makes a split of the forward pass one of the whole step."""

from __future__ import annotations

from torchplace.compiler.graph import Graph, Op, Value


def attach(graph: Graph) -> dict[str, str]:
    """Op name -> name of the forward op that it should be placed with; forward ops stand with themselves.

    - A forward op that only writes state back stands with the first user of that state.
    - A weight-grad op stands with the op of its own module that uses its parameter.
    - Else, and if it is a backward op, with the forward op that made a saved value that it takes, or that uses a
      parameter that it takes; of several, with one of its own module, and then the last.
    - What is left of the weight-grad ops (the parts of a tied parameter's gradient meet in one) stands with the
      first user of its parameter.
    - Another op stands where its inputs do: with the earliest of them, for gradients flow towards the input.
      What has none (a constant that is made) stands with its first user; a gradient that comes from the caller
      counts as standing with the last forward op.

    A heuristic, to place pieces; any other placement is as valid. Cost: linear in the edges.
    """
    return _Attachment(graph).run()


class _Attachment:
    """What is known while ops are attached one by one."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.ops = {op.name: op for op in graph.ops}
        self.index = {op.name: i for i, op in enumerate(graph.ops)}
        self.memory = graph.storage()
        self.parameters = {v.name for v in graph.inputs if v.kind == "parameter"}
        self.reached = _parameter_reached(graph)
        self.forward = [op for op in graph.ops if op.phase == "forward" and not _writes_back(op)]
        self.anchor: dict[str, str] = {op.name: op.name for op in self.forward}
        self.first_user: dict[str, str] = {}  # of an input, among the forward ops
        self.user_in: dict[tuple[str, str], str] = {}  # of an input, in a module: the last
        for op in self.forward:
            for value in op.inputs:
                if value.producer is None:
                    self.first_user.setdefault(value.name, op.name)
                    self.user_in[value.name, op.module] = op.name

    def run(self) -> dict[str, str]:
        for op in self.graph.ops:
            if op.name not in self.anchor and (found := self._with(op)) is not None:
                self.anchor[op.name] = found
        last = self.forward[-1].name if self.forward else None
        users = self.graph.users
        for op in reversed(self.graph.ops):
            if op.name not in self.anchor:
                after = (self.anchor.get(u.name) for v in op.outputs for u in users[v.name])
                self.anchor[op.name] = next((a for a in after if a is not None), last or op.name)
        return {op.name: self.anchor[op.name] for op in self.graph.ops}

    def _with(self, op: Op) -> str | None:
        if op.phase == "forward":
            written = (self.first_user[name] for name in op.mutates if name in self.first_user)
            return next(written, None) or self._follow(op)
        parameter = self.reached.get(op.name, "")
        near = self.user_in.get((parameter, op.module))
        return near or self._source(op) or self.first_user.get(parameter) or self._follow(op)

    def _user_of(self, parameter: str, op: Op) -> str | None:
        """The forward op that takes a parameter: the one of the module of `op`, else the first."""
        return self.user_in.get((parameter, op.module), self.first_user.get(parameter))

    def _source(self, op: Op) -> str | None:
        """The forward op that made, or whose parameter is, something that a backward op takes."""
        found: list[str] = []
        for value in op.inputs:
            if value.producer is not None and value.producer.phase == "forward":
                found.append(self.anchor[value.producer.name])
            elif self.memory[value.name] in self.parameters:
                user = self._user_of(self.memory[value.name], op)
                found += [] if user is None else [user]
        near = [name for name in found if self.ops[name].module == op.module]
        return max(near or found, key=self.index.__getitem__, default=None)

    def _follow(self, op: Op) -> str | None:
        known = [self.anchor[v.producer.name] for v in op.inputs if v.producer and v.producer.name in self.anchor]
        if not known and self.forward and any(v.kind == "tangent" for v in op.inputs):
            return self.forward[-1].name
        return min(known, key=self.index.__getitem__, default=None)


def _writes_back(op: Op) -> bool:
    """Whether all that an op does is to write state: nobody takes anything from it."""
    return bool(op.mutates) and not op.outputs


def _parameter_reached(graph: Graph) -> dict[str, str]:
    """Name of a weight-grad op -> name of the parameter whose gradient it reaches."""
    named = {v.path: v.name for v in graph.inputs if v.kind == "parameter"}
    of_value = {o.value.name: named.get(o.path) for o in graph.outputs if isinstance(o.value, Value) and o.path}
    reached: dict[str, str] = {}
    for op in reversed(graph.ops):
        if op.phase != "weight-grad":
            continue
        parameter = next((p for v in op.outputs if (p := of_value.get(v.name)) is not None), None)
        if parameter is not None:
            reached[op.name] = parameter
            of_value.update((v.name, parameter) for v in op.inputs)
    return reached
