"""The one error that says why nothing fits: which device lacks how many bytes."""

from __future__ import annotations

from collections.abc import Mapping

from torchplace.errors import InfeasibleError

_UNITS = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def human_bytes(nbytes: float) -> str:
    """Bytes as people read them: `12.3 GiB`; below one KiB, `100 bytes`."""
    for size, unit in _UNITS:
        if abs(nbytes) >= size:
            return f"{nbytes / size:.1f} {unit}"
    return f"{nbytes:g} byte{'s' * (nbytes != 1)}"


def shortages(load: Mapping[str, int], capacity: Mapping[str, int]) -> str:
    """Every device that lacks memory, as a clause: `gpu:0 lacks 12.3 GiB (needs 28.3 GiB, has 16.0 GiB)`."""
    return ", ".join(
        f"{d} lacks {human_bytes(load[d] - has)} (needs {human_bytes(load[d])}, has {human_bytes(has)})"
        for d, has in capacity.items()
        if load.get(d, 0) > has
    )


def nothing_fits(load: Mapping[str, int], capacity: Mapping[str, int], who: str, under: str = "") -> InfeasibleError:
    """The error of a solver that found no placement that fits.

    Args:
        load: bytes that its best attempt puts on each device.
        capacity: bytes that each device has.
        who: the solver's name.
        under: what it had to keep to, as a clause.
    """
    needed, room = sum(load.values()), sum(capacity.values())
    devices = f"the {len(capacity)} devices have" if len(capacity) > 1 else "the device has"
    subject = "no placement fits" if needed > room else f"solver {who!r} found no placement that fits"
    return InfeasibleError(
        f"{subject}: state and saved activations need {human_bytes(needed)} in all, {devices} "
        f"{human_bytes(room)}; {shortages(load, capacity)}{under}"
    )
