from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import torchplace as tp
from torchplace.compiler.instructions import Recv, Run, Send
from torchplace.errors import PlanError
from torchplace.placement.report.trace import trace_events
from torchplace.placement.timeline import Event, Timeline

TIMELINE = Timeline(
    [
        Event("a", Run("s0", (), ("x",), 1), 0.0, 1.0),
        Event("a", Send("x", "b", 1), 1.0, 1.5, ("a->b",), 64),
        Event("b", Run("s1", ("x",), (), 1), 1.5, 2.0),
    ]
)


def test_every_event_is_a_slice_of_its_device_and_track() -> None:
    slices = [e for e in trace_events(TIMELINE, "predicted") if e["ph"] == "X"]
    assert [(e["name"], e["pid"], e["tid"], e["ts"], e["dur"]) for e in slices] == [
        ("run s0 @1", "predicted a", 0, 0.0, 1e6),
        ("send %x to b @1", "predicted a", 1, 1e6, 0.5e6),
        ("run s1 @1", "predicted b", 0, 1.5e6, 0.5e6),
    ]
    assert slices[1]["args"] == {"instruction": "send %x to b @1", "micro-batch": 1, "bytes": 64, "route": "a->b"}


def test_an_arrow_leads_from_a_send_to_whoever_uses_it_first() -> None:
    start, end = (next(e for e in trace_events(TIMELINE) if e["ph"] == ph) for ph in "sf")
    assert (start["pid"], start["tid"], start["ts"]) == ("a", 1, 1e6)
    assert (end["pid"], end["tid"], end["id"]) == ("b", 0, start["id"])
    waited = Timeline([*TIMELINE.events[:2], Event("b", Recv("x", "a", 1), 0.0, 1.5), TIMELINE.events[2]])
    assert next(e for e in trace_events(waited) if e["ph"] == "f")["tid"] == 2


def test_a_step_is_traced_as_predicted_and_as_measured(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    step = tp.compile(model, loss_fn=F.mse_loss, microbatches=2, topology="local:2", solver="balanced")
    step(torch.randn(4, 8), torch.randn(4, 8))
    predicted = tp.plans(step)[0].timeline
    assert predicted is not None
    tp.save_trace(tmp_path / "t.json", {"predicted": predicted, "measured": step.timeline})
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    runs = [(e["pid"].split()[0], e["name"]) for e in events if e.get("cat") == "run"]
    assert sorted(n for w, n in runs if w == "predicted") == sorted(n for w, n in runs if w == "measured") != []


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot write the trace"):
        tp.save_trace(tmp_path / "nowhere" / "t.json", TIMELINE)
