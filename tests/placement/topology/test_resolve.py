from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
import torch

from torchplace.errors import OptionError, TopologyError
from torchplace.placement.topology import Topology
from torchplace.placement.topology.presets import PRESETS, preset


@pytest.fixture(autouse=True)
def cpus_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)


def test_what_an_option_may_be(tmp_path: Path) -> None:
    assert Topology.resolve() == Topology.resolve(None) == Topology.resolve("local") == Topology.local(2)
    assert Topology.resolve("local:3") == Topology.local(3)
    machine = preset("big-sur")
    assert Topology.resolve(machine) is machine
    assert all(Topology.resolve(name) is preset(name) for name in PRESETS)
    path = tmp_path / "box.yaml"
    machine.save(path)
    assert Topology.resolve(path) == Topology.resolve(str(path)) == machine


def test_clusters_are_told_from_files_with_such_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Topology.resolve("big-sur*2@10gbe") is preset("big-sur*2@10gbe")
    monkeypatch.chdir(tmp_path)
    preset("big-sur").save("two*big@home.json")
    assert Topology.resolve("two*big@home.json") == preset("big-sur")


def test_a_file_in_this_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    preset("big-sur").save("box.json")
    assert Topology.resolve("box.json") == preset("big-sur")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dgx1-v10", "no topology 'dgx1-v10'; did you mean 'dgx1-v100'? (presets: big-sur, big-sur-single-root, "),
        ("bigsur", "did you mean 'big-sur'?"),
        ("locl", "did you mean 'local'?"),
        ("zzzz", "no topology 'zzzz' (presets: big-sur, "),
        ("zzzz", "or a cluster of one, such as dgx-h100*16@ndr400; or local:N, or nvml, or a file that ends in .yaml"),
        ("dgx-h100*2*2", "cluster 'dgx-h100*2*2': expected PRESET*N"),
        ("", "no topology ''"),
        ("nowhere.yaml", "topology file nowhere.yaml: cannot be read"),
        ("some/where", "topology file some/where: the suffix is ''"),
    ],
)
def test_unknown_names(name: str, expected: str) -> None:
    with pytest.raises(TopologyError) as caught:
        Topology.resolve(name)
    assert expected in str(caught.value)


@pytest.mark.parametrize("name", ["local:", "local:0", "local:-1", "local:two", "local:2.0", "local:²"])
def test_counts_of_local_devices(name: str) -> None:
    with pytest.raises(OptionError, match="expected 'local:' and a whole number above 0"):
        Topology.resolve(name)


@pytest.mark.parametrize("what", [3, 1.5, ["big-sur"], object])
def test_other_types(what: object) -> None:
    with pytest.raises(OptionError, match=r"topology is .* expected a Topology, a preset"):
        Topology.resolve(what)


@pytest.mark.parametrize(
    "source", sorted(Path(inspect.getfile(Topology)).parent.rglob("*.py")), ids=lambda path: path.name
)
def test_no_module_here_imports_torch_when_it_is_imported(source: Path) -> None:
    """Topologies are drawn, checked and written where torch would take seconds to load."""
    tops = ast.parse(source.read_text(encoding="utf-8")).body
    names = [alias.name for node in tops if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in tops if isinstance(node, ast.ImportFrom)]
    assert "torch" not in {name.partition(".")[0] for name in names}
