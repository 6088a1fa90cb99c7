"""Starts the ranks of a job: a function of this repository's tests, in a process for each rank."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from benchmarks._ranks import environments

ROOT = Path(__file__).parents[1]


class Job:
    """The ranks of a job; each calls `function(**options)` of a module, and prints what that returns as JSON."""

    def __init__(self, function: str, ranks: int, logs: Path, **options: Any) -> None:
        module, name = function.split(":")
        code = (
            f"import json, torch; torch.set_num_threads(1); from {module} import {name}; "
            f"print('RESULT', json.dumps({name}(**json.loads({json.dumps(json.dumps(options))}))))"
        )
        self.logs = [logs / f"{name}-{rank}.log" for rank in range(ranks)]
        self.processes = []
        for log, variables in zip(self.logs, environments(ranks), strict=True):
            env = {**os.environ, **variables}
            env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            with log.open("wb") as out:
                self.processes.append(
                    subprocess.Popen([sys.executable, "-c", code], env=env, stdout=out, stderr=subprocess.STDOUT)
                )

    def text(self, rank: int) -> str:
        return self.logs[rank].read_text(errors="replace")

    def until(self, text: str, ranks: Sequence[int], seconds: float = 120) -> None:
        """Wait until some ranks have printed a text."""
        end = monotonic() + seconds
        while not all(text in self.text(rank) for rank in ranks):
            assert monotonic() < end, [self.text(rank)[-2000:] for rank in ranks]
            assert all(self.processes[r].poll() is None for r in ranks), [self.text(r)[-2000:] for r in ranks]
            sleep(0.02)

    def kill(self, rank: int, how: signal.Signals = signal.SIGKILL) -> None:
        os.kill(self.processes[rank].pid, how)

    def codes(self, seconds: float = 120) -> list[int | None]:
        """The exit codes after so many seconds, or before if all have ended; None for one that has not."""
        end = monotonic() + seconds
        while monotonic() < end and any(p.poll() is None for p in self.processes):
            sleep(0.02)
        return [p.poll() for p in self.processes]

    def results(self, seconds: float = 150) -> list[Any]:
        """What the function has returned on each rank."""
        try:
            codes = self.codes(seconds)
            assert codes == [0] * len(codes), [log.read_text(errors="replace")[-3000:] for log in self.logs]
            lines = [[x for x in self.text(r).splitlines() if x.startswith("RESULT ")] for r in range(len(codes))]
            return [json.loads(found[-1].removeprefix("RESULT ")) for found in lines]
        finally:
            self.end()

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
