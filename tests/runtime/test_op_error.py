"""The error of an op says what it was and where; of a check, it is also what the model would raise."""

from __future__ import annotations

from torchplace.compiler.graph import Op
from torchplace.errors import ExecutionError
from torchplace.runtime.op_error import op_error


def test_it_names_op_module_line_and_device() -> None:
    op = Op("mm", "aten.mm.default", module="body.0", source="net.py:12")
    found = op_error(op, "cpu:1", ValueError("sizes"))
    said = "op 'mm' (aten.mm.default; module body.0, net.py:12) failed on device cpu:1: ValueError: sizes"
    assert (type(found), str(found)) == (ExecutionError, said)
    assert "a segment failed on device cpu:1" in str(op_error(None, "cpu:1", ValueError("sizes")))


def test_a_check_raises_what_the_model_would() -> None:
    for kind in (KeyError, AssertionError, ValueError):
        op = Op("check", "aten._assert_async.msg", (None, f"{kind.__name__}: raise it"), source="net.py:3")
        found = op_error(op, "cpu:0", RuntimeError("anything"))
        assert isinstance(found, ExecutionError)
        assert isinstance(found, kind)
        assert str(found) == f"op 'check' (aten._assert_async.msg; net.py:3) failed on device cpu:0: {op.args[1]}"


def test_other_checks_are_errors_of_ops() -> None:
    for message in ("too low", "print: it", "KeyboardInterrupt: now"):
        op = Op("check", "aten._assert_async.msg", (None, message))
        found = op_error(op, "cpu:0", RuntimeError(message))
        assert type(found) is ExecutionError
