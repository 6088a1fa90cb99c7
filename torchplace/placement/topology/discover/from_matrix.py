"""From a saved `nvidia-smi topo -m` to a topology, with what the matrix does not say given or taken as nominal."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from torchplace.errors import OptionError, TopologyError
from torchplace.placement.topology import gpus
from torchplace.placement.topology.checks import did_you_mean
from torchplace.placement.topology.discover.assemble import assemble
from torchplace.placement.topology.discover.levels import CODES, NAMES, Groups, Level, completed
from torchplace.placement.topology.discover.matrix import Matrix, parse
from torchplace.placement.topology.discover.survey import Card, Survey, split_nvlinks
from torchplace.placement.topology.gpus import GpuModel
from torchplace.placement.topology.parts.pcie import Pcie
from torchplace.placement.topology.parts.sockets import CPUS
from torchplace.placement.topology.topology import Topology

SUFFIXES = (".txt",)
"""How the names of files with a matrix end."""

_CPU_OF = {3: "skylake", 4: "epyc", 5: "sapphire-rapids", 6: "emerald-rapids"}


def load_matrix(
    path: str | os.PathLike[str], gpu: str | None = None, pcie: str | None = None, cpu: str | None = None
) -> Topology:
    """The machine whose matrix a file has; the arguments are those of `read_matrix`.

    Raises:
        TopologyError: the file cannot be read, or is no such matrix; names the file and the line.
        OptionError: an argument has a value that it cannot have.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise TopologyError(f"matrix {path}: cannot be read: {error.strerror or error}") from None
    return read_matrix(text, gpu, pcie, cpu, path.stem, f"matrix {path}")


def read_matrix(
    text: str,
    gpu: str | None = None,
    pcie: str | None = None,
    cpu: str | None = None,
    name: str = "matrix",
    where: str = "matrix",
) -> Topology:
    """The machine of which `nvidia-smi topo -m` printed `text`.

    The matrix says how GPUs and NICs are joined, not what they are. NICs stay in the topology, joined to nothing but
    their slots.

    Args:
        text: what it printed.
        gpu: the GPUs' model, a kind such as "v100-sxm2-16gb", or one for each GPU with commas between. None for those
            that lines of `nvidia-smi -L` in the text name, or else nominal figures, with a warning.
        pcie: generation, and lanes if not 16, of all slots: "4", "4x8". None for what the GPUs are made for.
        cpu: the CPU, which the bandwidth between sockets depends on (`parts.sockets.CPUS`). None for one of the age of
            the PCIe generation.
        name: of the topology.
        where: what errors call the text.

    Raises:
        TopologyError: the text is no such matrix, or contradicts itself or the GPUs' model; names the line.
        OptionError: an argument has a value that it cannot have.
    """
    if cpu is not None and cpu not in CPUS:
        raise OptionError(f"cpu is {cpu!r}{did_you_mean(cpu, CPUS)}; expected one of {', '.join(CPUS)}")
    slot = Pcie.parse(pcie) if pcie is not None else None
    matrix = parse(text, where)
    cards = _cards(matrix, gpu, slot, where)
    nearest = _CPU_OF.get(max(card.pcie.generation for card in cards), "skylake")
    return assemble(_survey(matrix, cards, cpu or nearest, name, where))


def _cards(matrix: Matrix, gpu: str | None, slot: Pcie | None, where: str) -> tuple[Card, ...]:
    return tuple(
        Card(_name(old), model, old.replace("GPU", "cuda:"), slot or model.pcie)
        for old, model in zip(matrix.gpus, _models(gpu, matrix, where), strict=True)
    )


def _name(column: str) -> str:
    """The name in a topology of what a column is about: "gpu:0" for "GPU0"; NICs keep theirs."""
    return column.replace("GPU", "gpu:") if column.startswith("GPU") else column


def _survey(matrix: Matrix, cards: tuple[Card, ...], cpu: str, name: str, where: str) -> Survey:
    _require_sense(matrix, where)
    codes = {(_name(one), _name(other)): code for (one, other), code in matrix.codes.items()}
    counts = {pair: int(code.removeprefix("NV")) for pair, code in codes.items() if code.startswith("NV")}
    try:
        bonded, switched = split_nvlinks(cards, counts)
    except TopologyError as error:
        raise TopologyError(f"{where}: {error}") from None
    levels = {pair: CODES[code] for pair, code in codes.items() if code in CODES}
    affinity = {_name(old): cpus for old, cpus in matrix.affinity.items()}
    levels = completed([*(card.name for card in cards), *matrix.nics], levels, counts, affinity)
    return Survey(name, cards, levels, matrix.nics, bonded, switched, cpu)


def _models(gpu: str | None, matrix: Matrix, where: str) -> list[GpuModel]:
    cards = matrix.gpus
    if gpu is None and matrix.models.keys() >= set(cards):
        return [gpus.find(matrix.models[card]) for card in cards]
    if gpu is None:
        warnings.warn(
            f"{where} does not say which GPUs these are: nominal figures stand in for them (10 TFLOP/s, 500 GB/s,"
            " 16 GB, PCIe 3); give --gpu KIND, or gpu=KIND, such as v100-sxm2-16gb, or put what nvidia-smi -L prints"
            " above the matrix",
            stacklevel=3,
        )
        return [gpus.stand_in("gpu")] * len(cards)
    kinds = [kind.strip() for kind in gpu.split(",")]
    if len(kinds) not in (1, len(cards)):
        raise OptionError(f"gpu is {gpu!r}, {len(kinds)} models; expected one, or one for each of {len(cards)} GPUs")
    return [gpus.gpu(kind) for kind in kinds] * (len(cards) if len(kinds) == 1 else 1)


def _require_sense(matrix: Matrix, where: str) -> None:
    levels = {pair: CODES[code] for pair, code in matrix.codes.items() if code in CODES}
    wrong = Groups([*matrix.gpus, *matrix.nics], levels).contradiction()
    if wrong is None:
        return
    one, other = wrong
    level = levels[wrong]
    raise TopologyError(
        f"{where}: line {matrix.lines.get(one, matrix.lines.get(other))}: {one} and {other} are {NAMES[level]},"
        f" but others join them that are {NAMES[Level(level - 1)]} or nearer to both"
    )
