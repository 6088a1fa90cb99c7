"""How long a first call of GPT-2 takes (12 layers, forward and backward), beside `torch.compile`'s "aot_eager".

    python -m benchmarks.first_call [--rounds 3] [--json]

Each contestant is a process of its own, in turn, round after round; what is printed are medians, and ratios of the same
round. A call counts from `compile` to the end of `backward`, capture included. torchplace is there twice: with nothing
kept on disk, and once more, when the plan of the first is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from time import perf_counter

import torch

from benchmarks._timing import median, paired_ratio

AOT, FIRST, KEPT = "aot_eager", "torchplace", "torchplace, its plan kept"
CONTESTANTS = (AOT, FIRST, KEPT)


def call(contestant: str) -> float:
    """Seconds of a first call, in this process."""
    from transformers import GPT2Config, GPT2LMHeadModel

    import torchplace as tp

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(use_cache=False)).train()
    tokens = torch.randint(0, 50257, (2, 64))
    begun = perf_counter()
    aot = contestant == AOT
    compiled = torch.compile(model, backend="aot_eager") if aot else tp.compile(model, topology="local:2")
    compiled(tokens, labels=tokens).loss.backward()
    return perf_counter() - begun


def apart(contestant: str, cache: str) -> float:
    """Seconds of a first call, in a process of its own that keeps its plans in a folder."""
    command = [sys.executable, "-m", "benchmarks.first_call", "--one", contestant]
    environment = {**os.environ, "TORCHPLACE_CACHE": cache}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout.strip().splitlines()[-1])


def rounds_of(count: int) -> dict[str, list[float]]:
    """Contestant -> seconds, round by round."""
    times: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for _ in range(count):
        with tempfile.TemporaryDirectory() as cache:
            for name in CONTESTANTS:
                times[name].append(apart(name, cache))
    return times


def summary(times: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    """Contestant -> seconds, and how many times those of `aot_eager`: medians."""
    return {
        name: {"seconds": median(seconds), "ratio": paired_ratio(times, name, AOT)} for name, seconds in times.items()
    }


def main() -> None:
    """Time the first calls, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", choices=CONTESTANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(call(options.one))
        return
    found = summary(rounds_of(options.rounds))
    if options.json:
        print(json.dumps(found, indent=1))
        return
    for name, row in found.items():
        print(f"{name:28}{row['seconds']:7.1f} s {row['ratio']:6.2f}")


if __name__ == "__main__":
    main()
