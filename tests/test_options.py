"""Options and targets: one clear message for each mistake."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.placement.plans import plan_of
from torchplace.errors import OptionError, TorchplaceError
from torchplace.options import Options
from torchplace.placement.report.units import bytes_text, duration_text, ratio_text
from torchplace.targets import load_target


def test_a_near_name_is_suggested() -> None:
    with pytest.raises(OptionError, match="did you mean 'topology'"):
        Options.of({"topolgy": "big-sur"})


def test_the_default_time_limit_is_the_callers() -> None:
    assert Options.of({"topology": "big-sur"}).request(3.0).time_limit == 3.0
    assert Options.of({"topology": "big-sur", "time_limit": 7}).request(3.0).time_limit == 7


def test_an_optimizer_is_a_kind_a_class_or_an_instance(tmp_path: Path) -> None:
    instance = torch.optim.SGD([torch.ones(1)])
    for given in ("AdamW", torch.optim.Adam, instance, None):
        assert Options.of({"topology": "big-sur", "optimizer": given}).request(1.0).optimizer is given
    with pytest.raises(OptionError, match="optimizer is 'adamm'; did you mean 'adam'"):
        Options.of({"optimizer": "adamm"})


@pytest.mark.parametrize(
    ("of_plan", "given", "taken"), [("adam", None, "adam"), ("adam", "sgd", "sgd"), ("Lion", None, None)]
)
def test_a_plan_s_optimizer_counts_where_none_is_given(of_plan: str, given: str | None, taken: str | None) -> None:
    plan = dataclasses.replace(plan_of(), optimizer=of_plan)
    assert Options.of({"plan": plan, "optimizer": given}).request(1.0, plan).optimizer == taken


def test_hints_are_groups_of_patterns_and_lists_of_devices() -> None:
    given = {"together": ["h.1", ["wte", "head"]], "forbid": {"h.2": "gpu:0", "h.*": ["gpu:1", "gpu:2"]}}
    request = Options.of({"topology": "big-sur", **given}).request(1.0)
    assert list(request.together) == [("h.1",), ("wte", "head")]
    assert request.forbid == {"h.2": ("gpu:0",), "h.*": ("gpu:1", "gpu:2")}
    plain = Options.of({"topology": "big-sur"}).request(1.0)
    assert (list(plain.together), plain.forbid) == ([], {})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"together": "h.1"}, "together is 'h.1'; expected a list of groups, each a pattern or a list of patterns"),
        ({"together": {"h.1": "h.2"}}, "together is .*; expected a list"),
        ({"together": [["h.1", 3]]}, r"together is \[\['h.1', 3\]\]"),
        ({"together": [[]]}, "together is"),
        ({"together": [""]}, "together is"),
        ({"forbid": ["h.1"]}, r"forbid is \['h.1'\]; expected a mapping from an op or module pattern to a device"),
        ({"forbid": {"h.1": []}}, "forbid is"),
        ({"forbid": {"h.1": 0}}, "forbid is"),
    ],
)
def test_hints_of_another_form(given: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Options.of(given)


def test_a_missing_plan_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TorchplaceError, match=r"none\.json"):
        Options.of({"plan": tmp_path / "none.json"}).loaded_plan()


def test_targets_give_model_args_and_kwargs(tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("VALUE = 3\n")
    code = "import neighbour\n\ndef build():\n    return abs, (neighbour.VALUE,), {'k': 1}\n"
    (tmp_path / "mine.py").write_text(code)
    assert load_target(f"{tmp_path}/mine.py:build") == (abs, (3,), {"k": 1})
    with pytest.raises(OptionError, match="no callable 'other'"):
        load_target(f"{tmp_path}/mine.py:other")
    with pytest.raises(OptionError, match="expected 'package"):
        load_target("mine")


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.5, "2.5 s"), (0.0123, "12.3 ms"), (4.2e-6, "4.2 us"), (0.0, "0 us"), (5000.0, "5000 s")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_bytes_and_ratios() -> None:
    assert [bytes_text(n) for n in (0, 1023, 1024, 3 * 2**29, 2**40)] == [
        "0 B",
        "1023 B",
        "1.00 KiB",
        "1.50 GiB",
        "1.00 TiB",
    ]
    assert ratio_text(1, 3) == "33.3%"
    assert ratio_text(1, 0) == "-"
