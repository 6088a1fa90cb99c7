"""What of a model cannot be captured, and runs in eager: nothing of that goes unsaid."""

from __future__ import annotations

import warnings


class LeftOut:
    """Why functions of one model were left to eager, as a whole or up to where their graph breaks."""

    def __init__(self, name: str) -> None:
        """Of a model."""
        self.name = name
        self.pending: dict[str, None] = {}
        self._known: dict[str, None] = {}
        self._named: set[str] = set()

    def add(self, reason: str) -> None:
        """Nothing of a function was captured.

        That function may be but one around another, in which the same break will be named with the graph that ends
        there; whether it is, is known when the call has ended.
        """
        if reason not in self._known:
            self._known[reason] = self.pending[reason] = None

    def around(self, broken: str) -> str:
        """What is to be said of a graph: where it breaks, if it does, else why it is only a part of a call."""
        if broken:
            self._named.add(broken)
            return broken
        reasons = [reason for reason in self._known if not self._is_named(reason)]
        return f"something before it runs as it is: {reasons[-1]}" if reasons else ""

    def _is_named(self, reason: str) -> bool:
        """Whether a graph says it. Of a reason it has the first part, which is the sort of break."""
        return any(reason.split(": ")[0] in broken for broken in self._named)

    def tell(self, stacklevel: int) -> None:
        """Warn of what no plan names, once for each reason."""
        reasons = [reason for reason in self.pending if not self._is_named(reason)]
        self.pending.clear()
        if reasons:
            warnings.warn(
                f"something of {self.name!r} cannot be captured, and runs as it is, where its inputs are; what is "
                f"behind it, or in what it calls, is captured by itself: {'; '.join(reasons)}",
                stacklevel=stacklevel + 1,
            )
