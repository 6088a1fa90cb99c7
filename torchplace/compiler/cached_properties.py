"""`functools.cached_property`, as Dynamo can trace it."""

from __future__ import annotations

import functools
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest import mock

_MISSING = object()


def _get(self: Any, instance: Any, owner: Any = None) -> Any:
    """Without the lock, which Python has had no more since 3.12."""
    if instance is None:
        return self
    cache = instance.__dict__
    value = cache.get(self.attrname, _MISSING)
    if value is _MISSING:
        value = cache[self.attrname] = self.func(instance)
    return value


def unlocked_properties() -> AbstractContextManager[Any]:
    """Within, what is compiled takes no locks of cached properties.

    Dynamo traces how Python makes such a property, but enters no lock: a model that has one was left to eager.
    """
    if sys.version_info >= (3, 12):
        return nullcontext()
    return mock.patch.object(functools.cached_property, "__get__", _get)
