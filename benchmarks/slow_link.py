"""Predicted beside measured transfers over real links that are slowed down, and the plans that follow from them.

    sudo python -m benchmarks.slow_link [--rates 100mbit,1gbit,unlimited] [--seconds 10] [--json]

Needs Linux, root and iproute2 (`ip`, `tc`). Makes two network namespaces, joined by a veth pair, with a token bucket
(`tc ... tbf`) at each end, and removes them at the end. In each runs one rank, on a core of its own, over gloo. For
each rate the two measure their topology, as `torchplace topo --measure` does under torchrun. Then transfers of other
sizes, 1 KiB to 16 MiB, and of the values that a GPT-2 cut in two would send, are predicted from it and measured by the
clock that both ranks share. Last, models are planned on each of the measured topologies.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch.distributed as dist

import torchplace as tp
from benchmarks._netns import LIMITS, Host, hosts, lacking, limit
from torchplace.compiler.instructions import Send
from torchplace.placement.topology import Topology
from torchplace.runtime.measure_topology import measure
from torchplace.runtime.ping_pong import SIZES, Line, meet, one_way

OTHERS = (*(round(1024 * 1.7**k) for k in range(18)), 16 << 20)
"""Bytes of the transfers that are predicted, 1 KiB to 16 MiB; but for the last none is of a size that was measured."""
_TIMEOUT = 60.0
_PORT = 29533
_AGAIN = (1, 1024, 65536, 1 << 20)  # bytes of what is measured again at the end
_VALUE = 1  # tag of the transfers that are timed; the ranks meet by others


@dataclass(frozen=True)
class Case:
    """Transfers of one size: bytes, and seconds (the median of those that were measured)."""

    what: str
    nbytes: int
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return self.predicted / self.measured - 1


@dataclass(frozen=True)
class Rate:
    """What was found at one rate."""

    rate: str
    topology: Topology
    cases: Sequence[Case]
    drift: Mapping[str, float]

    @property
    def errors(self) -> list[float]:
        """Relative errors, without their signs."""
        return [abs(case.error) for case in self.cases]


def rank(arguments: Mapping[str, Any]) -> None:
    """One of the two processes: measure the topology, then transfers of other sizes; rank 0 writes both down."""
    me = int(os.environ["RANK"])
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[me % len(cores)]})
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=_TIMEOUT))
    topology = measure(timeout=_TIMEOUT, seconds=arguments["seconds"])
    found = {sender: measured(sender, me, arguments["sizes"], topology) for sender in (0, 1)}
    drift = again(me, topology)
    if me == 0:
        result = {"topology": topology.to_dict(), "measured": found, "drift": drift}
        Path(arguments["out"]).write_text(json.dumps(result), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


def measured(sender: int, me: int, sizes: Sequence[int], topology: Topology) -> dict[int, float]:
    """Bytes -> median seconds from the start of a send to the end of its receive, by the clock of both."""
    route = topology.route(*(topology.device_names[i] for i in (sender, 1 - sender)))
    times: dict[int, list[float]] = {size: [] for size in sizes}
    order = [size for size in sizes for _ in range(max(3, min(11, round(1 / route.time(size)))))]
    random.Random(sender).shuffle(order)
    for size in order:
        times[size] += _series(sender, me, size, max(1, min(8, round(0.02 / route.time(size)))))
    return {size: statistics.median(taken) for size, taken in times.items()}


def _series(sender: int, me: int, size: int, repeats: int) -> list[float]:
    """Seconds of transfers of one size. Each end has computed before; the sender, the value too; the receiver waits."""
    value, source = (torch.zeros(size, dtype=torch.uint8) for _ in range(2))
    layer, rows, stamps = torch.nn.Linear(512, 2048), torch.randn(64, 512), []
    limited = timedelta(seconds=_TIMEOUT)
    for _ in range(repeats):
        work = None if me == sender else dist.irecv(value, sender, tag=_VALUE)
        layer(rows)
        meet((0, 1) if sender else (1, 0), torch.device("cpu"), _TIMEOUT)  # the receiver has asked for it
        if me == sender:
            layer(rows)
            torch.add(source, 1, out=value)
            stamps.append(perf_counter())
            work = dist.isend(value, 1 - sender, tag=_VALUE)
        assert work is not None
        work.wait(limited)
        if me != sender:
            stamps.append(perf_counter())
    mine = torch.tensor(stamps, dtype=torch.float64)
    both = [torch.zeros_like(mine) for _ in range(2)]
    dist.all_gather(both, mine)
    return list((both[1 - sender] - both[sender]).tolist())


def again(me: int, topology: Topology) -> dict[int, float]:
    """Bytes -> how much longer transfers take now than in the topology, measured as they were for it: the drift."""
    line = Line(1 - me, torch.device("cpu"), _TIMEOUT)
    if me:
        line.pong()
        return {}
    found = one_way(line, 2.0, _AGAIN)
    line.hang_up()
    route = topology.route(*topology.device_names)
    return {size: statistics.median(found[size]) / route.time(size) - 1 for size in _AGAIN}


def at_rate(pair: Sequence[Host], rate: str, sizes: Mapping[int, str], seconds: float) -> Rate:
    """Both ranks at one rate; `sizes` has bytes, and what they are."""
    limit(pair, rate)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "result.json"
        _run_ranks(pair, {"sizes": list(sizes), "seconds": seconds, "out": str(out)})
        result = json.loads(out.read_text(encoding="utf-8"))
    topology = Topology.from_dict(result["topology"])
    cases = []
    for sender, found in result["measured"].items():
        route = topology.route(*(topology.device_names[i] for i in (int(sender), 1 - int(sender))))
        cases += [Case(what, n, route.time(n), found[str(n)]) for n, what in sizes.items()]
    return Rate(rate, topology, cases, result["drift"])


def _run_ranks(pair: Sequence[Host], arguments: Mapping[str, object]) -> None:
    """Run both ranks to their end; if one fails, or this process is interrupted, none of them stays behind."""
    with ExitStack() as stack:
        processes = []
        for i, host in enumerate(pair):
            environment = {
                **os.environ, "RANK": str(i), "WORLD_SIZE": "2", "MASTER_ADDR": pair[0].address,
                "MASTER_PORT": str(_PORT), "GLOO_SOCKET_IFNAME": host.interface, "TORCH_CPP_LOG_LEVEL": "ERROR",
            }  # fmt: skip
            command = host.command(sys.executable, "-m", "benchmarks.slow_link", "--rank", json.dumps(arguments))
            processes.append(subprocess.Popen(command, env=environment))
            stack.callback(_end, processes[-1])
        for i, process in enumerate(processes):
            if process.wait(timeout=600):
                raise SystemExit(f"rank {i} failed with exit status {process.returncode}; see above")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def cut_values() -> dict[int, str]:
    """Bytes -> name of the values that a small GPT-2 sends, where a solver has spread it over two devices."""
    from benchmarks._models import build

    model, args, kwargs = build("gpt2")
    plan = tp.plan(model, args, kwargs, topology=tp.Topology.local(2), solver="balanced")
    found: dict[int, str] = {}
    for program in plan.programs:
        for _, instruction in program:
            if isinstance(instruction, Send):
                found.setdefault(program.values[instruction.value].nbytes, f"gpt2 %{instruction.value}")
    return {nbytes: name for nbytes, name in found.items() if nbytes not in SIZES}


def plans(topology: Topology) -> list[dict[str, Any]]:
    """Plans of models on a topology: which solver's, step time (s), the same on one device, devices used."""
    from benchmarks._models import build
    from examples import two_tower

    rows: list[dict[str, Any]] = []
    for name, made in (("two_tower", (*two_tower.build(), {})), ("gpt2", build("gpt2"))):
        model, args, kwargs = made
        plan, alone = (
            tp.plan(model, args, kwargs, topology=topology, solver=solver, cost="roofline")
            for solver in ("auto", "single")
        )
        rows.append(
            {
                "model": name,
                "solver": plan.solver,
                "devices": len(plan.devices_used),
                "step_time": plan.predicted.step_time,
                "single": alone.predicted.step_time,
                "sent": sum(p.values[i.value].nbytes for p in plan.programs for _, i in p if isinstance(i, Send)),
            }
        )
    return rows


def show(found: Rate, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print what was found at one rate."""
    print(f"\n== {found.rate}")
    for piece in found.topology.links[0].regimes:
        latency, rate = 2 * piece.latency * 1e6, piece.bandwidth / 1e6
        print(f"   from {piece.nbytes:>9,} bytes on: {latency:8.1f} us + bytes / {rate:,.1f} MB/s")
    print(f"{'transfer':>24} {'bytes':>11} {'predicted':>12} {'measured':>12} {'error':>7}")
    for case in found.cases:
        times = f"{case.predicted * 1e3:>9.3f} ms {case.measured * 1e3:>9.3f} ms"
        print(f"{case.what:>24} {case.nbytes:>11,} {times} {case.error:>+7.1%}")
    print(f"   error: median {statistics.median(found.errors):.1%}, worst {max(found.errors):.1%}")
    drift = ", ".join(f"{int(size):,} bytes {change:+.1%}" for size, change in found.drift.items())
    print(f"   measured again at the end, as for the topology: {drift}")
    for row in rows:
        what = (
            f"{row['model']:>10}: {row['solver']} on {row['devices']} device(s), {row['step_time'] * 1e3:.2f} ms a step"
        )
        print(f"   {what} (on one: {row['single'] * 1e3:.2f} ms), {row['sent']:,} bytes sent")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default=",".join(LIMITS), help="of " + ", ".join(LIMITS))
    parser.add_argument("--seconds", type=float, default=10.0, help="for which a topology is measured, about")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rank", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank:
        rank(json.loads(options.rank))
        return
    rates = options.rates.split(",")
    unknown = [rate for rate in rates if rate not in LIMITS]
    if unknown:
        parser.error(f"--rates {unknown[0]}: expected {', '.join(LIMITS)}")
    reason = lacking()
    if reason is not None:
        raise SystemExit(f"slow_link {reason}")
    sizes = {**dict.fromkeys(OTHERS, ""), **cut_values()}
    results = []
    with hosts() as pair:
        for rate in rates:
            found = at_rate(pair, rate, sizes, options.seconds)
            rows = plans(found.topology)
            results.append((found, rows))
            if not options.json:
                show(found, rows)
    if options.json:
        print(json.dumps([_data(found, rows) for found, rows in results], indent=1))


def _data(found: Rate, rows: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    return {
        "rate": found.rate,
        "median_error": statistics.median(found.errors),
        "worst_error": max(found.errors),
        "drift": dict(found.drift),
        "transfers": [{**vars(case), "error": case.error} for case in found.cases],
        "plans": list(rows),
        "topology": found.topology.to_dict(),
    }


if __name__ == "__main__":
    main()
