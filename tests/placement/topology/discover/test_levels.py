from __future__ import annotations

import itertools

from hypothesis import given

from tests.placement.topology.discover.machines import PLACES, levels_of
from torchplace.placement.topology.discover.levels import Groups, Level, completed


@given(PLACES)
def test_a_machine_that_can_be_built_does_not_contradict_itself(places: list[tuple[int, ...]]) -> None:
    names, levels = levels_of(places)
    groups = Groups(names, levels)
    assert groups.contradiction() is None
    for (one, other), level in levels.items():
        assert groups.together(one, other, level)
        assert level is Level.SWITCH or not groups.together(one, other, Level(level - 1))
    for level in (Level.SWITCH, Level.SWITCHES, Level.BRIDGE, Level.NODE):
        parts = groups.parts(names, level)
        assert sorted(itertools.chain(*parts)) == sorted(names)


def test_a_contradiction_is_found() -> None:
    levels = {("a", "b"): Level.SWITCH, ("b", "c"): Level.SWITCH, ("a", "c"): Level.SYSTEM}
    assert Groups(["a", "b", "c"], levels).contradiction() == ("a", "c")


def test_affinities_tell_of_pairs_that_nvlinks_hide() -> None:
    names = ["a", "b", "c", "d"]
    pairs = [*itertools.combinations(names, 2)]
    affinity = {"a": "0-7", "b": "0-7", "c": "8-15"}
    found = completed(names, {}, pairs, affinity)
    assert found == {("a", "b"): Level.BRIDGE, ("a", "c"): Level.SYSTEM, ("b", "c"): Level.SYSTEM}


def test_what_is_known_outweighs_an_affinity() -> None:
    names = ["a", "b", "nic"]
    known = {("a", "nic"): Level.SWITCH, ("b", "nic"): Level.NODE}
    assert completed(names, known, [("a", "b")], {"a": "0-7", "b": "0-7"})["a", "b"] is Level.NODE
    far = {("a", "nic"): Level.SWITCH, ("b", "nic"): Level.SYSTEM}
    assert ("a", "b") not in completed(names, far, [("a", "b")], {"a": "0-7", "b": "0-7"})
