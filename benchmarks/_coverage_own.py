"""Models of nobody's: what users write themselves, small, with random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import rnn
from torch.utils.checkpoint import checkpoint

from benchmarks._coverage_entry import Entry
from benchmarks._coverage_other import sound
from benchmarks._coverage_text import WIDTH, tokens


class Recommender(nn.Module):
    """Like DLRM (Naumov et al. 2019): embeddings of categories, a tower of numbers, and all pairs of their products."""

    def __init__(self, tables: int = 4, width: int = 16) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.EmbeddingBag(50, width, mode="sum") for _ in range(tables))
        self.below = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, width))
        pairs = (tables + 1) * tables // 2
        self.above = nn.Sequential(nn.Linear(pairs + width, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        x = self.below(numbers)
        parts = torch.stack([x, *(table(categories[:, i]) for i, table in enumerate(self.tables))], dim=1)
        products = torch.bmm(parts, parts.transpose(1, 2))
        above = torch.triu_indices(parts.shape[1], parts.shape[1], 1)
        return torch.sigmoid(self.above(torch.cat([x, products[:, above[0], above[1]]], dim=1)))


class Recurrent(nn.Module):
    """Words through an LSTM or a GRU."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.words, self.last = nn.Embedding(96, 16), nn.Linear(24, 5)
        self.cells: nn.Module = getattr(nn, kind)(16, 24, num_layers=2, batch_first=True)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.last(self.cells(self.words(words))[0])  # type: ignore[no-any-return]


class Packed(Recurrent):
    """The same, without the padding of sentences that are shorter than others."""

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        lengths = (words % 2 == 0).sum(1).clamp_min(1)
        rows = rnn.pack_padded_sequence(self.words(words), lengths, batch_first=True, enforce_sorted=False)
        read, _ = rnn.pad_packed_sequence(self.cells(rows)[0], batch_first=True)
        result: torch.Tensor = self.last(read)
        return result


class Seq2Seq(nn.Module):
    """`nn.Transformer`."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.last = nn.Embedding(96, WIDTH), nn.Linear(WIDTH, 96)
        self.body = nn.Transformer(WIDTH, 4, 2, 2, 48, dropout=0.0, batch_first=True)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        return self.last(self.body(self.words(source), self.words(target), tgt_mask=mask, tgt_is_causal=True))  # type: ignore[no-any-return]


class Odd(nn.Module):
    """What users write: checkpoints, weight norm, a print, a branch on a value, a dict of results, and Nones."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.utils.parametrizations.weight_norm(nn.Linear(16, 24))
        self.norm, self.last = nn.BatchNorm1d(24), nn.Linear(24, 5)

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> dict[str, Any]:
        h = checkpoint(lambda y: F.gelu(self.first(y)), x, use_reentrant=False)
        h = self.norm(h) * scale
        if h.abs().mean().item() > 100:
            h = h / 2
        h = torch.cond(h.sum() > 0, lambda y: y * 2, lambda y: y - 1, (h,))
        return {"logits": self.last(h), "hidden": (h, None), "loss": None}


class Forces(nn.Module):
    """An energy of atoms, and the forces that it says, which are its derivative; both are trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(1, 24), nn.SiLU(), nn.Linear(24, 24), nn.SiLU(), nn.Linear(24, 1))

    def forward(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.enable_grad():
            places = places.detach().requires_grad_()
            apart = (places[:, :, None] - places[:, None]).square().sum(-1, keepdim=True)
            energy = self.body(torch.exp(-apart)).sum((1, 2, 3))
            (slope,) = torch.autograd.grad(energy.sum(), places, create_graph=self.training)
        return energy, -slope


class Heard(nn.Module):
    """A recurrent net for sounds with a CTC loss, which checks its labels."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.GRU(8, 16, batch_first=True, bidirectional=True)
        self.last = nn.Linear(32, 12)

    def forward(self, sounds: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if labels.max() >= self.last.out_features:
            raise ValueError(f"a label is {labels.max()}; expected less than {self.last.out_features}")
        logits = self.last(self.cells(sounds.unflatten(1, (-1, 8)))[0]).log_softmax(-1).transpose(0, 1)
        kept = labels >= 1
        spans = torch.full((len(sounds),), len(logits)), kept.sum(1)
        return F.ctc_loss(logits, labels.masked_select(kept), *spans, zero_infinity=True)


def entries() -> Iterator[Entry]:
    """All of them."""
    draw = torch.Generator().manual_seed(0)
    yield Entry(
        "dlrm",
        "torch",
        Recommender,
        lambda b: (
            (torch.randn(b, 13, generator=draw.manual_seed(b)), torch.randint(0, 50, (b, 4, 3), generator=draw)),
            {},
        ),
    )
    for kind in ("LSTM", "GRU"):
        yield Entry(kind.lower(), "torch", _recurrent(kind), lambda b: ((tokens(b),), {}))
    yield Entry("packed-gru", "torch", lambda: Packed("GRU"), lambda b: ((tokens(b),), {}))
    yield Entry("nn-transformer", "torch", Seq2Seq, lambda b: ((tokens(b), tokens(b, 7)), {}))
    yield Entry("forces", "torch", Forces, lambda b: ((sound(b, 15).unflatten(1, (5, 3)),), {}))
    yield Entry("ctc", "torch", Heard, lambda b: ((sound(b, 160), tokens(b, 6) % 12), {}))
    yield Entry("odd", "torch", Odd, lambda b: ((sound(b + 2, 16),), {"scale": 0.5}))


def _recurrent(kind: str) -> Callable[[], nn.Module]:
    return lambda: Recurrent(kind)
