"""`torchplace topo`: draw a topology, discover this machine's, measure it, write it to a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from torchplace.cli.common import AsJson, Waiting, show
from torchplace.errors import OptionError
from torchplace.options import resolve_topology
from torchplace.placement.topology import files
from torchplace.placement.topology.discover import from_matrix
from torchplace.placement.topology.draw import dot_text, draw_text, matrix_text
from torchplace.placement.topology.parts.sockets import CPUS
from torchplace.placement.topology.topology import Topology
from torchplace.runtime import measure_topology

_NAME = "local, local:N, nvml, a preset, a cluster of one, or a file: YAML, JSON, .txt (or -) from nvidia-smi topo -m"


def topo(
    name: Annotated[str | None, typer.Argument(help=_NAME, show_default="local")] = None,
    export: Annotated[Path | None, typer.Option("--export", "--out", help="write it to this YAML or JSON file")] = None,
    dot: Annotated[bool, typer.Option("--dot", help="print it for Graphviz")] = False,
    full: Annotated[bool, typer.Option("--full", help="draw all of it, however large")] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="measure the devices that are here; under torchrun, one of each rank")
    ] = False,
    gpu: Annotated[str | None, typer.Option(help="of a matrix: the GPUs' model, such as v100-sxm2-16gb")] = None,
    pcie: Annotated[str | None, typer.Option(help="of a matrix: PCIe generation, and lanes if not 16: 4, 4x8")] = None,
    cpu: Annotated[str | None, typer.Option(help=f"of a matrix: {', '.join(CPUS)}")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw a topology: as a tree and as the matrix of nvidia-smi topo -m."""
    if dot and as_json:
        raise OptionError("--dot and --json were both given; give one of them")
    if export is not None and export.suffix.lower() not in files.SUFFIXES:
        raise OptionError(f"--export {str(export)!r}: expected a name that ends in {', '.join(files.SUFFIXES)}")
    if measure:
        # Under torchrun each rank is a device, so there is a topology to be told of only where one was given.
        found = _measured(None if name is None else _found(name, gpu, pcie, cpu))
        if not measure_topology.writes():
            return
    else:
        found = _found(name or "local", gpu, pcie, cpu)
    if as_json:
        show(found.to_dict())
    else:
        show(dot_text(found).rstrip() if dot else f"{draw_text(found, full)}\n\n{matrix_text(found, full)}")
    if export is not None:
        found.save(export)


def _found(name: str, gpu: str | None, pcie: str | None, cpu: str | None) -> Topology:
    if name == "-":
        return from_matrix.read_matrix(sys.stdin.read(), gpu, pcie, cpu, where="standard input")
    if name.lower().endswith(from_matrix.SUFFIXES):
        return from_matrix.load_matrix(name, gpu, pcie, cpu)
    given = [option for option, value in (("--gpu", gpu), ("--pcie", pcie), ("--cpu", cpu)) if value is not None]
    if given:
        raise OptionError(f"{given[0]} is for what nvidia-smi topo -m printed, a .txt file or -; not for {name!r}")
    return resolve_topology(name)


def _measured(topology: Topology | None) -> Topology:
    with Waiting("measuring") as waiting:
        return measure_topology.measure(topology, lambda what, share: waiting.note(f"{what} ({share:.0%})"))
