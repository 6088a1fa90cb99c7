"""Kill ranks of a training run at random instants: do all others say so, soon, and does the restarted run go on?

    python -m benchmarks.faults [--times 50] [--ranks 2] [--limit 30] [--json]

Each time, a small GPT (`examples/train_gpt.py`) is trained on that many ranks with checkpoints, and one rank, each in
turn, is killed with SIGKILL at a random instant after the first step. Then every other rank has to end with `RankError`
within the limit, by itself: the ranks are started without torchrun, which would end them first. They are started again,
and the losses of the whole run have to be those of an undisturbed one, to the last digit that is printed. At the end no
process may be left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic, sleep

from benchmarks._ranks import environments

EXAMPLE = Path(__file__).parents[1] / "examples" / "train_gpt.py"
STEPS = 16


class Job:
    """The ranks of a run."""

    def __init__(self, folder: Path, ranks: int, steps: int) -> None:
        """Start them; each writes to a file of its own."""
        size = ("--layers", "4", "--width", "96", "--microbatches", "4", "--print-every", "1")
        command = [sys.executable, str(EXAMPLE), "--steps", str(steps), "--every", "2", *size]
        command += ["--folder", str(folder / "checkpoints")]
        self.logs = [folder / f"rank{rank}.log" for rank in range(ranks)]
        self.processes: list[subprocess.Popen[bytes]] = []
        for log, variables in zip(self.logs, environments(ranks), strict=True):
            env = {**os.environ, **variables}
            with log.open("wb") as out:
                self.processes.append(subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT))

    def losses(self) -> dict[int, str]:
        """Step -> loss, as rank 0 has printed it so far."""
        rows = (line.split() for line in self.logs[0].read_text(errors="replace").splitlines())
        return {int(row[1]): row[3] for row in rows if len(row) == 4 and row[0] == "step"}

    def wait(self, seconds: float) -> list[int | None]:
        """The exit codes, after some seconds at most."""
        end = monotonic() + seconds
        while monotonic() < end and any(p.poll() is None for p in self.processes):
            sleep(0.02)
        return [p.poll() for p in self.processes]

    def end(self) -> None:
        """Leave no process behind."""
        for process in self.processes:
            process.kill()
            process.wait()


def run_whole(folder: Path, ranks: int) -> dict[int, str]:
    """Start a run, or go on with it, and wait for its end; gives its losses."""
    job = Job(folder, ranks, STEPS)
    try:
        codes = job.wait(300)
        if any(codes):
            raise RuntimeError(f"an undisturbed run ended with {codes}: {job.logs[0].read_text()[-2000:]}")
        return job.losses()
    finally:
        job.end()


def disturb(folder: Path, ranks: int, victim: int, delay: float, limit: float) -> dict[str, object]:
    """Kill a rank some seconds after the first step; says how the others ended."""
    job = Job(folder, ranks, STEPS)
    try:
        begun = monotonic()
        while not job.losses() and monotonic() - begun < 120:
            sleep(0.02)
        sleep(delay)
        before = len(job.losses())
        os.kill(job.processes[victim].pid, signal.SIGKILL)
        killed = monotonic()
        codes = job.wait(limit)
        seconds = monotonic() - killed
        said = [log.read_text(errors="replace") for rank, log in enumerate(job.logs) if rank != victim]
        named = all("RankError" in text for text in said)
        ended = all(code is not None for code in codes)
        late = before >= STEPS  # the run was over when the rank was killed
        return {"ended": ended, "named": named or late, "seconds": seconds, "losses": job.losses(), "after": before}
    finally:
        job.end()


def once(i: int, ranks: int, limit: float, whole: dict[int, str], rng: random.Random) -> dict[str, object]:
    """One run that is disturbed, and goes on."""
    with tempfile.TemporaryDirectory() as name:
        folder, victim, delay = Path(name), i % ranks, rng.uniform(0, 1.5)
        found = disturb(folder, ranks, victim, delay, limit)
        losses = found.pop("losses")
        assert isinstance(losses, dict)
        losses.update(run_whole(folder, ranks))
        return {"victim": victim, "delay": round(delay, 3), **found, "same_losses": losses == whole}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--limit", type=float, default=30.0, help="seconds within which all ranks have to end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rng, results = random.Random(given.seed), []
    with tempfile.TemporaryDirectory() as name:
        whole = run_whole(Path(name), given.ranks)
    for i in range(given.times):
        results.append(once(i, given.ranks, given.limit, whole, rng))
        if not given.json:
            print(f"{i + 1:3d}/{given.times}  {results[-1]}", flush=True)
    good = [r for r in results if r["ended"] and r["named"] and r["same_losses"]]
    slowest = max(float(str(r["seconds"])) for r in results)
    if given.json:
        print(json.dumps({"times": given.times, "good": len(good), "slowest": slowest, "runs": results}))
    else:
        print(f"{len(good)} of {given.times} good; all ranks had ended after {slowest:.2f} s at most")
    sys.exit(len(good) < given.times)


if __name__ == "__main__":
    main()
