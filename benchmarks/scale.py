"""How long planning takes, and how much memory: graphs of 1,000 to 100,000 ops on 8 to 1,024 devices.

    python -m benchmarks.scale [--sizes 1000 10000 100000] [--devices 8 64 1024] [--graphs layers random]
        [--modes forward training] [--solver auto] [--objective latency] [--time-limit 10] [--profile] [--json]
    python -m benchmarks.scale --llama405b [--solver auto]

Graphs are made directly (`benchmarks/_graphs.py`), forward or with their backward:

- `layers`: a transformer, each of its layers added to what came in;
- `random`: each block takes one to three of the last 64 blocks' results.

Devices are boxes of DGX H100 on InfiniBand NDR. Each plan is made in a process of its own, kept to one core, so that
its peak memory (resident, the graph and PyTorch included) is its own; making the graph is not counted in the seconds.
They are those of the search: to state the problem, to solve it, and to lower and simulate candidates; `all` has,
besides, the topology, and what finishes the plan. The value of the plan is held against those of `balanced` and
`linear-dp` for the same graph: it must be no worse. The goal is 60 s and 4 GiB for 100,000 ops on 1,024 devices, and an
exponent near 1.

`--llama405b`: Llama 3.1 405B (126 layers, bfloat16, 1 x 4,096 tokens) on the meta device is captured with its backward
and planned for pipelined training, from step to step, on 16 DGX H100. The goal is 60 s, capture included.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks._alone import one_core
from benchmarks._fit import exponent
from benchmarks._graphs import GRAPHS, sized
from torchplace.compiler.capture import Captured
from torchplace.errors import TorchplaceError
from torchplace.placement.objective import OBJECTIVES
from torchplace.placement.planning import Request, make_plan
from torchplace.placement.solvers.registry import solver_names
from torchplace.placement.topology import Topology

REFERENCES = ("balanced", "linear-dp")
"""Solvers that the one in question must not be worse than."""

BOX = 8
"""Devices of a DGX H100."""

GOAL_SECONDS, GOAL_BYTES = 60.0, 4 * 2**30


@dataclass
class Run:
    """One plan, in a process of its own.

    Attributes:
        graph: name of the graph.
        training: whether the backward is planned too.
        size: ops that were asked for.
        devices: of the cluster.
        solver: who solves.
        objective: of the request.
        time_limit: seconds that the solver is given.
        profile: print where the time goes.
        ops: of the graph.
        seconds: what took how long: `graph` (made or captured), `topology`, `search`, `all` (without the graph).
        peak: bytes of resident memory at most.
        value: seconds that the plan is predicted to take; None where there is no plan.
        bound: seconds that no plan can beat.
        title: the solver, and whose answer it took.
        used: devices that have an op.
        reason: why there is no plan.
    """

    graph: str
    training: bool
    size: int
    devices: int
    solver: str
    objective: str = "latency"
    time_limit: float = 10.0
    profile: bool = False
    ops: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    peak: int = 0
    value: float | None = None
    bound: float = 0.0
    title: str = ""
    used: int = 0
    reason: str = ""

    @property
    def within(self) -> bool:
        """Whether it kept to the goal."""
        return self.value is not None and self.seconds["search"] <= GOAL_SECONDS and self.peak <= GOAL_BYTES

    def captured(self) -> Captured:
        """What is planned."""
        if self.graph in GRAPHS:
            return sized(self.graph, self.size, self.training)
        from benchmarks._planned import LLAMA_405B  # its imports take memory, too

        return LLAMA_405B.capture(self.training)

    def plan(self) -> None:
        """Make the plan, and write down what it took."""
        one_core()
        captured = self._timed("graph", self.captured)
        self.ops = len(captured.graph.ops)
        begun = perf_counter()
        topology = self._timed("topology", lambda: Topology.preset(boxes(self.devices)))
        request = Request(topology, self.solver, self.objective, time_limit=self.time_limit)
        try:
            made = profiled(lambda: make_plan(captured, request)) if self.profile else make_plan(captured, request)
        except TorchplaceError as error:
            self.reason = f"{type(error).__name__}: {error}"
            self.seconds["search"] = perf_counter() - begun
        else:
            self.value, self.bound, self.title, self.used = (
                made.value,
                made.lower_bound,
                made.solver,
                len(made.devices_used),
            )
            self.seconds["search"] = made.solve_time
        self.seconds["all"] = perf_counter() - begun
        self.peak = peak_bytes()

    def _timed(self, what: str, do: Callable[[], Any]) -> Any:
        begun = perf_counter()
        result = do()
        self.seconds[what] = perf_counter() - begun
        return result

    def apart(self, timeout: float) -> Run:
        """The same, done in a process of its own; what does not end in time has no plan."""
        command = [sys.executable, "-m", "benchmarks.scale", "--one", json.dumps(asdict(self))]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            self.reason, self.seconds = f"not done in {timeout:.0f} s", dict.fromkeys(("search", "all"), math.nan)
            return self
        if done.returncode:
            self.reason = f"ended with status {done.returncode}"
            self.seconds = dict.fromkeys(("search", "all"), math.nan)
            return self
        return Run(**json.loads(done.stdout.splitlines()[-1]))


def boxes(devices: int) -> str:
    """The preset of a number of devices."""
    return "dgx-h100" if devices == BOX else f"dgx-h100*{devices // BOX}@ndr400"


def peak_bytes() -> int:
    """Resident memory of this process at most; on Linux not that of the process that it was forked from."""
    status = Path("/proc/self/status")
    if status.exists():
        for text in status.read_text().splitlines():
            if text.startswith("VmHWM:"):
                return int(text.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def profiled(do: Callable[[], Any]) -> Any:
    """Do something, and print on the error stream where the time goes."""
    import cProfile
    import pstats

    profile = cProfile.Profile()
    result = profile.runcall(do)
    stats = pstats.Stats(profile, stream=sys.stderr)
    stats.sort_stats("cumulative").print_stats(45).sort_stats("tottime").print_stats(25)
    return result


HEAD = (
    f"{'graph':9} {'mode':8} {'ops':>7} {'devices':>7} {'solver':22} {'search':>9} {'all':>9} {'peak':>9} {'value':>12}"
)


def line(run: Run) -> str:
    """A row, as it comes."""
    mode = "training" if run.training else "forward"
    what = f"{run.graph:9} {mode:8} {run.ops or run.size:7} {run.devices:7} {run.title or run.solver:22}"
    took = f"{run.seconds['search']:7.2f} s {run.seconds['all']:7.2f} s {run.peak / 2**20:5.0f} MiB"
    return f"{what} {took} " + (f"{run.value * 1e3:9.3f} ms" if run.value is not None else run.reason[:120])


def verdict(run: Run, others: Sequence[Run]) -> str:
    """How a plan stands to the goal and to the references."""
    told = ["within the goal" if run.within else f"NOT within {GOAL_SECONDS:.0f} s and {GOAL_BYTES >> 30} GiB"]
    for other in others:
        if other.value is None:
            told.append(f"{other.solver} has no plan")
        elif run.value is None:
            told.append(f"WORSE than {other.solver}, which has a plan")
        else:
            ratio = run.value / other.value
            told.append(f"{ratio:.3f} of {other.solver}" + (" (WORSE)" if ratio > 1 + 1e-9 else ""))
    if run.value is not None and run.bound:
        told.append(f"{run.value / run.bound - 1:.0%} above the bound")
    return "; ".join(told)


def growth(runs: Sequence[Run]) -> Iterator[str]:
    """For each graph, mode and number of devices: the exponent that fits the seconds of the search."""
    groups: dict[tuple[str, bool, int], list[Run]] = {}
    for run in runs:
        if run.value is not None:
            groups.setdefault((run.graph, run.training, run.devices), []).append(run)
    for (graph, training, devices), some in groups.items():
        power = exponent([r.ops for r in some], [r.seconds["search"] for r in some])
        if not math.isnan(power):
            mode = "training" if training else "forward"
            yield f"{graph} {mode}, {devices} devices: seconds grow with ops to the power {power:.2f}"


def runs(options: argparse.Namespace) -> Iterator[tuple[Run, list[Run]]]:
    """Each case with the solver in question and with the references."""
    for graph in options.graphs:
        for mode in options.modes:
            for devices in options.devices:
                for size in options.sizes:
                    cases = [
                        Run(graph, mode == "training", size, devices, solver, options.objective, options.time_limit)
                        for solver in dict.fromkeys((options.solver, *REFERENCES))
                    ]
                    cases[0].profile = options.profile
                    done = [case.apart(options.timeout) for case in cases]
                    yield done[0], done[1:]


def llama(options: argparse.Namespace) -> Run:
    """Capture and plan Llama 405B."""
    run = Run("llama-405b", True, 0, 128, options.solver, "throughput", options.time_limit, options.profile)
    return run.apart(options.timeout)


def story(run: Run) -> str:
    """What planning a real model took."""
    if run.value is None:
        return f"{run.graph}: {run.reason}"
    graph, search, total = (run.seconds[k] for k in ("graph", "search", "all"))
    return (
        f"{run.graph}: {run.ops} ops on {run.devices} devices, {run.title}: captured in {graph:.1f} s, searched in"
        f" {search:.1f} s, finished in {total - search:.1f} s: {graph + total:.1f} s in all;"
        f" {run.peak / 2**20:.0f} MiB; {run.used} devices used, {run.value * 1e3:.1f} ms from step to step,"
        f" {run.value / run.bound - 1:.0%} above the bound"
    )


def arguments() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[1_000, 10_000, 100_000])
    parser.add_argument("--devices", nargs="+", type=int, default=[8, 64, 1024], help=f"multiples of {BOX}")
    parser.add_argument("--graphs", nargs="+", choices=GRAPHS, default=list(GRAPHS))
    parser.add_argument("--modes", nargs="+", choices=("forward", "training"), default=["forward", "training"])
    parser.add_argument("--solver", choices=solver_names(), metavar="SOLVER", default="auto")
    parser.add_argument("--objective", choices=OBJECTIVES, default="latency")
    parser.add_argument("--time-limit", type=float, default=10.0, help="seconds for the solver")
    parser.add_argument("--timeout", type=float, default=1200.0, help="seconds after which a process is ended")
    parser.add_argument("--llama405b", action="store_true", help="instead: capture and plan Llama 3.1 405B")
    parser.add_argument("--profile", action="store_true", help="print where the time goes (and take longer)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    odd = [n for n in options.devices if n < BOX or n % BOX]
    if odd:
        parser.error(f"--devices {odd[0]}: expected a multiple of {BOX}, the devices of a box")
    return options


def main() -> None:
    """Plan and print."""
    options = arguments()
    os.environ["OMP_NUM_THREADS"] = "1"
    if options.one:
        run = Run(**options.one)
        run.plan()
        print(json.dumps(asdict(run)))
        return
    if options.llama405b:
        found = llama(options)
        print(json.dumps(asdict(found), indent=1) if options.json else story(found))
        return
    out, done = (sys.stderr if options.json else sys.stdout), []
    print(HEAD, file=out)
    for run, others in runs(options):
        done.append((run, others))
        print("\n".join(map(line, (run, *others))), f"\n{'':10}{verdict(run, others)}", file=out, flush=True)
    if options.json:
        data = [{**asdict(run), "others": [asdict(other) for other in others]} for run, others in done]
        print(json.dumps(data, indent=1))
    else:
        print("\n".join(growth([run for run, _ in done])))


if __name__ == "__main__":
    main()
