"""Which models can be captured, placed and trained, and do they give what eager gives? Many architectures, each small.

    python -m benchmarks.coverage [--names llama swin] [--modes step] [--devices 1 2 4] [--jobs 2] [--json]

Architectures of `transformers` (text, images, sound), timm, diffusers and torch-geometric, made from the libraries' own
classes with random weights and without dropout, and some of nobody's; those of a package that is not installed are left
out, and said so (`pip install timm diffusers torch-geometric`). `--generated transformers timm` tries every type and
family of those libraries instead, made small by rule (hours; `--names timm:resnet` tries one of them).

Each is compiled for CPU devices and called in evaluation (forward) and in training (forward, backward, gradients), two
calls each, then with another batch size; and it is trained by steps of two micro-batches (step). Placements are
`balanced` and, with several devices, `random`, so that every value crosses. Outputs, gradients and buffers are held
against eager's by the norm of their difference over their norm.

A line says how many ops there are, how many graph breaks, how many graphs were captured in all, how long the first
call took (capture and plan included), how many times eager's a later one took, and the greatest error. Each
architecture is a process of its own, so one that crashes is a line, too.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import torch
from torch import nn

from benchmarks import _coverage_generated, _coverage_other, _coverage_own, _coverage_steps, _coverage_text
from benchmarks._coverage_entry import Entry
from benchmarks._outputs import floating, trained

TOLERANCE = 1e-4
MODES = ("forward", "training", "step")
BATCHES = (3, 5)
"""Rows of a call, and of one with another batch."""


@dataclass
class Found:
    """What one architecture has come to, in one mode on some devices.

    Attributes:
        name: of the architecture.
        mode: one of `MODES`.
        devices: how many.
        solver: that placed it.
        correct: it gives what eager gives, with both batch sizes.
        error: the greatest difference, relative.
        graphs: how many there are after two calls of one size.
        breaks: how many of them end, or begin, where something cannot be captured.
        ops: of all of them.
        captures: made in all, another batch size included.
        first: seconds of the first call.
        later: seconds of the next.
        eager: seconds of eager's call.
        reason: why it is not correct.
        runs: whether eager runs it at all; the rest of a line says nothing if not.
    """

    name: str
    mode: str
    devices: int
    solver: str
    correct: bool = False
    error: float = 0.0
    graphs: int = 0
    breaks: int = 0
    ops: int = 0
    captures: int = 0
    first: float = 0.0
    later: float = 0.0
    eager: float = 0.0
    reason: str = ""
    runs: bool = True


def entries() -> dict[str, Entry]:
    """All architectures that are written down, by name."""
    rooms = (_coverage_text, _coverage_other, _coverage_own)
    return {entry.name: entry for room in rooms for entry in room.entries()}


def known_as(names: Sequence[str] | None, generated: Sequence[str]) -> list[Entry]:
    """The architectures of these names, or all generated ones of these libraries, or all that are written down."""
    if not names and not generated:
        return list(entries().values())
    if not names:
        return [entry for library in generated for entry in _coverage_generated.entries(library)]
    known = {entry.name: entry for entry in _coverage_generated.named([name for name in names if ":" in name])}
    known |= entries()
    return [known[name] for name in names]


def run(model: nn.Module, call: Any, entry: Entry, batch: int, training: bool) -> list[torch.Tensor]:
    """Outputs, then gradients and buffers, of one call."""
    args, kwargs = entry.inputs(batch)
    model.zero_grad()
    with torch.set_grad_enabled(training):
        outputs = floating(call(*args, **kwargs))
    results = [output.detach().clone() for output in outputs]
    if training:
        wanted = [output for output in outputs if output.requires_grad]
        torch.stack([(o * torch.linspace(-1, 1, o.numel()).view(o.shape)).sum() for o in wanted]).sum().backward()
        results += trained(model)
    return results


def difference(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """The greatest relative norm of a difference; infinite where there is another number of results."""
    if len(found) != len(expected) or any(a.shape != b.shape for a, b in zip(found, expected, strict=True)):
        return float("inf")
    scale = max((float(b.double().norm()) for b in expected if b.is_floating_point()), default=1.0)
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        if not (b.is_floating_point() or b.is_complex()):
            worst = max(worst, 0.0 if torch.equal(a, b) else float("inf"))
            continue
        wide = torch.complex128 if b.is_complex() else torch.float64
        off = torch.nan_to_num((a.to(wide) - b.to(wide)).abs(), nan=0.0 if torch.equal(a.isnan(), b.isnan()) else 1e9)
        worst = max(
            worst, float(off.norm()) / max(float(torch.nan_to_num(b.to(wide).abs()).norm()), 1e-3 * scale, 1e-12)
        )
    return worst


def cover(entry: Entry, mode: str, devices: int, solver: str) -> Found:
    """One architecture, in one mode."""
    import torchplace as tp

    found = Found(entry.name, mode, devices, solver)
    try:
        found.runs = False
        eager, model = (_made(entry, mode) for _ in range(2))
        placed, of_eager, of_placed = _tried(entry, mode, eager, model, topology=f"local:{devices}", solver=solver)
        small, large = _coverage_steps.BATCHES if mode == "step" else BATCHES
        for i, batch in enumerate((small, small, large)):
            begun, found.runs = perf_counter(), False
            expected = of_eager(batch)
            found.runs = True
            between = perf_counter()
            results = of_placed(batch)
            seconds = perf_counter() - between
            found.first, found.later = (seconds, 0.0) if not i else (found.first, found.later or seconds)
            found.eager = between - begun
            found.error = max(found.error, difference(results, expected))
            if i == 1:
                plans = tp.plans(placed)
                found.graphs, found.ops = len(plans), sum(sum(plan.ops_on.values()) for plan in plans)
                found.breaks = sum(bool(plan.broken) for plan in plans)
        found.captures = len(tp.plans(placed))
        found.correct = found.error <= TOLERANCE
        found.reason = "" if found.correct else f"differs by {found.error:.1e}"
    except Exception as error:  # what fails is what this is to find
        text = " ".join(str(error).split())
        found.reason = f"{type(error).__name__}: {text[:300]}"
    return found


def _made(entry: Entry, mode: str) -> nn.Module:
    """The model, with the same weights every time."""
    torch.manual_seed(0)
    return entry.make().train(mode != "forward")


def _tried(
    entry: Entry, mode: str, eager: nn.Module, model: nn.Module, **options: Any
) -> tuple[Any, Callable[[int], list[torch.Tensor]], Callable[[int], list[torch.Tensor]]]:
    """What has the plans; what gives eager's results for a batch, and what the placed ones."""
    import torchplace as tp

    if mode == "step":
        loop, steps = _coverage_steps.looped(eager), _coverage_steps.MICROBATCHES
        step = tp.compile(model, loss_fn=_coverage_steps.loss_of, microbatches=steps, **options)
        return (
            step,
            lambda batch: _coverage_steps.run(eager, loop, entry, batch),
            lambda batch: _coverage_steps.run(model, step, entry, batch),
        )
    placed, training = tp.compile(model, **options), mode == "training"
    return (
        placed,
        lambda batch: run(eager, eager, entry, batch, training),
        lambda batch: run(model, placed, entry, batch, training),
    )


def tries(entry: Entry, options: argparse.Namespace) -> Iterator[tuple[str, int, str]]:
    """(Mode, number of devices, solver) of each try; on one device, all solvers are one."""
    for mode in options.modes if entry.rows else (mode for mode in options.modes if mode != "step"):
        for count in options.devices:
            yield from ((mode, count, solver) for solver in (options.solvers[:1] if count == 1 else options.solvers))


def one(entry: Entry, options: argparse.Namespace) -> None:
    """Try one architecture, and print what comes of it as JSON."""
    torch.set_num_threads(1)
    for mode, count, solver in tries(entry, options):
        torch.compiler.reset()
        print(json.dumps(asdict(cover(entry, mode, count, solver))), flush=True)


def apart(entry: Entry, options: argparse.Namespace) -> list[Found]:
    """Try one architecture in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.coverage", "--one", entry.name, "--modes", *options.modes]
    command += ["--devices", *map(str, options.devices), "--solvers", *options.solvers]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=options.timeout, check=False)
        output, fate = done.stdout, f"ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"
    except subprocess.TimeoutExpired as late:
        output, fate = (late.stdout or b"").decode(), f"took more than {options.timeout:g} s"
    found = [Found(**json.loads(text)) for text in output.splitlines() if text.startswith("{")]
    missing = list(tries(entry, options))[len(found) :]
    return found + [Found(entry.name, mode, count, solver, reason=fate) for mode, count, solver in missing]


def line(found: Found) -> str:
    """What is printed of one try."""
    breaks = f"{found.breaks} breaks" if found.breaks else "whole" if found.graphs else "-"
    failed = "NOT" if found.runs else "not run by eager"
    said = f"{found.error:.0e}" if found.correct else f"{failed}: {found.reason}"
    times = f"{found.first:6.1f} s {found.later / max(found.eager, 1e-9):6.1f}"
    head = f"{found.name:28}{found.mode:10}{found.devices:2} {found.solver:9}"
    return f"{head}{found.ops:6} {breaks:10}{found.captures:3} {times}  {said}"


def main() -> None:
    """Try all, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", metavar="NAME", help="of architectures; by default all")
    parser.add_argument("--generated", nargs="+", default=[], choices=_coverage_generated.LIBRARIES)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--devices", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--solvers", nargs="+", default=["balanced", "random"], help="that place them")
    parser.add_argument("--jobs", type=int, default=2, help="architectures at a time")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for an architecture")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(known_as([options.one], [])[0], options)
        return
    known = known_as(options.names, options.generated)
    out = sys.stderr if options.json else sys.stdout
    absent = [entry.name for entry in known if importlib.util.find_spec(entry.needs) is None]
    known = [entry for entry in known if entry.name not in absent]
    print(f"{'model':28}{'mode':10}devices placed  ops breaks captures first  to eager  error", file=out)
    rows: list[Found] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for found in pool.map(lambda entry: apart(entry, options), known):
            rows += found
            print("\n".join(line(f) for f in found), file=out, flush=True)
    _conclude(rows, absent, out)
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))


def _conclude(rows: Sequence[Found], absent: Sequence[str], out: Any) -> None:
    idle = list(dict.fromkeys(row.name for row in rows if not row.runs))
    rows = [row for row in rows if row.runs]
    names = list(dict.fromkeys(row.name for row in rows))
    wrong = list(dict.fromkeys(row.name for row in rows if not row.correct))
    whole = [name for name in names if all(row.graphs and not row.breaks for row in rows if row.name == name)]
    print(
        f"{len(names)} architectures: {len(names) - len(wrong)} correct in all, {len(whole)} without a graph break",
        file=out,
    )
    print(f"not correct: {', '.join(wrong) or 'none'}", file=out)
    if idle:
        print(f"not run by eager in all, which says nothing: {', '.join(idle)}", file=out)
    if absent:
        print(f"left out, for their packages are not installed: {', '.join(absent)}", file=out)


if __name__ == "__main__":
    main()
