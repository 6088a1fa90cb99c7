"""The same training runs in one process, on 2 and 4 ranks, and on 2 x 2 ranks of two hosts: the same losses?

    python -m benchmarks.ranks [--steps 50] [--rate 1gbit] [--json]

Runs `examples/train_gpt.py` (characters of Python's documentation) and `examples/train_digits.py` (scikit-learn's
digits; left out where that is not installed). The two hosts are network namespaces on this machine, joined by a link of
the given rate; they need root, and are left out without it. Losses are compared to the last digit that tells one 32-bit
number from another. Four ranks on fewer cores say nothing of speed: seconds are printed to be looked at, not compared.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from benchmarks import _netns
from benchmarks._ranks import environments

ROOT = Path(__file__).parents[1]
RUNS = {
    "gpt": ["examples/train_gpt.py", "--layers", "4", "--width", "96", "--print-every", "1"],
    "digits": ["examples/train_digits.py"],
}


def losses(text: str) -> list[str]:
    """The losses that a run has printed."""
    rows = (line.split() for line in text.splitlines())
    return [row[3] for row in rows if len(row) == 4 and row[0] == "step"]


def alone(command: Sequence[str]) -> str:
    """What a run prints in one process, with two devices."""
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=_env(), capture_output=True, text=True, check=True
    ).stdout


def ranks(command: Sequence[str], each: int, pair: Sequence[_netns.Host] = ()) -> str:
    """What rank 0 prints of a run on so many ranks, or on so many on each of some hosts."""
    prefixes = [host.command() for host in pair] or [[]]
    address, topology = (pair[0].address, "local:4") if pair else ("127.0.0.1", "")
    processes = []
    size = each * len(prefixes)
    with tempfile.TemporaryDirectory() as folder:
        for rank, variables in enumerate(environments(size, each if pair else size, address)):
            env = {**_env(), **variables, "TOPOLOGY": topology}
            env |= {"GLOO_SOCKET_IFNAME": pair[rank // each].interface} if pair else {}
            whole = [*prefixes[rank // each], sys.executable, *command]
            with (Path(folder) / f"{rank}").open("wb") as out:
                processes.append(subprocess.Popen(whole, cwd=ROOT, env=env, stdout=out, stderr=subprocess.STDOUT))
        try:
            codes = [p.wait(1200) for p in processes]
            texts = [(Path(folder) / f"{rank}").read_text(errors="replace") for rank in range(size)]
        finally:
            for process in processes:
                process.kill()
    if any(codes):
        raise RuntimeError(f"the ranks ended with {codes}: {texts[0][-1500:]} {texts[-1][-1500:]}")
    return texts[0]


def _env() -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def contest(command: Sequence[str], steps: int, rate: str) -> list[dict[str, object]]:
    """A row for each way of running."""
    command = [*command, "--steps", str(steps)]
    ways = {
        "one process": lambda: alone(command),
        "2 ranks": lambda: ranks(command, 2),
        "4 ranks": lambda: ranks(command, 4),
    }
    rows: list[dict[str, object]] = []
    for way, run in ways.items():
        begun = perf_counter()
        rows.append({"way": way, "losses": losses(run()), "seconds": perf_counter() - begun})
    if (reason := _netns.lacking()) is not None:
        print(f"2 x 2 ranks left out: {reason}", file=sys.stderr)
        return rows
    with _netns.hosts() as pair:
        _netns.limit(pair, rate)
        begun = perf_counter()
        text = ranks(command, 2, pair)
        rows.append({"way": f"2 x 2 ranks, {rate}", "losses": losses(text), "seconds": perf_counter() - begun})
    return rows


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rate", default="1gbit", choices=list(_netns.LIMITS))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found: dict[str, list[dict[str, object]]] = {}
    for name, command in RUNS.items():
        if name == "digits" and importlib.util.find_spec("sklearn") is None:
            print("digits left out: scikit-learn is not installed", file=sys.stderr)
            continue
        found[name] = contest(command, given.steps, given.rate)
        for row in found[name]:
            row["same"] = row["losses"] == found[name][0]["losses"]
            if not given.json:
                last = row["losses"][-1]  # type: ignore[index]
                print(
                    f"{name:8s}{row['way']:22s}{row['seconds']:7.1f} s  last loss {last}  same: {row['same']}",
                    flush=True,
                )
    if given.json:
        print(json.dumps(found))
    sys.exit(not all(row["same"] for rows in found.values() for row in rows))


if __name__ == "__main__":
    main()
