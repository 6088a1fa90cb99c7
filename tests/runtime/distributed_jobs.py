"""What ranks do in the tests of the distributed runtime; each also runs in a single process, for comparison."""

from __future__ import annotations

import os
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import rnn

import torchplace as tp


class Net(nn.Module):
    """Tied weights across stages, a skip over them, dropout and batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(12, 16), nn.BatchNorm1d(16)
        self.middle = nn.ModuleList(nn.Linear(16, 16) for _ in range(4))
        self.drop, self.last = nn.Dropout(0.2), nn.Linear(16, 5)
        self.middle[3].weight = self.middle[0].weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = x = self.norm(self.first(x))
        for layer in self.middle:
            x = self.drop(F.gelu(layer(x)))
        return self.last(x + skip)


def batch(i: int, rows: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(i)
    x = torch.randn(rows, 12, generator=generator)
    return x, x[:, :5].argmax(1)


def make(meta: bool = False, **options: Any) -> tuple[nn.Module, Any, torch.optim.Optimizer]:
    torch.manual_seed(0)
    with torch.device("meta" if meta else "cpu"):
        model = Net()
    if "RANK" not in os.environ:
        options.setdefault("topology", tp.Topology.local(options.pop("devices", 2), threads=1))
    options.pop("devices", None)
    step = tp.compile(
        model, loss_fn=F.cross_entropy, cost="roofline", **{"microbatches": 4, "solver": "random"} | options
    )
    return model, step, torch.optim.AdamW(model.parameters(), 1e-2)


def train(
    steps: int = 6,
    folder: str = "",
    rows: int = 12,
    sleep_at: int = -1,
    mismatch: int = -1,
    save: str = "",
    **options: Any,
) -> dict[str, Any]:
    """Train; gives losses, norms, and which parameters are here."""
    model, step, optimizer = make(**options)
    saver = tp.Checkpointer(step, optimizer, every=2, folder=folder) if folder else None
    losses, norms = {}, []
    for i in range(saver.load() if saver else 0, steps):
        if i == sleep_at:
            print("READY", flush=True)
            time.sleep(0.5)
        wrong = i == mismatch and os.environ.get("RANK") == "1"
        loss, output = step(*batch(i, rows + 4 * wrong), return_outputs=True)
        assert output.shape == (rows, 5)
        norms.append(tp.clip_grad_norm_(step, 0.5).item().hex())
        optimizer.step()
        optimizer.zero_grad()
        losses[i] = loss.item().hex()
        if saver:
            saver.done(i + 1)
    if save:
        step.save(save)
    here = sorted(n for n, p in model.named_parameters() if p.device.type != "meta")
    weights = {n: p.detach().double().sum().item() for n, p in model.named_parameters() if p.device.type != "meta"}
    return {"losses": losses, "norms": norms, "here": here, "weights": weights}


def fail(at: int = 3) -> dict[str, Any]:
    """Rank 1 gives a target that there is no class for."""
    _, step, _ = make(fault_timeout=5.0)
    for i in range(1000):
        x, y = batch(i)
        step(x, y + 100 if i == at and os.environ["RANK"] == "1" else y)
    return {}


def run_on() -> dict[str, Any]:
    """Steps until something happens."""
    _, step, _ = make(fault_timeout=4.0)
    for i in range(100_000):
        step(*batch(i))
        if i == 3:
            print("READY", flush=True)
    return {}


def scale(steps: int = 5) -> dict[str, Any]:
    """Train with a scaler of gradients; in the second step, a gradient of one parameter is infinite."""
    model, step, optimizer = make()
    scaler = tp.GradScaler(step, device="cpu", init_scale=1024.0, growth_interval=2)
    losses, scales = [], []
    for i in range(steps):
        loss = step(*batch(i), grad_scale=scaler.get_scale())
        if i == 1:
            [parameter] = [p for n, p in model.named_parameters() if n == "last.bias"]
            if parameter.grad is not None:
                parameter.grad[0] = float("inf")
        scaler.unscale_(optimizer)
        tp.clip_grad_norm_(step, 0.5)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        losses.append(loss.item().hex())
        scales.append(scaler.get_scale())
    return {"losses": losses, "scales": scales}


class Reader(nn.Module):
    """Reads sentences of several lengths without their padding: how many words that are hangs on values."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.layer, self.last = nn.Embedding(20, 8), nn.GRU(8, 6, 2, batch_first=True), nn.Linear(6, 5)

    def forward(self, words: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = rnn.pack_padded_sequence(self.words(words), lengths, batch_first=True, enforce_sorted=False)
        read, _ = rnn.pad_packed_sequence(self.layer(packed)[0], batch_first=True)
        result: torch.Tensor = self.last(read.tanh()).sum(1)
        return result


def read(steps: int = 3) -> dict[str, Any]:
    """Train on sentences; gives losses."""
    torch.manual_seed(0)
    model = Reader()
    where = {} if "RANK" in os.environ else {"topology": tp.Topology.local(2, threads=1)}
    step = tp.compile(
        model, loss_fn=F.cross_entropy, cost="roofline", solver="random", microbatches=2, dynamic=False, **where
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    losses = []
    for i in range(steps):
        draw = torch.Generator().manual_seed(i)
        words, lengths = torch.randint(20, (4, 7), generator=draw), torch.randint(1, 8, (4,), generator=draw)
        losses.append(step(words, lengths, target=lengths % 5).item().hex())
        optimizer.step()
        optimizer.zero_grad()
    return {"losses": losses}
