"""Formulas: how a value in a graph that is being traced follows from integers and truths that the call was given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any
from weakref import WeakKeyDictionary

import torch
from sympy import Integer
from torch import fx
from torch._dynamo.guards import _get_closure_vars
from torch._guards import Source
from torch._subclasses.fake_tensor import is_fake
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.utils import _pytree as pytree

from torchplace.compiler.draws import draws
from torchplace.compiler.writes import may_write

_LONGEST = 100
"""Ops that a formula may have: a guard computes them in every call."""
_MOST = 1 << 20
"""Elements of a tensor that it may read."""


class Call:
    """A call, of which formulas are computed, each once.

    Attributes:
        variables: "L" and "G" -> its locals and globals.
    """

    def __init__(self, variables: Mapping[str, Any]) -> None:
        """Nothing is computed yet."""
        self.variables = dict(variables)  # its own: to read it leaves names there
        self._known, self._sources = dict(_get_closure_vars()), dict[Source, Any]()
        self._values: dict[Formula, Any] = {}

    def read(self, source: Source) -> Any:
        """What Dynamo reads there."""
        return source.get_value(self.variables, self._known, self._sources)

    def value(self, formula: Formula) -> Any:
        """What a formula comes to."""
        if formula not in self._values:
            given = [one(self) for one in formula.given]
            with torch.no_grad():
                result = formula.graph(*(_apart(given) if formula.writes else given))
            self._values[formula] = pytree.key_get(result, formula.path)
        return self._values[formula]


Given = Callable[[Call], Any]


@dataclass(frozen=True, eq=False)
class Formula:
    """How a value is computed from what a call is given.

    Attributes:
        graph: what computes it, or what holds it.
        given: what gives the inputs of the graph.
        path: where in the result the value is.
        writes: whether the graph may write into its inputs: it gets copies.
    """

    graph: fx.GraphModule
    given: Sequence[Given]
    path: pytree.KeyPath
    writes: bool = False


def formula_of(node: fx.Node, path: pytree.KeyPath = ()) -> Formula | None:
    """The formula of what a node of Dynamo's gives; None if it hangs on other numbers, or on chance.

    Cost: in the nodes before it; times those among them that write.
    """
    needed = _needed(node)
    if len(needed) > _LONGEST:
        return None
    graph, copies, given = fx.Graph(), dict[fx.Node, fx.Node](), list[Given]()
    for one in node.graph.nodes:
        if one not in needed:
            continue
        if _is_size(one) or one.op == "placeholder":
            reading = _size_of(one) if _is_size(one) else _argument(one)
            if reading is None:
                return None
            given.append(reading)
            copies[one] = graph.placeholder(one.name)
        elif not _is_plain(one):
            return None
        else:
            copies[one] = graph.node_copy(one, lambda other: copies[other])
            copies[one].args, copies[one].kwargs = pytree.tree_map(_on_host, (copies[one].args, copies[one].kwargs))
            copies[one].meta.clear()
    graph.output(copies[node])
    return Formula(fx.GraphModule(torch.nn.Module(), graph), given, path, any(map(may_write, needed)))


def formula_of_symbol(graph: fx.Graph, symbol: Any) -> Formula | None:
    """The formula of a number that hangs on values, for which a symbol stands."""
    known = _known.setdefault(graph, {})
    if symbol not in known and (node := binding_of(graph, symbol)) is not None:
        known[symbol] = formula_of(node, node.meta["unbacked_bindings"][symbol])
    return known.get(symbol)


def binding_of(graph: fx.Graph, symbol: Any) -> fx.Node | None:
    """What has made the number for which a symbol stands."""
    return next((node for node in graph.nodes if symbol in node.meta.get("unbacked_bindings", {})), None)


def unbacked_in(node: fx.Node) -> set[Any]:
    """The symbols of numbers that hang on values in a number of the graph."""
    value = node.meta.get("example_value")
    return set(free_unbacked_symbols(value)) if isinstance(value, torch.SymInt) else set()


_known: MutableMapping[fx.Graph, dict[Any, Formula | None]] = WeakKeyDictionary()


def _behind(node: fx.Node) -> set[fx.Node]:
    """A node, and all that it hangs on; not what sizes were read from."""
    found, todo = {node}, [node]
    while todo:
        one = todo.pop()
        new = set() if _is_size(one) else set(one.all_input_nodes) - found
        found |= new
        todo += new
    return found


def _is_size(node: fx.Node) -> bool:
    """Whether it is a number that follows from sizes, not from an op."""
    return isinstance(node.meta.get("example_value"), torch.SymInt) and not node.meta.get("unbacked_bindings")


def _size_of(node: fx.Node) -> Given | None:
    size = node.meta["example_value"].node
    expr = size.expr  # as it is now: it is given in other symbols once these are found to be equal
    given: dict[Any, Given] = {}
    for symbol in expr.free_symbols:
        sources = size.shape_env.var_to_sources.get(symbol)
        formula = None if sources else formula_of_symbol(node.graph, symbol)
        if not sources and formula is None:
            return None
        given[symbol] = _computing(formula) if formula else _reading(sources[0])
    return lambda call: int(expr.xreplace({symbol: Integer(one(call)) for symbol, one in given.items()}))


def _computing(formula: Formula) -> Given:
    return lambda call: call.value(formula)


def _argument(node: fx.Node) -> Given | None:
    """What reads integers or truths that the call was given; None for what is none."""
    argument = node.meta.get("grapharg")
    if argument is None or argument.source is None or argument.pass_arg_as_tensor:
        return None
    value = argument.example
    tensor = isinstance(value, torch.Tensor) and not (is_fake(value) or _has_fractions(value))
    return _reading(argument.source) if isinstance(value, int) or (tensor and value.numel() <= _MOST) else None


def _reading(source: Source) -> Given:
    """What reads a source; a tensor is copied to the host, for a plan may have moved buffers to several devices."""

    def reading(call: Call) -> Any:
        value = call.read(source)
        return value.cpu() if isinstance(value, torch.Tensor) else value

    return reading


def _on_host(given: Any) -> Any:
    """What an op is given, but the host where that is a device or the name of one."""
    host = torch.device("cpu")
    if isinstance(given, str):
        try:
            return host if torch.device(given) else given
        except RuntimeError:
            return given
    return host if isinstance(given, torch.device) else given


def _is_plain(node: fx.Node) -> bool:
    """Whether it is an op that gives the same for the same."""
    return node.op in ("call_function", "call_method") and not draws(node)


def _apart(given: Sequence[Any]) -> list[Any]:
    """Copies of tensors; those that share memory would share it no more."""
    tensors = [one for one in given if isinstance(one, torch.Tensor)]
    if len({one.untyped_storage().data_ptr() for one in tensors}) < len(tensors):
        raise ValueError("what is written may be another input, too")
    return [one.clone() if isinstance(one, torch.Tensor) else one for one in given]


def _has_fractions(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _needed(node: fx.Node) -> set[fx.Node]:
    """A node, all that it hangs on, and what has written into any of that before."""
    needed = _behind(node)
    writing = [one for one in takewhile(lambda one: one is not node, node.graph.nodes) if may_write(one)]
    left = [(one, _behind(one)) for one in writing if not _gets_fractions(one)]
    while touching := [(one, behind) for one, behind in left if one not in needed and behind & needed]:
        needed = needed.union(*(behind for _, behind in touching))
    return needed


def _gets_fractions(node: fx.Node) -> bool:
    """Whether what it writes into is no tensor of integers or truths."""
    value = node.all_input_nodes[0].meta.get("example_value") if node.all_input_nodes else None
    return isinstance(value, torch.Tensor) and _has_fractions(value)
