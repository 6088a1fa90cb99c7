"""Train with the `Trainer` of transformers: the model is placed by torchplace, all else stays as it is.

    python examples/hf_trainer.py [--devices 2] [--steps 20] [--eager]        # needs accelerate

Prints the loss of every step. With `--eager` the model is not compiled; the losses are the same.
"""

from __future__ import annotations

import argparse
import tempfile

import torch
import transformers as hf
from torch.utils.data import Dataset

import torchplace as tp

VOCABULARY, LENGTH = 128, 32


class Counting(Dataset[dict[str, torch.Tensor]]):
    """Sequences in which each token follows from the one before: something to learn."""

    def __len__(self) -> int:
        return 256

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        tokens = (torch.arange(LENGTH) * (index % 5 + 1) + index) % VOCABULARY
        return {"input_ids": tokens, "labels": tokens}


def build() -> hf.GPT2LMHeadModel:
    """A small GPT-2; without dropout, so that its losses can be held against eager's."""
    torch.manual_seed(0)
    return hf.GPT2LMHeadModel(
        hf.GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=LENGTH,
            n_embd=128,
            n_layer=4,
            n_head=4,
            bos_token_id=0,
            eos_token_id=1,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            resid_pdrop=0.0,
        )
    )


def train(model: torch.nn.Module, steps: int) -> list[float]:
    """The loss of each step."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = hf.TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=8,
            learning_rate=1e-3,
            logging_steps=1,
            save_steps=steps,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer = hf.Trainer(model=model, args=arguments, train_dataset=Counting())
        trainer.remove_callback(hf.trainer_callback.PrinterCallback)
        trainer.train()
        return [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]


def main() -> None:
    """Train, and print the losses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=2, help="CPU devices of this machine")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--eager", action="store_true", help="do not compile the model")
    given = parser.parse_args()
    model = build()
    if not given.eager:
        model = tp.compile(model, topology=f"local:{given.devices}")
    for i, loss in enumerate(train(model, given.steps)):
        print(f"step {i:3d}  loss {loss:.6f}")


if __name__ == "__main__":
    main()
