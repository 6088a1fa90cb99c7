"""Generate text with GPT-2, placed by torchplace; `generate` runs as it is, its key-value cache included.

    python examples/generate_gpt2.py [--devices 2] [--layers 12] [--tokens 40] [--pretrained gpt2]

Without `--pretrained` the weights are random and nothing is downloaded. The tokens are held against eager's. The prompt
is one graph; the token behind it is another, whose lengths become dynamic with the next: all further tokens run those.
"""

from __future__ import annotations

import argparse
from time import perf_counter
from typing import Any

import torch
import transformers as hf

import torchplace as tp


def build(layers: int = 12) -> hf.GPT2LMHeadModel:
    """GPT-2 of the usual width, with random weights."""
    torch.manual_seed(0)
    return hf.GPT2LMHeadModel(hf.GPT2Config(n_layer=layers)).eval()


def tokens(model: Any, prompt: torch.Tensor, count: int) -> tuple[torch.Tensor, float]:
    """The prompt and `count` tokens more, the likeliest each; and the seconds that it took."""
    begun = perf_counter()
    with torch.no_grad():
        made = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            pad_token_id=model.config.eos_token_id,
        )
    return made, perf_counter() - begun


def main() -> None:
    """Generate, eager and placed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=2, help="CPU devices of this machine")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--pretrained", metavar="NAME", help="a checkpoint, to be downloaded, with its tokenizer")
    given = parser.parse_args()
    if given.pretrained:
        model = hf.AutoModelForCausalLM.from_pretrained(given.pretrained).eval()
        tokenizer = hf.AutoTokenizer.from_pretrained(given.pretrained)
        prompt = tokenizer("The hard problem of distributed deep learning is", return_tensors="pt").input_ids
    else:
        model, tokenizer = build(given.layers), None
        prompt = torch.randint(0, model.config.vocab_size, (1, 9), generator=torch.Generator().manual_seed(0))
    expected, eager = tokens(model, prompt, given.tokens)
    placed = tp.compile(model, topology=f"local:{given.devices}")
    found, first = tokens(placed, prompt, given.tokens)
    _, later = tokens(placed, prompt, given.tokens)
    print(tokenizer.decode(found[0]) if tokenizer else found[0].tolist())
    print(f"the same tokens as eager: {torch.equal(found, expected)}")
    print(f"{given.tokens} tokens: eager {eager:.2f} s, placed {first:.2f} s with planning, {later:.2f} s without")
    for plan in tp.plans(placed):
        print(f"  a graph of {sum(plan.ops_on.values())} ops on {', '.join(plan.devices_used)}")


if __name__ == "__main__":
    main()
