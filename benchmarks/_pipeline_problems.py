"""Problems: models to train, each with a batch, its loss and, where it is one, the chain of its layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks._pipeline_layers import VOCABULARY, Down, Embedding, Layer, Up
from examples.unet import UNet

CLASSES = 1000

_TIED = (
    "stages that its tracer makes do not run (PipeliningMetadataError), and of those made by hand both would have the "
    "tied embedding, with nothing that adds up its gradients"
)


@dataclass(frozen=True)
class Problem:
    """What a step is of.

    Attributes:
        model: in training mode, its weights the same every time.
        args: positional arguments, of the whole batch.
        kwargs: the others.
        target: of the loss; None where the model makes its own.
        loss_fn: of (output, target); None where the model's output has a `loss`.
        layers: modules that one after the other do what the model does; each takes what the one before returned.
        unchained: why there are none.
    """

    model: nn.Module
    args: tuple[torch.Tensor, ...] = ()
    kwargs: Mapping[str, torch.Tensor] = field(default_factory=dict)
    target: torch.Tensor | None = None
    loss_fn: Callable[[Any, Any], torch.Tensor] | None = None
    layers: Sequence[nn.Module] = ()
    unchained: str = ""

    def microbatches(self, count: int) -> Iterator[Callable[[], torch.Tensor]]:
        """What gives the loss of each micro-batch."""
        for i in range(count):
            args = [a.chunk(count)[i] for a in self.args]
            kwargs = {name: a.chunk(count)[i] for name, a in self.kwargs.items()}
            target = None if self.target is None else self.target.chunk(count)[i]
            yield lambda args=args, kwargs=kwargs, target=target: self._loss(args, kwargs, target)  # type: ignore[misc]

    def _loss(self, args: Sequence[torch.Tensor], kwargs: Mapping[str, torch.Tensor], target: Any) -> torch.Tensor:
        output = self.model(*args, **kwargs)
        loss: torch.Tensor = output.loss if self.loss_fn is None else self.loss_fn(output, target)
        return loss

    def squares(self) -> float:
        """The sum of the squares of all gradients: what does other work has another one."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        return math.fsum(float(g.double().square().sum()) for g in gradients)


def _transformers() -> Any:
    """Imported only by those that need it: it takes seconds."""
    import transformers

    return transformers


def token_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean over all tokens."""
    return F.cross_entropy(output.flatten(0, 1), target.flatten())


def pixel_loss(output: torch.Tensor | tuple[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
    """Mean over all pixels; a chain of what returns several tensors returns a tuple at the end, too."""
    return F.cross_entropy(output[0] if isinstance(output, tuple) else output, target)


def gpt(rows: int, width: int = 192, layers: int = 8, length: int = 128) -> Problem:
    """A chain of an embedding, layers of equal size and a small head."""
    head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, VOCABULARY))
    model = nn.Sequential(Embedding(width, length), *(Layer(width) for _ in range(layers)), head)
    tokens = torch.randint(VOCABULARY, (rows, length + 1))
    inputs, target = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    return Problem(model, (inputs,), target=target, loss_fn=token_loss, layers=list(model))


def resnet50(rows: int, pixels: int = 96) -> Problem:
    """Layers of very different sizes, their parameters at the other end than their work."""
    hf = _transformers()
    found = hf.ResNetForImageClassification(hf.ResNetConfig(num_labels=CLASSES))
    layers = [layer for stage in found.resnet.encoder.stages for layer in stage.layers]
    head = nn.Sequential(found.resnet.pooler, found.classifier)
    model = nn.Sequential(found.resnet.embedder, *layers, head).train()
    images, target = torch.randn(rows, 3, pixels, pixels), torch.randint(CLASSES, (rows,))
    return Problem(model, (images,), target=target, loss_fn=F.cross_entropy, layers=list(model))


def unet(rows: int, width: int = 16, levels: int = 3, pixels: int = 128) -> Problem:
    """What a level skips crosses every cut."""
    model = UNet(width=width, levels=levels)
    ups = [Up(grow, block) for grow, block in zip(model.up, model.join, strict=True)]
    layers = [model.stem, *(Down(block) for block in model.down), *ups, model.head]
    images, target = torch.randn(rows, 3, pixels, pixels), torch.randint(4, (rows, pixels, pixels))
    return Problem(model, (images,), target=target, loss_fn=pixel_loss, layers=layers)


def t5(rows: int, width: int = 256, layers: int = 3, length: int = 64) -> Problem:
    """An encoder that all layers of a decoder look at, one embedding for both and for the head; makes its own loss."""
    hf = _transformers()
    config = hf.T5Config(
        vocab_size=2048, d_model=width, d_kv=32, d_ff=4 * width, num_layers=layers, num_heads=width // 32,
        dropout_rate=0.0, decoder_start_token_id=0, use_cache=False,
    )  # fmt: skip
    model = hf.T5ForConditionalGeneration(config).train()
    shapes = {"input_ids": (rows, length), "labels": (rows, length // 2)}
    tokens = {name: torch.randint(1, config.vocab_size, shape) for name, shape in shapes.items()}
    return Problem(model, kwargs=tokens, unchained=_TIED)


_FAMILIES: Mapping[str, Callable[..., Problem]] = {f.__name__: f for f in (gpt, resnet50, unet, t5)}


@dataclass(frozen=True)
class Case:
    """A problem by its name: each process makes it for itself.

    Attributes:
        name: of the case.
        family: of models.
        microbatches: of a step.
        rows: of a micro-batch.
        sizes: of the model and its inputs, where they are others than the family's.
    """

    name: str
    family: str
    microbatches: int = 8
    rows: int = 2
    sizes: Mapping[str, int] = field(default_factory=dict)

    def build(self) -> Problem:
        """The problem: all weights and inputs are the same every time."""
        torch.manual_seed(0)
        return _FAMILIES[self.family](self.microbatches * self.rows, **self.sizes)


CASES: Mapping[str, Case] = {
    case.name: case
    for case in (
        Case("gpt-192", "gpt", sizes={"width": 192}),
        Case("gpt-384", "gpt", sizes={"width": 384}),
        Case("resnet50", "resnet50"),
        Case("unet", "unet"),
        Case("t5", "t5", rows=4),
    )
}
"""By name."""
