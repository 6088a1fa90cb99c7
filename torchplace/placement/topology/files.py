"""Topology files: YAML or JSON, checked field by field, written whole or not at all.

The schema, the same in both formats (SI units: bytes, seconds, bytes/s, FLOP/s)::

    version: 1
    name: my-box
    devices:
      - name: gpu:0                     # unique among devices and switches
        kind: v100-sxm2-16gb
        memory: 16000000000             # bytes
        peak_flops: {float32: 15.7e12}  # FLOP/s, by dtype
        memory_bandwidth: 900e9         # bytes/s
        launch_overhead: 5e-6           # seconds an op
        torch_device: cuda:0            # may be left out: cpu
        threads: null                   # may be left out: intra-op threads of a CPU device
        peer_to_peer: true              # may be left out: true; false where transfers go through host memory
    switches:                           # may be left out
      - {name: pcie:0, kind: pcie-switch}
    links:
      - source: gpu:0
        target: pcie:0
        kind: pcie3-x16
        bandwidth: 12e9                 # bytes/s
        latency: 3e-6                   # seconds
        both_ways: true                 # may be left out: false; true stands for the way back, too
        pieces:                         # may be left out: what single transfers cost, from a size on
          - {nbytes: 0, latency: 3e-6, bandwidth: 5e9}
          - {nbytes: 65536, latency: 11e-6, bandwidth: 12e9}
    coruns:                             # may be left out: devices that slow each other while both compute
      - {name: power, devices: [gpu:0], slowdown: [1, 1.1]}  # capacity may be left out, too
    host: {call: 1e-4, argument: 2e-6, instruction: 1e-5, start: 7e-5}  # may be left out: seconds beside the ops
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from torchplace.errors import TopologyError
from torchplace.placement.topology.atomic import write_whole
from torchplace.placement.topology.checks import did_you_mean
from torchplace.placement.topology.corun import CoRun
from torchplace.placement.topology.device import Device
from torchplace.placement.topology.host import Host
from torchplace.placement.topology.link import Link
from torchplace.placement.topology.piece import Piece
from torchplace.placement.topology.switch import Switch
from torchplace.placement.topology.topology import Topology

SUFFIXES = (".yaml", ".yml", ".json")
"""How the names of topology files end."""

VERSION = 1
"""Version of the schema, raised when a file that older code would misread becomes possible."""


def _number(value: object) -> object:
    """A number as people write it; YAML 1.1 takes 12e9 for text, and yes for a boolean."""
    if isinstance(value, bool):
        raise ValueError("a boolean is no number")
    if isinstance(value, str):
        value = float(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


_Whole = Annotated[int, BeforeValidator(_number), Field(gt=0)]
_Size = Annotated[int, BeforeValidator(_number), Field(ge=0)]
_Real = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
_Positive = Annotated[float, BeforeValidator(_number), Field(gt=0, allow_inf_nan=False)]
_Seconds = Annotated[float, BeforeValidator(_number), Field(ge=0, allow_inf_nan=False)]
_Text = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False, coerce_numbers_to_str=False)


class _DeviceFields(_Part):
    name: _Text
    kind: _Text
    memory: _Whole
    peak_flops: dict[str, _Positive] = Field(min_length=1)
    memory_bandwidth: _Positive
    launch_overhead: _Seconds
    torch_device: _Text = "cpu"
    threads: _Whole | None = None
    peer_to_peer: Annotated[bool, Field(strict=True)] = True


class _SwitchFields(_Part):
    name: _Text
    kind: _Text


class _PieceFields(_Part):
    nbytes: _Size
    latency: _Real
    bandwidth: _Positive


class _LinkFields(_Part):
    source: _Text
    target: _Text
    kind: _Text
    bandwidth: _Positive
    latency: _Seconds
    both_ways: Annotated[bool, Field(strict=True)] = False
    pieces: list[_PieceFields] = []

    def links(self) -> list[Link]:
        fields = self.model_dump(exclude={"both_ways"})
        try:
            fields["pieces"] = tuple(Piece(**piece) for piece in fields["pieces"])
        except TopologyError as error:
            raise TopologyError(f"link {self.source}->{self.target}: {error}") from None
        back = {**fields, "source": self.target, "target": self.source}
        return [Link(**fields), Link(**back)] if self.both_ways else [Link(**fields)]


class _CoRunFields(_Part):
    name: _Text
    devices: list[_Text]
    capacity: _Positive | None = None
    slowdown: list[_Positive] = Field(default=[1.0], min_length=1)
    contention: _Seconds = 0.0
    threads: _Whole | None = None


class _HostFields(_Part):
    call: _Seconds = 0.0
    argument: _Seconds = 0.0
    instruction: _Seconds = 0.0
    send: _Seconds = 0.0
    receive: _Seconds = 0.0
    wake: _Seconds = 0.0
    start: _Seconds = 0.0


class _TopologyFields(_Part):
    version: Annotated[int, BeforeValidator(_number), Field(ge=VERSION, le=VERSION)] = VERSION
    name: _Text
    devices: list[_DeviceFields] = Field(min_length=1)
    switches: list[_SwitchFields] = []
    links: list[_LinkFields] = []
    coruns: list[_CoRunFields] = []
    host: _HostFields = _HostFields()


# What each field expects, in the words of an error message; numbers stand for every item of a list.
_EXPECTED = {
    "version": f"{VERSION}, the version of the schema that this torchplace reads",
    "name": "text that is not empty",
    "kind": "text that is not empty",
    "devices": "a list of one or more devices",
    "switches": "a list of switches",
    "links": "a list of links",
    "memory": "bytes, a whole number above 0",
    "peak_flops": "FLOP/s by dtype, such as {float32: 1e12}",
    "memory_bandwidth": "bytes/s, a number above 0",
    "launch_overhead": "seconds, a number, 0 or more",
    "torch_device": "a torch device such as cpu or cuda:0",
    "threads": "a whole number above 0, or null",
    "peer_to_peer": "true or false",
    "source": "the name of a device or switch",
    "target": "the name of a device or switch",
    "bandwidth": "bytes/s, a number above 0",
    "latency": "seconds, a number, 0 or more",
    "both_ways": "true or false",
    "pieces": "a list of pieces",
    "pieces.latency": "seconds, a number",
    "nbytes": "bytes, a whole number, 0 or more",
    "coruns": "a list of co-run groups",
    "capacity": "units of demand, a number above 0, or null",
    "slowdown": "a list of factors, 1 or more",
    "contention": "a factor, 0 or more",
    "host": "fields call, argument, instruction, send, receive, wake, start",
    "call": "seconds, a number, 0 or more",
    "argument": "seconds, a number, 0 or more",
    "instruction": "seconds, a number, 0 or more",
    "send": "seconds, a number, 0 or more",
    "receive": "seconds, a number, 0 or more",
    "wake": "seconds, a number, 0 or more",
    "start": "seconds, a number, 0 or more",
}
_FIELDS: dict[str, list[str]] = {
    "": list(_TopologyFields.model_fields),
    "devices": list(_DeviceFields.model_fields),
    "switches": list(_SwitchFields.model_fields),
    "links": list(_LinkFields.model_fields),
    "pieces": list(_PieceFields.model_fields),
    "coruns": list(_CoRunFields.model_fields),
    "host": list(_HostFields.model_fields),
}


def _fault(error: Mapping[str, Any]) -> str:
    """One fault that pydantic found, as field, value and what was expected."""
    location = [part for part in error["loc"] if part != "[key]"]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    field = _last(location, _EXPECTED)
    if error["type"] == "extra_forbidden":
        known = _FIELDS[_last(location[:-1], _FIELDS)]
        return f"{path} is no field{did_you_mean(str(location[-1]), known)} (fields: {', '.join(known)})"
    if not location:
        return f"is {_shortened(error['input'])}, expected fields {', '.join(_FIELDS[''])}"
    expected = _EXPECTED.get(f"{_last(location[:-1], _FIELDS)}.{field}", _EXPECTED[field])
    if isinstance(location[-1], int):
        expected = f"fields {', '.join(_FIELDS[field])}"
    elif field == "peak_flops" and len(location) > location.index(field) + 1:
        expected = "FLOP/s, a number above 0"
    state = "is missing" if error["type"] == "missing" else f"is {_shortened(error['input'])}"
    return f"{path} {state}, expected {expected}"


def _last(location: list[Any], known: Mapping[str, Any]) -> str:
    """The last part of a location that is known; "" where none is."""
    return next((part for part in reversed(location) if part in known), "")


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def from_dict(data: object, where: str = "topology") -> Topology:
    """The topology that plain data describe; `where` says in errors what they are ("topology file a.yaml").

    Raises:
        TopologyError: a field is missing, unknown, or has a wrong value; all of them are named.
    """
    try:
        fields = _TopologyFields.model_validate(data)
    except ValidationError as error:
        faults = [_fault(fault) for fault in error.errors(include_url=False)]
        raise TopologyError(f"{where}: {'; '.join(faults)}") from None
    try:
        return Topology(
            fields.name,
            tuple(Device(**device.model_dump()) for device in fields.devices),
            tuple(Switch(**switch.model_dump()) for switch in fields.switches),
            tuple(link for entry in fields.links for link in entry.links()),
            tuple(CoRun(**group.model_dump()) for group in fields.coruns),
            Host(**fields.host.model_dump()),
        )
    except TopologyError as error:
        raise TopologyError(f"{where}: {error}") from None


def to_dict(topology: Topology) -> dict[str, Any]:
    """A topology as plain lists, dicts, text and numbers; `from_dict` gives an equal one back."""
    return {
        "version": VERSION,
        "name": topology.name,
        "devices": [asdict(device) for device in topology.devices],
        "switches": [asdict(switch) for switch in topology.switches],
        "links": [_link(link) for link in topology.links],
        "coruns": [
            {**asdict(group), "devices": list(group.devices), "slowdown": list(group.slowdown)}
            for group in topology.coruns
        ],
        "host": asdict(topology.host),
    }


def _link(link: Link) -> dict[str, Any]:
    """A link's fields; `pieces` only where there are some."""
    fields = {**asdict(link), "pieces": [asdict(piece) for piece in link.pieces]}
    return fields if link.pieces else {name: value for name, value in fields.items() if name != "pieces"}


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that is given twice, where plain YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        merge = "tag:yaml.org,2002:merge"  # what a mapping says itself may well override what it merges in
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != merge]
        _once(keys)
        return super().construct_mapping(node, deep)


def _once(keys: list[Any]) -> None:
    twice = [key for position, key in enumerate(keys) if key in keys[:position]]
    if twice:
        raise ValueError(f"the key {twice[0]!r} is given twice in one place")


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _once([key for key, _ in pairs])
    return dict(pairs)


def _parser(path: Path) -> Callable[[str], Any]:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise TopologyError(f"topology file {path}: the suffix is {suffix!r}, expected {', '.join(SUFFIXES)}")
    if suffix == ".json":
        return lambda text: json.loads(text, object_pairs_hook=_unique_pairs)
    return lambda text: yaml.load(text, Loader=_StrictLoader)


def load(path: str | os.PathLike[str]) -> Topology:
    """Reads a topology from a YAML or JSON file, told apart by its suffix.

    Raises:
        TopologyError: the file cannot be read, or is malformed; names the file, the fields and their values.
    """
    path = Path(path)
    where = f"topology file {path}"
    parse = _parser(path)
    try:
        data = parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TopologyError(f"{where}: cannot be read: {error.strerror or error}") from None
    except (ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        kind = "JSON" if path.suffix.lower() == ".json" else "YAML"
        raise TopologyError(f"{where}: is not valid {kind}: {' '.join(str(error).split())}") from None
    return from_dict(data, where)


def save(topology: Topology, path: str | os.PathLike[str]) -> None:
    """Writes a topology to a YAML or JSON file, by suffix; the file changes as a whole or not at all.

    Raises:
        TopologyError: the suffix is another one, or the file cannot be written.
    """
    path = Path(path)
    _parser(path)
    data = to_dict(topology)
    if path.suffix.lower() == ".json":
        text = json.dumps(data, indent=2) + "\n"
    else:
        text = yaml.safe_dump(data, sort_keys=False)
    try:
        write_whole(path, text)
    except OSError as error:
        raise TopologyError(f"topology file {path}: cannot be written: {error.strerror or error}") from None
