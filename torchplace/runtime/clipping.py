"""What looks at all gradients of a model, wherever they are: their norm, and whether they are finite."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from torchplace.errors import OptionError
from torchplace.runtime.distributed import DistributedRuntime
from torchplace.runtime.pipelined import Step


@torch.no_grad()
def clip_grad_norm_(
    step: Step, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> torch.Tensor:
    """Scale the gradients of a step's model so that their norm, all together, is at most `max_norm`.

    As `torch.nn.utils.clip_grad_norm_`, over all devices and ranks: on a rank that one sees the gradients of its own
    parameters alone, and each rank would scale by another number. Every rank has to call it.

    Args:
        step: whose model's gradients are scaled.
        max_norm: of all gradients together.
        norm_type: of the norm; `inf` for the largest.
        error_if_nonfinite: a norm that is infinite or no number is an error.

    Returns:
        The norm before, the same on every rank.

    Raises:
        OptionError: the step's model is no module.
        RankError: another rank has failed.
        RuntimeError: the norm is not finite.
    """
    parameters = _parameters(step)
    norms = [_norm(p, norm_type) for p in parameters]
    known = torch.stack(norms).cpu() if norms else torch.zeros(0)
    runtime = step.session.runtime
    if isinstance(runtime, DistributedRuntime):  # a gradient is on one rank; on the others it counts as 0
        known = torch.stack(runtime.exchange(known, "clipping gradients")).sum(0)
    total: torch.Tensor = torch.linalg.vector_norm(known, norm_type)
    if error_if_nonfinite and not torch.isfinite(total):
        raise RuntimeError(f"the norm of the gradients is {float(total)}; expected a finite one")
    factor = torch.clamp(max_norm / (total + 1e-6), max=1.0)
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(factor.to(parameter.grad.device))
    return total


def _parameters(step: Step) -> list[nn.Parameter]:
    if not isinstance(step.model, nn.Module):
        raise OptionError(f"{step!r} is of a function; expected a step of a module, whose parameters have gradients")
    return list(step.model.parameters())


def _norm(parameter: nn.Parameter, norm_type: float) -> torch.Tensor:
    if parameter.grad is None:
        return torch.zeros(())
    norm: torch.Tensor = torch.linalg.vector_norm(parameter.grad, norm_type)
    return norm.float().cpu()


class GradScaler(torch.amp.GradScaler):
    """`torch.amp.GradScaler` for a step: that a gradient is not finite on one rank counts on all of them.

    Use it as ever, with `grad_scale`: `loss = step(x, y, grad_scale=scaler.get_scale()); scaler.step(optimizer);
    scaler.update()`.
    """

    def __init__(self, step: Step, **options: Any) -> None:
        """Of a step; options as torch's has them."""
        super().__init__(**options)
        self._of = step
        if self._enabled:
            self.scale(torch.zeros((), device=options.get("device", "cuda")))  # it makes its own number at the first

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide gradients by the scale, and note on every rank whether all are finite."""
        super().unscale_(optimizer)
        runtime = self._of.session.runtime
        if self._enabled and isinstance(runtime, DistributedRuntime):
            found: dict[Any, torch.Tensor] = self._per_optimizer_states[id(optimizer)]["found_inf_per_device"]
            mine = torch.tensor([float(sum(float(f) for f in found.values()))])
            bad = float(torch.stack(runtime.exchange(mine, "looking for infinite gradients")).sum())
            if not found and self._scale is not None:
                found[self._scale.device] = torch.zeros((), device=self._scale.device)
            for tensor in found.values():
                tensor.fill_(float(bad > 0))
