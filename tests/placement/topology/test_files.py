from __future__ import annotations

import copy
import json
import os
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from torchplace.errors import TopologyError
from torchplace.placement.topology import Device, Piece, Switch, Topology, both_ways, files
from torchplace.placement.topology.presets import PRESETS, preset

GOOD: dict[str, Any] = {
    "version": 1,
    "name": "box",
    "devices": [
        {
            "name": f"gpu:{i}",
            "kind": "m40",
            "memory": 12_000_000_000,
            "peak_flops": {"float32": 7e12},
            "memory_bandwidth": 288e9,
            "launch_overhead": 5e-6,
        }
        for i in range(2)
    ],
    "switches": [{"name": "pcie:0", "kind": "pcie-switch"}],
    "links": [
        {"source": f"gpu:{i}", "target": "pcie:0", "kind": "pcie3-x16", "bandwidth": 12e9, "latency": 3e-6,
         "both_ways": True}
        for i in range(2)
    ],
}  # fmt: skip


def write(path: Path, data: object) -> Path:
    path.write_text(json.dumps(data) if path.suffix == ".json" else yaml.safe_dump(data), encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(TopologyError) as caught:
        Topology.load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message, "one message, one line"
    return message


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".json", ".YAML"])
@pytest.mark.parametrize("name", PRESETS)
def test_round_trip(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"machine{suffix}"
    preset(name).save(path)
    assert Topology.load(str(path)) == preset(name)
    assert Topology.load(path).digest == preset(name).digest


positive = st.floats(min_value=1e-300, max_value=1e300)
names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.:/@+-]{0,6}", fullmatch=True)
texts = st.text(min_size=1, max_size=8).filter(str.strip)


pieces = st.builds(
    lambda starts, latency, bandwidth: tuple(Piece(start, latency, bandwidth) for start in sorted(starts)),
    st.sets(st.integers(0, 1 << 40), max_size=3),
    st.just(0.0) | positive,
    positive,
)


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    first, *others = draw(st.lists(names, min_size=2, max_size=5, unique=True))
    devices = tuple(
        Device(
            name=name,
            kind=draw(texts),
            memory=draw(st.integers(1, 1 << 60)),
            peak_flops=draw(st.dictionaries(texts, positive, min_size=1, max_size=3)),
            memory_bandwidth=draw(positive),
            launch_overhead=draw(st.just(0.0) | positive),
            torch_device=draw(st.sampled_from(["cpu", "cuda:3"])),
            threads=draw(st.none() | st.integers(1, 64)),
            peer_to_peer=draw(st.booleans()),
        )
        for name in others
    )
    links = [both_ways(name, first, draw(texts), draw(positive), draw(positive)) for name in others]
    flat = tuple(replace(link, pieces=draw(pieces)) for pair in links for link in pair)
    kind = draw(texts) if all(device.peer_to_peer for device in devices) else "host-memory"
    return Topology(draw(texts), devices, (Switch(first, kind),), flat)


@settings(max_examples=25, deadline=None)
@given(topologies(), st.sampled_from(files.SUFFIXES))
def test_any_topology_round_trips(tmp_path_factory: pytest.TempPathFactory, topology: Topology, suffix: str) -> None:
    path = tmp_path_factory.mktemp("t") / f"t{suffix}"
    topology.save(path)
    assert Topology.load(path) == topology
    assert Topology.from_dict(json.loads(json.dumps(topology.to_dict()))) == topology


def test_a_file_by_hand(tmp_path: Path) -> None:
    """What people write: 12e9 (text to YAML 1.1), flow style, comments, fields left out, both_ways."""
    path = tmp_path / "hand.yaml"
    path.write_text(
        "name: by hand\n"
        "devices:  # two of them\n"
        "  - &gpu {name: gpu:0, kind: m40, memory: 12e9, peak_flops: {float32: 7e12},\n"
        "     memory_bandwidth: 288e9, launch_overhead: 5e-6}\n"
        "  - {<<: *gpu, name: gpu:1, torch_device: cuda:1, threads: 2}\n"
        "links:\n"
        "  - {source: gpu:0, target: gpu:1, kind: wire, bandwidth: 12e9, latency: 0, both_ways: true}\n",
        encoding="utf-8",
    )
    topology = Topology.load(path)
    assert topology.device("gpu:0").memory == 12_000_000_000
    assert topology.device("gpu:1").threads == 2
    assert topology.device("gpu:1").torch_device == "cuda:1"
    assert [(link.name, link.bandwidth) for link in topology.links] == [
        ("gpu:0->gpu:1", 12e9),
        ("gpu:1->gpu:0", 12e9),
    ]


def at(data: dict[str, Any], *path: str | int) -> Any:
    for step in path:
        data = data[step]  # type: ignore[index]
    return data


def put(*path: Any) -> Callable[[dict[str, Any]], None]:
    """Sets the value (last) at a path."""
    *way, last, value = path
    return lambda data: at(data, *way).__setitem__(last, value)


def _piece(nbytes: object, latency: object, bandwidth: object, **more: object) -> dict[str, object]:
    return {"nbytes": nbytes, "latency": latency, "bandwidth": bandwidth, **more}


def drop(*path: str | int) -> Callable[[dict[str, Any]], None]:
    """Deletes what is at a path."""
    *way, last = path
    return lambda data: at(data, *way).__delitem__(last)


CORRUPTIONS: list[tuple[Callable[[dict[str, Any]], None], list[str]]] = [
    (drop("name"), ["name is missing, expected text"]),
    (drop("devices"), ["devices is missing, expected a list of one or more devices"]),
    (put("name", ""), ["name is ''", "expected text that is not empty"]),
    (put("name", " "), ["name is ' '"]),
    (put("name", 7), ["name is 7"]),
    (put("version", 2), ["version is 2, expected 1"]),
    (put("version", "new"), ["version is 'new', expected 1"]),
    (put("version", True), ["version is True"]),
    (put("devices", []), ["devices is [], expected a list of one or more"]),
    (put("devices", {}), ["devices is {}"]),
    (put("devices", None), ["devices is None"]),
    (put("devices", 0, "gpu"), ["devices[0] is 'gpu', expected fields name, kind, memory"]),
    (put("devices", 1, None), ["devices[1] is None, expected fields"]),
    (put("colour", "red"), ["colour is no field", "fields: version, name, devices"]),
    (put("device", []), ["device is no field; did you mean 'devices'?"]),
    (put("devices", 0, "memroy", 1), ["devices[0].memroy is no field; did you mean 'memory'?"]),
    (put("links", 1, "speed", 1), ["links[1].speed is no field", "bandwidth"]),
    (drop("devices", 1, "memory"), ["devices[1].memory is missing, expected bytes"]),
    (put("devices", 0, "memory", "lots"), ["devices[0].memory is 'lots', expected bytes, a whole number"]),
    (put("devices", 0, "memory", 0), ["devices[0].memory is 0"]),
    (put("devices", 0, "memory", -5), ["devices[0].memory is -5"]),
    (put("devices", 0, "memory", 1.5), ["devices[0].memory is 1.5"]),
    (put("devices", 0, "memory", True), ["devices[0].memory is True"]),
    (put("devices", 0, "memory", [1]), ["devices[0].memory is [1]"]),
    (put("devices", 0, "memory", "inf"), ["devices[0].memory is inf"]),
    (put("devices", 0, "memory_bandwidth", float("nan")), ["devices[0].memory_bandwidth is nan"]),
    (put("devices", 0, "memory_bandwidth", float("inf")), ["devices[0].memory_bandwidth is inf"]),
    (put("devices", 0, "launch_overhead", -1e-6), ["devices[0].launch_overhead is -1e-06, expected seconds"]),
    (put("devices", 0, "peak_flops", {}), ["devices[0].peak_flops is {}", "FLOP/s by dtype"]),
    (put("devices", 0, "peak_flops", 7e12), ["devices[0].peak_flops is 7000000000000.0"]),
    (
        put("devices", 0, "peak_flops", "float32", 0),
        ["devices[0].peak_flops.float32 is 0", "FLOP/s, a number"],
    ),
    (put("devices", 0, "peak_flops", "float16", "x"), ["devices[0].peak_flops.float16 is 'x'"]),
    (put("devices", 0, "threads", 0), ["devices[0].threads is 0"]),
    (put("devices", 0, "threads", 1.5), ["devices[0].threads is 1.5"]),
    (put("devices", 0, "peer_to_peer", "yes"), ["devices[0].peer_to_peer is 'yes', expected true or false"]),
    (put("devices", 0, "peer_to_peer", 0), ["devices[0].peer_to_peer is 0"]),
    (put("devices", 0, "peer_to_peer", False), ["no route from 'gpu:0'", "'gpu:0' cannot do peer-to-peer"]),
    (put("devices", 0, "torch_device", "GPU!"), ["device 'gpu:0': torch_device is 'GPU!'"]),
    (put("devices", 0, "name", "gpu 0"), ["device name 'gpu 0'"]),
    (put("devices", 0, "name", "gpu:1"), ["2 devices or switches are named 'gpu:1'"]),
    (put("devices", 0, "kind", 40), ["devices[0].kind is 40"]),
    (put("switches", None), ["switches is None"]),
    (put("switches", []), ["a link joins 'pcie:0', which is no device or switch"]),
    (put("switches", 0, "name", "pcie:1"), ["joins 'pcie:0'", "did you mean 'pcie:1'?"]),
    (drop("switches", 0, "kind"), ["switches[0].kind is missing"]),
    (put("links", []), ["no route from 'gpu:0' to 'gpu:1'"]),
    (put("links", 0, "both_ways", False), ["no route from 'gpu:1' to 'gpu:0'"]),
    (put("links", 0, "both_ways", "yes"), ["links[0].both_ways is 'yes', expected true or false"]),
    (put("links", 0, "both_ways", 1), ["links[0].both_ways is 1"]),
    (put("links", 0, "target", "gpu:0"), ["link gpu:0->gpu:0", "itself"]),
    (put("links", 0, "target", None), ["links[0].target is None, expected the name of a device or switch"]),
    (drop("links", 0, "source"), ["links[0].source is missing"]),
    (put("links", 0, "bandwidth", 0), ["links[0].bandwidth is 0, expected bytes/s"]),
    (put("links", 0, "bandwidth", "12 GB/s"), ["links[0].bandwidth is '12 GB/s'"]),
    (put("links", 0, "latency", None), ["links[0].latency is None"]),
    (put("links", 0, "pieces", 5), ["links[0].pieces is 5, expected a list of pieces"]),
    (put("links", 0, "pieces", [3]), ["links[0].pieces[0] is 3, expected fields nbytes, latency, bandwidth"]),
    (put("links", 0, "pieces", [{"nbytes": 0, "latency": 0}]), ["links[0].pieces[0].bandwidth is missing, expected"]),
    (put("links", 0, "pieces", [_piece(0, 0, 1, size=1)]), ["links[0].pieces[0].size is no field", "nbytes, latency"]),
    (put("links", 0, "pieces", [_piece(-1, 0, 1)]), ["pieces[0].nbytes is -1, expected bytes, a whole number, 0"]),
    (put("links", 0, "pieces", [_piece(0.5, 0, 1)]), ["pieces[0].nbytes is 0.5"]),
    (put("links", 0, "pieces", [_piece(0, "x", 1)]), ["links[0].pieces[0].latency is 'x', expected seconds, a number"]),
    (put("links", 0, "pieces", [_piece(0, 0, 0)]), ["links[0].pieces[0].bandwidth is 0, expected bytes/s, a number"]),
    (put("links", 0, "pieces", [_piece(9, -1.1, 9)]), ["link gpu:0->pcie:0: piece from 9 bytes on: latency is -1.1"]),
    (put("links", 0, "pieces", [_piece(9, 1, 9)] * 2), ["gpu:0->pcie:0: a piece from 9 bytes on stands before one"]),
    (put("links", 1, GOOD["links"][0]), ["2 links go from 'gpu:0' to 'pcie:0'"]),
]


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda case: case[1][0].replace(" ", "_"))
def test_corruptions_are_named(
    tmp_path: Path, suffix: str, corruption: tuple[Callable[[dict[str, Any]], None], list[str]]
) -> None:
    spoil, expected = corruption
    data = copy.deepcopy(GOOD)
    assert Topology.load(write(tmp_path / f"good{suffix}", data)).name == "box"
    spoil(data)
    message = refusal(write(tmp_path / f"bad{suffix}", data))
    for part in expected:
        assert part in message
    assert "pydantic" not in message


def test_every_fault_of_a_file_is_named(tmp_path: Path) -> None:
    data = copy.deepcopy(GOOD)
    data["devices"][0]["memory"] = 0
    data["links"][1]["bandwidth"] = "x"
    message = refusal(write(tmp_path / "bad.json", data))
    assert "devices[0].memory" in message
    assert "links[1].bandwidth" in message


def test_long_values_are_shortened(tmp_path: Path) -> None:
    message = refusal(write(tmp_path / "bad.json", {**GOOD, "devices": "x" * 1000}))
    assert "xxx..." in message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.yaml", "devices: [", "is not valid YAML"),
        ("a.json", "{", "is not valid JSON"),
        ("a.json", "", "is not valid JSON"),
        ("a.json", '{"name": "a", "name": "b"}', "the key 'name' is given twice"),
        ("a.yaml", "name: a\nname: b\n", "the key 'name' is given twice"),
        ("a.yaml", "devices:\n- {memory: 1, memory: 2}\n", "the key 'memory' is given twice"),
        ("a.yaml", "name: !!python/object/apply:os.getcwd []\n", "is not valid YAML"),
        ("a.yaml", "? [1, 2]\n: 3\n", "is not valid YAML"),
        ("a.yaml", "", "is None, expected fields version, name, devices"),
        ("a.json", "[]", "is [], expected fields"),
        ("a.yaml", "just text", "is 'just text', expected fields"),
        ("a.json", "[" * 100_000, "is not valid JSON"),
    ],
)
def test_text_that_is_no_topology(tmp_path: Path, name: str, text: str, expected: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert expected in refusal(path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xff\xfe\x00name")
    assert "is not valid YAML" in refusal(path)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refusal(tmp_path / "no.yaml")
    assert "the suffix is '.toml', expected .yaml, .yml, .json" in refusal(tmp_path / "no.toml")
    (tmp_path / "dir.json").mkdir()
    assert "cannot be read: Is a directory" in refusal(tmp_path / "dir.json")


def test_saving_changes_a_file_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "box.yaml"
    preset("big-sur").save(path)
    before = path.read_text(encoding="utf-8")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(TopologyError, match=r"box\.yaml: cannot be written: No space left"):
        preset("dgx1-v100").save(path)
    assert path.read_text(encoding="utf-8") == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["box.yaml"], "nothing is left over"
    monkeypatch.undo()
    preset("dgx1-v100").save(path)
    assert Topology.load(path) == preset("dgx1-v100")
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_saving_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="cannot be written: No such file or directory"):
        preset("big-sur").save(tmp_path / "no" / "box.yaml")
    with pytest.raises(TopologyError, match=r"the suffix is '\.toml', expected"):
        preset("big-sur").save(tmp_path / "box.toml")


def test_the_example_in_the_documentation_is_valid() -> None:
    example = (files.__doc__ or "").partition("::\n")[2]
    data = yaml.safe_load(example)
    both = {**data["devices"][0], "name": "gpu:1"}
    link = {**data["links"][0], "source": "gpu:1"}
    topology = Topology.from_dict({**data, "devices": [*data["devices"], both], "links": [*data["links"], link]})
    assert topology.device("gpu:0").peak("float32") == 15.7e12
    alone = Topology.from_dict(data)
    assert {key for device in data["devices"] for key in device} == set(alone.to_dict()["devices"][0])


def test_the_schema_in_the_docs_is_that_of_the_code() -> None:
    page = Path(__file__).parents[3] / "docs" / "concepts" / "topologies.md"
    schema = textwrap.dedent((files.__doc__ or "").partition("::\n\n")[2]).strip()
    assert schema
    assert schema in page.read_text(encoding="utf-8")
