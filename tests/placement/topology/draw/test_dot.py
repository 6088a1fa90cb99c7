"""What is written for Graphviz is read back by a parser of its language that is not ours."""

from __future__ import annotations

import pydot
import pytest

from torchplace.placement.topology import Device, Link, Switch, Topology, both_ways, dot_text
from torchplace.placement.topology.presets import PRESETS, preset

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning:pydot")  # of its parser's library


def read(topology: Topology) -> pydot.Dot:
    graphs = pydot.graph_from_dot_data(dot_text(topology))
    assert graphs is not None
    (graph,) = graphs
    return graph


def nodes(graph: pydot.Graph) -> dict[str, pydot.Node]:
    found = {
        node.get_name().strip('"'): node
        for node in graph.get_nodes()
        if node.get_name() not in ("graph", "node", "edge")
    }
    for below in graph.get_subgraphs():
        found |= nodes(below)
    return found


@pytest.mark.parametrize("name", [*PRESETS, "dgx1-v100*2@edr100"])
def test_nodes_and_links_are_those_of_the_topology(name: str) -> None:
    machine = preset(name)
    graph = read(machine)
    assert set(nodes(graph)) == {*machine.device_names, *(switch.name for switch in machine.switches)}
    ends = [frozenset(end.strip('"') for end in (e.get_source(), e.get_destination())) for e in graph.get_edges()]
    assert len(ends) == len(set(ends))
    assert set(ends) == {frozenset((link.source, link.target)) for link in machine.links}


def test_boxes_are_clusters() -> None:
    graph = read(preset("big-sur*3@10gbe"))
    assert [below.get_label().strip('"') for below in graph.get_subgraphs()] == ["node0", "node1", "node2"]
    assert [below.get_name().strip('"')[:8] for below in graph.get_subgraphs()] == ["cluster_"] * 3
    assert "network" in {node.get_name().strip('"') for node in graph.get_nodes()}


def test_labels_say_what_it_is_and_how_fast() -> None:
    text = dot_text(preset("dgx1-v100"))
    assert '"gpu:0" [label="gpu:0\\nv100-sxm2-16gb\\n16 GiB"' in text
    assert '"gpu:0" -- "gpu:3" [label="nvlink2-x2\\n47.9 GB/s"' in text


def test_directions_that_differ_are_two_arrows_and_odd_names_are_quoted() -> None:
    odd = 'a "quoted" \\ kind\nof two lines'
    links = (*both_ways("a", "s", odd, 1e9, 0), Link("b", "s", "up", 1e9, 0), Link("s", "b", "down", 2e9, 0))
    devices = (Device("a", odd, 1, {"float32": 1}, 1, 0), Device("b", "toy", 1, {"float32": 1}, 1, 0))
    graph = read(Topology(odd, devices, (Switch("s", odd),), links))
    assert set(nodes(graph)) == {"a", "b", "s"}
    arrows = [edge for edge in graph.get_edges() if edge.get_dir() == "forward"]
    assert len(graph.get_edges()) == 3
    assert len(arrows) == 2
