"""Two hosts on one machine: network namespaces, joined by a veth pair whose rate can be limited."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

ADDRESSES = ("10.213.77.1", "10.213.77.2")
LIMITS = {"100mbit": 100e6 / 8, "1gbit": 1e9 / 8, "unlimited": None}
"""Rates by name, as tc has them, in bytes/s."""


def lacking() -> str | None:
    """What two hosts cannot be made without, and how to get it; None where all is here."""
    if not sys.platform.startswith("linux"):
        return f"needs Linux, this is {sys.platform}"
    missing = [tool for tool in ("ip", "tc") if shutil.which(tool) is None]
    if missing:
        return f"needs {' and '.join(missing)} of iproute2 (Debian and Ubuntu: apt-get install iproute2)"
    if os.geteuid() != 0:
        return "needs root, to make network namespaces: sudo python -m benchmarks.slow_link"
    name = f"torchplace-{os.getpid()}-try"
    try:
        _ip("netns", "add", name)
    except RuntimeError as error:
        return f"cannot make network namespaces here, a container may lack the right to (CAP_SYS_ADMIN): {error}"
    _ip("netns", "del", name)
    return None


def run(*command: str) -> str:
    """Run a command; returns what it prints.

    Raises:
        RuntimeError: it failed; says what it printed.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {' '.join((done.stderr or done.stdout).split())}")
    return done.stdout


def _ip(*arguments: str) -> str:
    return run("ip", *arguments)


@dataclass(frozen=True)
class Host:
    """One of the two: a namespace with one interface.

    Attributes:
        namespace: its name.
        interface: name of its end of the veth pair.
        address: IPv4.
    """

    namespace: str
    interface: str
    address: str

    def command(self, *command: str) -> list[str]:
        """A command as it is run on this host."""
        return ["ip", "netns", "exec", self.namespace, *command]


@contextlib.contextmanager
def hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts with a link between them; removed behind it, whatever happens, a SIGTERM included.

    Their TCP controls congestion as Reno did, which every kernel has: what a sender that models its path (BBR) makes of
    a link that has no rate of its own differs from minute to minute.
    """
    pid = os.getpid()
    pair = tuple(Host(f"torchplace-{pid}-{i}", f"tp{pid % 10**7}{'ab'[i]}", ADDRESSES[i]) for i in range(2))
    with _terminated_as_interrupted():
        try:
            for host in pair:
                _ip("netns", "add", host.namespace)
            one, other = pair
            _ip("link", "add", one.interface, "type", "veth", "peer", "name", other.interface)
            for host in pair:
                _plug_in(host)
            yield one, other
        finally:
            _remove(pair)


def _plug_in(host: Host) -> None:
    _ip("link", "set", host.interface, "netns", host.namespace)
    _ip("-n", host.namespace, "address", "add", f"{host.address}/30", "dev", host.interface)
    for interface in ("lo", host.interface):
        _ip("-n", host.namespace, "link", "set", interface, "up")
    run(*host.command("sh", "-c", "echo reno > /proc/sys/net/ipv4/tcp_congestion_control"))


def _remove(pair: Sequence[Host]) -> None:
    for host in pair:
        for command in (("link", "del", host.interface), ("netns", "del", host.namespace)):
            with contextlib.suppress(RuntimeError):  # never made, or moved into its namespace and gone with that
                _ip(*command)


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Within, a SIGTERM ends the process as Ctrl-C does: by an exception, behind which things are removed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def limit(pair: Sequence[Host], rate: str) -> None:
    """Limit what each host sends, with a token bucket as small as the rate allows.

    A full bucket lets that many bytes pass at once. It holds one packet, or what the link carries in the 64 us that a
    timer may be late; a smaller one does not reach the rate. The queue holds a second's worth, so that nothing is lost.
    """
    for host in pair:
        with contextlib.suppress(RuntimeError):  # there was no limit
            run(*host.command("tc", "qdisc", "del", "dev", host.interface, "root"))
        nbytes = LIMITS[rate]
        if nbytes is not None:
            burst = str(max(2048, round(nbytes * 64e-6)))
            way = ("dev", host.interface, "root", "tbf", "rate", rate, "burst", burst, "latency", "1s")
            run(*host.command("tc", "qdisc", "add", *way))
