"""Plans kept on disk: a first call that asks what was asked before, in any process, searches nothing.

A plan file for each question, in `plans` of the cache's directory. A question is the graph with its sizes, the
topology, the costs of every op, what the options say, and the versions of torch and torchplace.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torchplace.compiler.capture import Captured
from torchplace.errors import PlanError
from torchplace.placement.bounds import Bound
from torchplace.placement.optimizer import optimizer_bytes, optimizer_name
from torchplace.placement.plan import Plan
from torchplace.placement.plan_file import load_plan, save_plan
from torchplace.placement.planning import Request, finish, make_plan
from torchplace.placement.topology.figures import cache_directory

KEEP = "TORCHPLACE_KEEP_PLANS"
"""Environment variable; 0 to search every time, and keep nothing."""
MOST = 256
"""Files that are kept: those used last."""


def planned(captured: Captured, request: Request) -> Plan:
    """The plan for a question: as it was answered before, or made now and kept.

    What it is predicted to cost is worked out anew, only the search and the bound are not: `solve_time` is that of the
    search then.

    Raises:
        InfeasibleError: nothing fits the devices; says which lacks how many bytes.
        OptionError: there is no such solver, or a hint names nothing.
    """
    if os.environ.get(KEEP, "1") == "0":
        return make_plan(captured, request)
    file = cache_directory() / "plans" / f"{_digest(captured, request)}.json"
    known = _read(file)
    placement = None if known is None else known.placement_for(captured)
    if known is not None and placement is not None:
        return _finished(captured, request, known, placement)
    plan = make_plan(captured, request)
    _keep(plan, file)
    return plan


def _finished(captured: Captured, request: Request, known: Plan, placement: Mapping[str, str]) -> Plan:
    steps = request.pipelining
    if steps is not None and known.schedule:
        request = replace(request, pipelining=replace(steps, schedule=known.schedule))
    evaluator = request.evaluator(captured, {})
    bound = Bound(known.lower_bound, known.bound)
    return finish(evaluator, placement, request, known.solver, known.solve_time, bound)


def _digest(captured: Captured, request: Request) -> str:
    """Of all that an answer hangs on. Cost: linear in ops, for each sort of device."""
    import torch

    question: dict[str, Any] = {
        "versions": [version("torchplace"), torch.__version__],
        "graph": captured.graph.fingerprint(),
        "parts": len(captured.parts),
        "types": [str(v.type) for v in captured.graph.inputs],
        "places": [op.hint for op in captured.graph.ops],
        "topology": request.topology.to_dict(),
        "solver": [request.solver, request.objective, request.seed, request.time_limit],
        "hints": [dict(request.pins), list(request.together), {k: list(v) for k, v in request.forbid.items()}],
        "costs": _costs(captured, request),
        "optimizer": [optimizer_name(request.optimizer), optimizer_bytes(request.optimizer, captured)],
        "pipelining": None if request.pipelining is None else vars(request.pipelining),
    }
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:32]


def _costs(captured: Captured, request: Request) -> str:
    """Digest of what every op costs on every sort of device, and takes there while it runs."""
    topology = request.topology.used(request.topology.device_names)
    sorts = {repr(replace(d, name="any", torch_device="cpu")): d for d in topology.devices}.values()
    found = hashlib.sha256(request.cost.name.encode())
    for device in sorts:
        for op in captured.graph.ops:
            told = request.cost.time(op, device), request.workspace(op, device)
            found.update(repr(told).encode())
    return found.hexdigest()


def _read(file: Path) -> Plan | None:
    """A plan that was kept; a damaged file is none, and a warning names it."""
    if not file.exists():
        return None
    try:
        plan = load_plan(file)
    except PlanError as error:
        warnings.warn(f"a kept plan is not used, and made anew: {error}", stacklevel=2)
        return None
    with suppress(OSError):
        file.touch()
    return plan


def _keep(plan: Plan, file: Path) -> None:
    """Write a plan, and drop those that were not used for longest. Where nothing can be written, nothing is kept."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_plan(plan, file)
        files = sorted(file.parent.glob("*.json"), key=lambda f: f.stat().st_mtime)
        for old in files[:-MOST]:
            old.unlink(missing_ok=True)
    except (OSError, PlanError) as error:
        warnings.warn(f"the plan of {plan.name!r} is not kept for other processes: {error}", stacklevel=2)
