from __future__ import annotations

import pytest

from torchplace.placement.infeasible import human_bytes, nothing_fits, shortages

GIB = 2**30


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 bytes"), (1, "1 byte"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (int(52.1 * GIB), "52.1 GiB")],
)
def test_human_bytes(nbytes: int, text: str) -> None:
    assert human_bytes(nbytes) == text


def test_shortages_name_only_who_lacks() -> None:
    text = shortages({"gpu:0": 3 * GIB, "gpu:1": GIB}, {"gpu:0": GIB, "gpu:1": GIB})
    assert text == "gpu:0 lacks 2.0 GiB (needs 3.0 GiB, has 1.0 GiB)"


def test_what_needs_more_than_there_is_fits_nobody() -> None:
    error = nothing_fits({"gpu:0": 3 * GIB, "gpu:1": GIB}, {"gpu:0": GIB, "gpu:1": GIB}, "heft")
    assert str(error) == (
        "no placement fits: state and saved activations need 4.0 GiB in all, the 2 devices have 2.0 GiB; "
        "gpu:0 lacks 2.0 GiB (needs 3.0 GiB, has 1.0 GiB)"
    )


def test_what_could_fit_is_the_solvers_failure() -> None:
    error = nothing_fits({"gpu:0": 3, "gpu:1": 0}, {"gpu:0": 2, "gpu:1": 2}, "heft")
    assert str(error).startswith("solver 'heft' found no placement that fits: ")
