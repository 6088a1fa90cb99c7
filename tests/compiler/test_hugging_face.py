"""Masks of transformers are what they are in eager: none, where a batch has no padding."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import torchplace as tp

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("forgotten")


def bert() -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(**sizes, intermediate_size=32, max_position_embeddings=16)
    return transformers.BertForMaskedLM(config).eval()


def masks(*lengths: int) -> torch.Tensor:
    """For each row, how many tokens count."""
    return (torch.arange(6) < torch.tensor(lengths)[:, None]).long()


def found(plan: tp.Plan) -> list[str]:
    """What was found where masks are made."""
    return [line.rpartition(" ")[2] for line in plan.found if line.startswith("transformers/masking_utils.py")]


def test_a_batch_without_padding_has_no_mask_and_one_with_padding_is_another_graph() -> None:
    eager = bert()
    placed = tp.compile(copy.deepcopy(eager), topology="local:2", solver="random", fullgraph=True)
    ids = torch.arange(12).view(2, 6)
    for mask in (masks(6, 6), masks(6, 4), masks(5, 6), masks(6, 6)):
        given = {"input_ids": ids, "attention_mask": mask}
        with torch.no_grad():
            torch.testing.assert_close(placed(**given).logits, eager(**given).logits)
    without, padded = tp.plans(placed)
    assert (found(without), found(padded)) == (["True"], ["False"])
    assert sum(without.ops_on.values()) < sum(padded.ops_on.values())


@pytest.mark.parametrize("mask", [masks(6, 6, 6, 6), masks(6, 6, 6, 4)])
def test_micro_batches_of_a_step_share_a_graph_whether_some_have_padding(mask: torch.Tensor) -> None:
    eager = bert()
    step = tp.compile(
        copy.deepcopy(eager),
        loss_fn=lambda output: output.logits.square().mean(),
        microbatches=2,
        topology="local:2",
        solver="random",
        fullgraph=True,
    )
    ids = torch.arange(24).view(4, 6)
    loss = step(input_ids=ids, attention_mask=mask)
    parts = [eager(input_ids=ids[s], attention_mask=mask[s]).logits for s in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(loss, torch.stack([part.square().mean() for part in parts]).mean().detach())
    assert [found(plan) for plan in tp.plans(step)] == [[] if (mask == 0).any() else ["True"]]


def test_a_plan_that_was_made_before_fits_batches_with_padding_and_without() -> None:
    eager = bert()
    ids = torch.arange(12).view(2, 6)
    plan = tp.plan(eager, kwargs={"input_ids": ids, "attention_mask": masks(6, 6)}, topology="local:2", training=False)
    placed = tp.compile(copy.deepcopy(eager), topology="local:2", plan=plan, fullgraph=True)
    for mask in (masks(6, 4), masks(6, 6)):
        given = {"input_ids": ids, "attention_mask": mask}
        with torch.no_grad():
            torch.testing.assert_close(placed(**given).logits, eager(**given).logits)
    assert len(tp.plans(placed)) == 1
