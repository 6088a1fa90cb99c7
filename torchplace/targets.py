"""Targets of the command line: `package.module:callable` or `file.py:callable`, which build a model and its inputs."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from torchplace.errors import OptionError


def load_target(target: str) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Import a target and call it.

    Args:
        target: `package.module:callable` or `file.py:callable`; the callable takes no arguments.

    Returns:
        (model, args, kwargs): what the callable returned, kwargs empty where it gave none.

    Raises:
        OptionError: it cannot be imported, is not callable, fails, or returns something else.
    """
    where, colon, name = target.rpartition(":")
    if not colon or not where or not name:
        raise OptionError(f"target {target!r}: expected 'package.module:callable' or 'file.py:callable'")
    builder = getattr(_module(where, target), name, None)
    if not callable(builder):
        raise OptionError(f"target {target!r}: {where!r} has no callable {name!r}")
    return _built(builder, target)


def _module(where: str, target: str) -> ModuleType:
    try:
        return _from_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
    except Exception as error:
        raise OptionError(f"target {target!r} cannot be imported: {type(error).__name__}: {error}") from error


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{str(path)!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    sys.path.insert(0, str(path.parent.resolve()))  # a file may import its neighbours, as when it is run
    spec.loader.exec_module(module)
    return module


def _built(builder: Callable[[], Any], target: str) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    try:
        made = builder()
    except Exception as error:
        raise OptionError(f"target {target!r} failed: {type(error).__name__}: {error}") from error
    if not isinstance(made, tuple) or len(made) not in (2, 3) or not isinstance(made[1], (tuple, list)):
        raise OptionError(
            f"target {target!r} returned {type(made).__name__}; expected (model, args) or (model, args, kwargs), "
            "with args a tuple"
        )
    return made[0], tuple(made[1]), dict(made[2]) if len(made) == 3 else {}
