"""Plan files: JSON data, validated, never code. An edited file is refused rather than half believed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from torchplace.errors import PlanError, TopologyError
from torchplace.placement.plan import Plan
from torchplace.placement.predicted import Predicted
from torchplace.placement.topology.atomic import write_whole
from torchplace.placement.topology.topology import Topology


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Predicted(_Record):
    step_time: float = Field(ge=0)
    peak_memory: dict[str, int]
    memory: dict[str, dict[str, int]]
    busy: dict[str, float]
    bytes_in: dict[str, int]
    bytes_out: dict[str, int]
    link_bytes: dict[str, int]
    period: float = Field(ge=0, default=0.0)


class _PlanRecord(_Record):
    """The schema of a plan file, version 1."""

    format: Literal["torchplace plan"] = "torchplace plan"
    version: Literal[1] = 1
    name: str
    topology: dict[str, Any]
    placement: dict[str, str]
    keys: dict[str, str]
    fingerprint: str
    parameters: dict[str, str]
    parameter_bytes: dict[str, int]
    training: bool
    objective: str
    solver: str
    solve_time: float = Field(ge=0)
    cost: str
    seed: int
    predicted: _Predicted
    lower_bound: float = Field(ge=0)
    bound: str = ""
    optimizer: str = ""
    microbatches: int = Field(ge=1, default=1)
    schedule: str = ""
    rest: list[_PlanRecord] = []
    broken: str = ""
    holds: tuple[str, ...] = Field(default=(), strict=False)  # JSON has lists
    found: tuple[str, ...] = Field(default=(), strict=False)
    split: dict[str, list[str]] = {}


def plan_data(plan: Plan) -> dict[str, Any]:
    """A plan as JSON-able data."""
    names = [n for n in _PlanRecord.model_fields if n not in ("format", "version", "topology", "predicted", "rest")]
    record = _PlanRecord(
        topology=plan.topology.to_dict(),
        predicted=_Predicted(**vars(plan.predicted)),
        rest=[_PlanRecord(**plan_data(p)) for p in plan.rest],
        **{n: getattr(plan, n) for n in names},
    )
    return record.model_dump()


def save_plan(plan: Plan, path: Path) -> None:
    """Write a plan, whole or not at all."""
    data = plan_data(plan)
    text = json.dumps({**data, "digest": _digest(data)}, indent=1)
    try:
        write_whole(path, text + "\n")
    except OSError as error:
        raise PlanError(f"cannot write the plan to {str(path)!r}: {error.strerror}") from error


def load_plan(path: Path) -> Plan:
    """Read, validate and rebuild a plan."""
    try:
        data = json.loads(path.read_text())
    except OSError as error:
        raise PlanError(f"cannot read the plan file {str(path)!r}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{str(path)!r} is no plan file: it is not JSON ({error})") from error
    if not isinstance(data, dict) or data.get("format") != "torchplace plan":
        raise PlanError(f"{str(path)!r} is no plan file; expected the JSON that Plan.save writes")
    digest = data.pop("digest", None)
    if digest != _digest(data):
        raise PlanError(
            f"the plan file {str(path)!r} was changed after it was saved (its digest is {digest!r}, its content's "
            f"{_digest(data)!r}); make the plan anew, with pins= for what you wanted to change"
        )
    try:
        return plan_of(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise PlanError(f"the plan file {str(path)!r}: field {where!r}: {first['msg']}") from error
    except TopologyError as error:
        raise PlanError(f"the plan file {str(path)!r}: its topology: {error}") from error
    except PlanError as error:
        raise PlanError(f"the plan file {str(path)!r}: {error}") from error


def plan_of(data: dict[str, Any]) -> Plan:
    """The plan of JSON-able data, as `plan_data` makes it.

    Raises:
        PlanError: it does not fit together.
        ValidationError: a field is missing, or has a value that it cannot have.
    """
    return _rebuild(_PlanRecord.model_validate(data))


def _rebuild(record: _PlanRecord) -> Plan:
    topology = Topology.from_dict(record.topology)
    used = {*record.placement.values(), *record.parameters.values()}
    unknown = sorted(used - set(topology.device_names))
    if unknown:
        raise PlanError(f"it uses device {unknown[0]!r}, which its topology {topology.name!r} does not have")
    if record.keys.keys() != record.placement.keys() or len(set(record.keys.values())) < len(record.keys):
        raise PlanError("its keys are not those of its ops, one for each")
    _check_memory(record.predicted, topology)
    fields = {n: getattr(record, n) for n in _PlanRecord.model_fields if n not in ("format", "version")}
    fields.update(
        topology=topology,
        predicted=Predicted(**record.predicted.model_dump()),
        rest=tuple(_rebuild(r) for r in record.rest),
    )
    return Plan(**fields)


def _check_memory(predicted: _Predicted, topology: Topology) -> None:
    """Check that the breakdown of each peak is of a device that is there, and adds up."""
    for device, parts in predicted.memory.items():
        peak = predicted.peak_memory.get(device)
        if device not in topology.device_names or sum(parts.values()) != peak or min(parts.values(), default=0) < 0:
            raise PlanError(f"its memory of device {device!r}, {parts}, does not add up to the peak, {peak} bytes")


def _digest(data: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
