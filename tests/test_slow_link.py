"""Two hosts on one machine, with a slow link between them: made, slowed down, and removed whatever happens."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks._netns import LIMITS, Host, hosts, lacking, limit, run

needed = lacking()
pytestmark = pytest.mark.skipif(needed is not None, reason=str(needed))


def there(host: Host) -> bool:
    return host.namespace in run("ip", "netns", "list")


def slow_down_and_fail(met: list[Host]) -> None:
    with hosts() as pair:
        met += pair
        assert all(there(host) for host in pair)
        for rate, nbytes in LIMITS.items():
            limit(pair, rate)
            for host in pair:
                shown = run(*host.command("tc", "qdisc", "show", "dev", host.interface))
                assert ("tbf" in shown) == (nbytes is not None), rate
        raise ZeroDivisionError


def test_a_link_is_limited_and_everything_is_removed_behind_a_failure() -> None:
    met: list[Host] = []
    with pytest.raises(ZeroDivisionError):
        slow_down_and_fail(met)
    assert len(met) == 2
    assert not any(there(host) for host in met)


def test_what_is_lacking_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "sudo" in str(lacking())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "iproute2" in str(lacking())
