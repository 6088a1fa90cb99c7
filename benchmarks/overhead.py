"""What placement costs where it brings nothing: one device, GPT-2 size, torchplace beside eager.

    python -m benchmarks.overhead [--rounds 15] [--json]

GPT-2 small (12 layers, width 768, vocabulary 50,257, random weights), 2 x 128 tokens, forward, and forward and
backward. Both use all intra-op threads that torch uses. Prints the ratio of medians; the goal is at most 1.05.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

import torchplace as tp
from benchmarks._timing import interleaved, median, paired_ratio


def build() -> tuple[nn.Module, torch.Tensor]:
    """GPT-2 small without dropout, and its tokens."""
    torch.manual_seed(0)
    config = GPT2Config(embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0, use_cache=False)
    return GPT2LMHeadModel(config).train(), torch.randint(0, config.vocab_size, (2, 128))


def forward(model: nn.Module, tokens: torch.Tensor) -> Callable[[], object]:
    """A call without gradients."""

    def run() -> None:
        with torch.no_grad():
            model(tokens)

    return run


def step(model: nn.Module, tokens: torch.Tensor) -> Callable[[], object]:
    """A call, its backward, and gradients dropped."""

    def run() -> None:
        model(tokens).logits.mean().backward()
        model.zero_grad(set_to_none=True)

    return run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    model, tokens = build()
    placed = tp.compile(copy.deepcopy(model), topology=tp.Topology.local(1), solver="single")
    results = []
    for name, work in (("forward", forward), ("forward and backward", step)):
        times = interleaved({"eager": work(model, tokens), "torchplace": work(placed, tokens)}, options.rounds)
        results.append(
            {
                "what": name,
                "eager_seconds": median(times["eager"]),
                "torchplace_seconds": median(times["torchplace"]),
                "ratio_of_medians": median(times["torchplace"]) / median(times["eager"]),
                "median_of_paired_ratios": paired_ratio(times, "torchplace", "eager"),
                "eager_spread": max(times["eager"]) / min(times["eager"]),
            }
        )
    if options.json:
        print(json.dumps(results, indent=1))
        return
    for r in results:
        print(
            f"{r['what']:22} eager {r['eager_seconds'] * 1e3:7.1f} ms  "
            f" torchplace {r['torchplace_seconds'] * 1e3:7.1f} ms"
            f"   ratio {r['ratio_of_medians']:.3f} (paired {r['median_of_paired_ratios']:.3f});"
            f" eager's slowest over fastest {r['eager_spread']:.2f}"
        )


if __name__ == "__main__":
    main()
