"""`torchplace plan` as a user types it: what it saves, and one clear message for each mistake."""

from __future__ import annotations

import pytest

from tests.cli.typed import Run, assert_one_message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model.py:build", "--topology", "bad.yaml"], ["bad.yaml", "devices"]),
        (["model.py:build", "--topology", "missing.yaml"], ["missing.yaml"]),
        (["model.py:build", "--solver", "magic"], ["magic", "heft", "balanced"]),
        (["model.py:nothing"], ["nothing"]),
        (["nowhere.py:build"], ["nowhere.py"]),
        (["no.such.module:build"], ["no.such.module"]),
        (["syntax.py:build"], ["syntax.py"]),
        (["model.py"], ["model.py", "callable"]),
        (["model.py:broken"], ["no such data"]),
        (["model.py:three"], ["(model, args)"]),
        (["model.py:huge", "--topology", "big-sur"], ["gpu:0", "GiB"]),
        (["model.py:build", "--pins", "nonsense"], ["PATTERN=DEVICE"]),
    ],
)
def test_mistakes(torchplace: Run, arguments: list[str], words: list[str]) -> None:
    assert_one_message(torchplace("plan", *arguments), *words)
