"""From what a user gives as the option `topology` to a topology."""

from __future__ import annotations

import os

from torchplace.errors import OptionError, TopologyError
from torchplace.placement.topology import files, local, presets
from torchplace.placement.topology.checks import did_you_mean
from torchplace.placement.topology.discover import from_matrix, nvml
from torchplace.placement.topology.topology import Topology

SUFFIXES = (*files.SUFFIXES, *from_matrix.SUFFIXES)
"""How the names of files end that a topology can be read from."""


def resolve(what: object = None) -> Topology:
    """The topology that an option means.

    Args:
        what: None or "local" (this machine, 2 devices), "local:3" (3 devices), "nvml" (all NVIDIA GPUs of this
            machine), a `Topology`, a preset's name, a cluster of one ("dgx-h100*16@ndr400"), or the path of a file.
            Text is a path when it ends as a topology file does or has a path separator in it.

    Raises:
        TopologyError: no such preset, cluster or file, or the file is malformed.
        OptionError: `what` is of another type, or "local:" is followed by no whole number above 0.
    """
    if what is None:
        return local.local()
    if isinstance(what, Topology):
        return what
    if isinstance(what, str):
        return _named(what)
    if isinstance(what, os.PathLike):
        return load(what)
    raise OptionError(
        f"topology is {what!r} ({type(what).__name__}), expected a Topology, a preset, 'local:N' or a file"
    )


def _named(text: str) -> Topology:
    if text == "local":
        return local.local()
    if text.startswith("local:"):
        return _local(text)
    if text in presets.PRESETS:
        return presets.preset(text)
    if text == "nvml":
        return nvml.discover()
    if text.lower().endswith(SUFFIXES) or os.sep in text:
        return load(text)
    if presets.is_cluster(text):
        return presets.preset(text)
    known = [*presets.PRESETS, "local", "nvml"]
    raise TopologyError(
        f"no topology {text!r}{did_you_mean(text, known)} (presets: {', '.join(presets.preset_names())};"
        " or a cluster of one, such as dgx-h100*16@ndr400;"
        f" or local:N, or nvml, or a file that ends in {', '.join(SUFFIXES)})"
    )


def load(path: str | os.PathLike[str]) -> Topology:
    """The topology in a file: YAML or JSON (`files`), or a saved `nvidia-smi topo -m` (`discover.from_matrix`).

    Raises:
        TopologyError: the file cannot be read, or is malformed.
    """
    if os.fspath(path).lower().endswith(from_matrix.SUFFIXES):
        return from_matrix.load_matrix(path)
    return files.load(path)


def _local(text: str) -> Topology:
    count = text.removeprefix("local:")
    if not (count.isascii() and count.isdigit() and int(count) > 0):
        raise OptionError(f"topology is {text!r}, expected 'local:' and a whole number above 0, such as 'local:3'")
    return local.local(int(count))
