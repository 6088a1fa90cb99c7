"""What is kept of a run."""

from __future__ import annotations

from pathlib import Path

from benchmarks._ratios import Result
from benchmarks.quality import Kept, ordered


def test_results_are_kept_for_the_same_time_limit_only(tmp_path: Path) -> None:
    made = Result("gpt2", "big-sur", "latency", "heft", 0.5, 0.25, "heft", 2, 1.5)
    unsolved = Result("gpt2", "big-sur", "latency", "single", None, reason="does not fit: gpu:0")
    kept = Kept(tmp_path / "results", 2.0)
    kept.add(made)
    kept.add(unsolved)
    again = Kept(tmp_path / "results", 2.0)
    assert again.get("gpt2", "big-sur", "latency", "heft") == made
    assert again.get("gpt2", "big-sur", "latency", "single") == unsolved
    assert again.get("gpt2", "big-sur", "throughput", "heft") is None
    assert Kept(tmp_path / "results", 10.0).get("gpt2", "big-sur", "latency", "heft") is None


def test_the_default_comes_last() -> None:
    assert ordered(["auto", "heft", "balanced"]) == ["heft", "balanced", "auto"]
