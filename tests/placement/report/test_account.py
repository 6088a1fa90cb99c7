"""Where time goes, worked out by hand; and that all of it goes somewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compiler.graphs import DEVICES, placed
from tests.placement.test_simulate_exactly import Asking, Move, moves, networks, traffic
from tests.placement.written import hosted, line, ops, program
from torchplace.compiler.instructions import Recv, Run, Send
from torchplace.compiler.lower import lower
from torchplace.compiler.program import Program
from torchplace.errors import ProgramError
from torchplace.placement.report.account import Account, Split, step_account
from torchplace.placement.simulate import simulate
from torchplace.placement.timeline import Event, Timeline
from torchplace.placement.topology import Host, Topology

PAIR = program(
    "ab",
    {"x": 4, "y": 8, "z": 1},
    {"x": "a"},
    {"a": ["run f (%x) -> %y", "send %y to b"], "b": ["recv %y from a", "run g (%y) -> %z"]},
)
F, SEND = Run("f", ("x",), ("y",)), Send("y", "b")
RECV, G = Recv("y", "a"), Run("g", ("y",), ("z",))


def predicted(made: Program, topology: Topology, **seconds: float) -> Account:
    graph, cost = ops(**seconds)
    return Account(made, simulate(made, graph, topology, cost), measured=False)


def test_a_pair_and_a_transfer() -> None:
    """f till 3, 8 bytes and 0.5 s till 11.5, g till 16.5."""
    account = predicted(PAIR, line("ab"), f=3.0, g=5.0)
    assert (account.begin, account.end) == (0.0, 16.5)
    assert account.devices == {
        "a": Split(compute=3.0, waiting=13.5),
        "b": Split(compute=5.0, waiting=3.0, transfer=8.5),
    }
    assert account.path == Split(compute=8.0, transfer=8.5)


def test_the_host_between_instructions() -> None:
    """1 s for each segment is a part of it; the send begins 2 s after f's end."""
    account = predicted(PAIR, hosted(line("ab"), instruction=1.0, send=2.0), f=3.0, g=5.0)
    assert account.devices["b"] == Split(compute=6.0, waiting=6.0, transfer=8.5)
    assert account.path == Split(compute=10.0, transfer=8.5, host=2.0)


def test_a_transfer_behind_another_waits_on_the_critical_path() -> None:
    """x goes from 0 to 10, and y, which was there at 1, from 10 to 14 and a half."""
    steps = {
        "a": ["send %x to b", "run f () -> %y", "send %y to b"],
        "b": ["recv %x from a", "recv %y from a", "run g (%y) -> %z"],
    }
    account = predicted(program("ab", {"x": 10, "y": 4, "z": 1}, {"x": "a"}, steps), line("ab"), f=1.0, g=2.0)
    assert account.path == Split(compute=3.0, waiting=9.0, transfer=4.5)
    assert account.devices["b"] == Split(compute=2.0, waiting=10.0, transfer=4.5)


def test_what_arrives_while_a_device_works_costs_nothing() -> None:
    steps = {
        "a": ["run f () -> %y", "send %y to b"],
        "b": ["recv %y from a", "run own () -> %o", "run g (%y, %o) -> %z"],
    }
    account = predicted(program("ab", {"y": 2, "o": 1, "z": 1}, {}, steps), line("ab"), f=1.0, own=9.0, g=1.0)
    assert account.devices["b"] == Split(compute=10.0)
    assert account.path == Split(compute=10.0)


def test_a_program_may_end_with_a_transfer() -> None:
    steps = {"a": ["run f () -> %y", "send %y to b"], "b": ["recv %y from a"]}
    account = predicted(program("ab", {"y": 2}, {}, steps), line("ab"), f=1.0)
    assert account.path == Split(compute=1.0, transfer=2.5)
    assert account.devices["b"] == Split(waiting=1.0, transfer=2.5)


def test_whoever_comes_first_to_a_collective_waits() -> None:
    steps = {
        "a": ["run f () -> %x", "reduce %x by sum over a, b"],
        "b": ["run h () -> %x", "reduce %x by sum over a, b"],
    }
    account = predicted(program("ab", {"x": 4}, {}, steps), line("ab"), f=3.0, h=1.0)
    assert account.devices == {
        "a": Split(compute=3.0, transfer=5.0),
        "b": Split(compute=1.0, waiting=2.0, transfer=5.0),
    }


def measured(*events: tuple[str, object, float, float]) -> Timeline:
    return Timeline([Event(*event) for event in events])  # type: ignore[arg-type]


def test_a_measured_pair() -> None:
    """b waits from 0.5 on; a hands over from 3.25 to 3.5, b has it at 4, and begins at 4.25."""
    timeline = measured(
        ("a", F, 0.25, 3.0), ("b", RECV, 0.5, 4.0), ("a", SEND, 3.25, 3.5), ("b", G, 4.25, 9.25)
    )  # fmt: skip
    account = Account(PAIR, timeline, measured=True)
    assert (account.begin, account.end) == (0.25, 9.25)
    assert account.devices == {
        "a": Split(compute=2.75, host=0.5, waiting=5.75),
        "b": Split(compute=5.0, waiting=3.0, transfer=0.75, host=0.25),
    }
    assert account.path == Split(compute=7.75, transfer=0.75, host=0.5)


def test_a_value_that_was_there_is_not_waited_for() -> None:
    """b was late itself: it takes up at 6 what was handed over at 3.5."""
    timeline = measured(("a", F, 0.0, 3.0), ("a", SEND, 3.0, 3.5), ("b", RECV, 6.0, 6.25), ("b", G, 6.25, 9.25))
    account = Account(PAIR, timeline, measured=True)
    assert account.devices["b"] == Split(compute=3.0, host=6.25)
    assert account.path == Split(compute=3.0, host=6.25)


@pytest.mark.parametrize(
    ("timeline", "message"),
    [
        (measured(("a", F, 0.0, 3.0)), "on a, it has nothing for 'send %y to b'"),
        (measured(("a", SEND, 3.0, 3.5), ("b", G, 4.0, 5.0)), "on a, it has 'send %y to b' for 'run f (%x) -> %y'"),
        (
            measured(("a", F, 0.0, 3.0), ("a", SEND, 3.0, 3.5), ("b", G, 4.0, 5.0), ("b", G, 5.0, 6.0)),
            "'run g (%y) -> %z' on b is left",
        ),
    ],
)
def test_a_timeline_of_another_program(timeline: Timeline, message: str) -> None:
    with pytest.raises(ProgramError) as raised:
        Account(PAIR, timeline, measured=True)
    assert "the timeline is of another program" in str(raised.value)
    assert message in str(raised.value)


def test_a_step_of_two_programs_and_the_host_around_them() -> None:
    account = predicted(PAIR, line("ab"), f=3.0, g=5.0)
    alone = program("abc", {"x": 1, "y": 1}, {"x": "c"}, {"a": [], "b": [], "c": ["run f (%x) -> %y"]})
    other = predicted(alone, line("abc"), f=2.0)
    devices, path = step_account([account, other], 20.0)
    assert devices == {
        "a": Split(compute=3.0, waiting=15.5, host=1.5),
        "b": Split(compute=5.0, waiting=5.0, transfer=8.5, host=1.5),
        "c": Split(compute=2.0, waiting=16.5, host=1.5),
    }
    assert path == Split(compute=10.0, transfer=8.5, host=1.5)


def test_nothing_that_ran() -> None:
    account = Account(Program("empty", ("a",)), Timeline(), measured=True)
    assert (account.path, account.devices) == (Split(), {"a": Split()})


def all_adds_up(account: Account, timeline: Timeline) -> None:
    whole = account.end - account.begin
    assert account.end == max((e.end for e in timeline.events), default=0.0)
    for split in (account.path, *account.devices.values()):
        assert split.total == pytest.approx(whole, rel=1e-9, abs=1e-9)
        assert min(split.compute, split.transfer, split.waiting, split.host) >= -1e-9
    for device, split in account.devices.items():
        assert split.compute == pytest.approx(timeline.busy(device) + _updates(timeline, device), abs=1e-9)


def _updates(timeline: Timeline, device: str) -> float:
    return sum(e.end - e.start for e in timeline.of(device) if type(e.instruction).__name__ == "Update")


hosts = st.sampled_from([Host(), Host(1.0, 0.25, 0.5, 0.25, 0.125, 0.5, 2.0)])


@settings(deadline=None)
@given(placed(), networks(), hosts, st.data())
def test_all_time_of_a_lowered_program_goes_somewhere(
    case: tuple, topology: Topology, host: Host, data: st.DataObject
) -> None:
    graph, _, placement, owners = case
    cost = Asking({op.name: data.draw(st.sampled_from([0.0, 0.5, 3.0])) for op in graph.ops})
    made = lower(graph, placement, DEVICES, owners)
    timeline = simulate(made, graph, replace(topology, host=host), cost)
    all_adds_up(Account(made, timeline, measured=False), timeline)


@settings(deadline=None)
@given(moves, networks(), hosts)
def test_all_time_of_traffic_goes_somewhere(given_moves: list[Move], topology: Topology, host: Host) -> None:
    made, graph, cost = traffic(given_moves)
    timeline = simulate(made, graph, replace(topology, host=host), cost)
    all_adds_up(Account(made, timeline, measured=False), timeline)
