"""The store of measured costs: what ops took on devices that were here, on disk, for every process to read.

One SQLite file. A row is one op's signature on one sort of device: interrupted measurements keep what they have, and
processes may read and write at the same time.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torchplace.errors import CostError
from torchplace.placement.topology.device import Device
from torchplace.placement.topology.figures import cache_directory, cpu_model

_SCHEMA = """
CREATE TABLE IF NOT EXISTS ops (
  device TEXT NOT NULL, key TEXT NOT NULL, signature TEXT NOT NULL, target TEXT NOT NULL, features TEXT NOT NULL,
  seconds REAL NOT NULL, samples INTEGER NOT NULL, PRIMARY KEY (device, key));
CREATE TABLE IF NOT EXISTS workspaces (
  device TEXT NOT NULL, key TEXT NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (device, key));
CREATE TABLE IF NOT EXISTS segments (
  device TEXT NOT NULL, key TEXT NOT NULL, seconds REAL NOT NULL, PRIMARY KEY (device, key));
"""


class DeviceKey(NamedTuple):
    """The sort of device that a measurement is of.

    Attributes:
        kind: as the topology has it.
        hardware: the CPU's model; "" for others, whose kind says it.
        torch: its version.
        threads: intra-op threads; 0 where there are none.
    """

    kind: str
    hardware: str
    torch: str
    threads: int

    @classmethod
    def of(cls, device: Device) -> DeviceKey:
        """The key of a device here, with this torch."""
        import torch

        if device.kind != "cpu":
            return cls(device.kind, "", str(torch.__version__), 0)
        return cls(device.kind, cpu_model(), str(torch.__version__), device.threads or torch.get_num_threads())

    def __str__(self) -> str:
        return json.dumps(list(self))


@dataclass(frozen=True, slots=True)
class Sample:
    """One op as it was measured.

    Attributes:
        key: of the signature.
        signature: as `signature.signature` writes it.
        target: what the op calls.
        features: numbers that a regression may use (`features.features`).
        seconds: median over repetitions, mean over the places in a graph where the signature stood.
        samples: how many times it was timed.
    """

    key: str
    signature: str
    target: str
    features: Mapping[str, float]
    seconds: float
    samples: int


class CostStore:
    """Measured costs on disk.

    Args:
        path: the file; by default `op-costs.sqlite` in the cache directory (`TORCHPLACE_CACHE`).

    Raises:
        CostError: in any method, when the file is damaged or cannot be read or written.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path is not None else cache_directory() / "op-costs.sqlite"

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=30)) as connection, connection:
                connection.executescript(_SCHEMA)
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise CostError(
                f"the store of measured costs {self.path}: {error}; delete the file, or set TORCHPLACE_CACHE to a "
                "directory that can be written"
            ) from None

    def seconds(self, device: DeviceKey) -> dict[str, float]:
        """Signature key -> seconds, of all that was measured on a sort of device; empty when nothing was."""
        return self._column("ops", "seconds", device)

    def samples(self, device: DeviceKey) -> list[Sample]:
        """All that was measured on a sort of device, ordered by signature."""
        if not self.path.exists():
            return []
        query = "SELECT key, signature, target, features, seconds, samples FROM ops WHERE device = ? ORDER BY signature"
        with self._open() as connection:
            rows = list(connection.execute(query, (str(device),)))
        return [Sample(k, text, target, json.loads(f), seconds, n) for k, text, target, f, seconds, n in rows]

    def write(self, device: DeviceKey, samples: Iterable[Sample]) -> None:
        """Keep measurements; those of a signature that is there already are replaced. All of them or none."""
        rows = [
            (str(device), s.key, s.signature, s.target, json.dumps(dict(s.features)), s.seconds, s.samples)
            for s in samples
        ]
        with self._open() as connection:
            connection.executemany("INSERT OR REPLACE INTO ops VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def workspaces(self, device: DeviceKey) -> dict[str, int]:
        """Signature key -> bytes that an op takes on a sort of device beyond its inputs and results."""
        return self._column("workspaces", "bytes", device)

    def write_workspaces(self, device: DeviceKey, found: Mapping[str, int]) -> None:
        """Keep workspaces, by signature key; those that are there already are replaced. All of them or none."""
        self._write_pairs("workspaces", device, found)

    def segments(self, device: DeviceKey) -> dict[str, float]:
        """Segment key (`signature.segment_key`) -> seconds that ops took on a sort of device, compiled as one."""
        return self._column("segments", "seconds", device)

    def write_segments(self, device: DeviceKey, found: Mapping[str, float]) -> None:
        """Keep what segments took, by their keys; those that are there already are replaced. All of them or none."""
        self._write_pairs("segments", device, found)

    def _column(self, table: str, column: str, device: DeviceKey) -> dict[str, Any]:
        if not self.path.exists():
            return {}
        with self._open() as connection:
            return dict(connection.execute(f"SELECT key, {column} FROM {table} WHERE device = ?", (str(device),)))

    def _write_pairs(self, table: str, device: DeviceKey, found: Mapping[str, Any]) -> None:
        rows = [(str(device), key, value) for key, value in found.items()]
        with self._open() as connection:
            connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)", rows)

    def devices(self) -> list[DeviceKey]:
        """The sorts of devices that something was measured on."""
        if not self.path.exists():
            return []
        with self._open() as connection:
            return [
                DeviceKey(*json.loads(row[0]))
                for row in connection.execute("SELECT DISTINCT device FROM ops ORDER BY 1")
            ]
