"""Reads the matrix that `nvidia-smi topo -m` prints, as its versions do, and as people copy it.

A header has a column for each GPU and NIC, and then columns on affinity; a row follows for each, and legends, which are
read for the names of NICs alone. Lines before the header, such as a prompt or a comment, are skipped, but for those of
`nvidia-smi -L`, which name the GPUs' models. Columns are separated by tabs or by blanks, or, where a copy lost them, by
nothing; escape codes of terminals are dropped; rows that a copy wrapped are joined. What the matrix does not say once,
its other half does; what it says twice must agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torchplace.errors import TopologyError
from torchplace.placement.topology.checks import listed
from torchplace.placement.topology.discover.levels import CODES, Pair

_ESCAPES = re.compile(r"(?:\x1b|\^\[|\N{SYMBOL FOR ESCAPE})?\[[0-9;]*m")
_CODE = re.compile(rf"X|NV[0-9]+|{'|'.join(CODES)}")
_GLUED = re.compile(rf"(?:{_CODE.pattern})+")
_GPU = re.compile(r"GPU[0-9]+")
_NAME = re.compile(r"(?:GPU|NIC)[0-9]+|(?:(?!(?:GPU|NIC)[0-9])\S)+")
_AFFINITY = re.compile(r"CPU\s*Affinity|NUMA\s*Affinity|GPU\s*NUMA\s*ID")
_CPUS = re.compile(r"[0-9]+(?:[-,][0-9]+)*")
_LEGEND = re.compile(r"(NIC[0-9]+):\s*(\S+)$")
_LISTED = re.compile(r"GPU ([0-9]+(?:,[0-9]+)*): (.+?)(?: \(UUID: .*)?")
_SAME = {"SOC": "SYS", "PSB": "PIX"}


@dataclass(frozen=True)
class Matrix:
    """What such a matrix says.

    Attributes:
        gpus: names of the GPUs, "GPU0" and so on.
        nics: names of the NICs: as the columns have them, or as the legend of NICs does.
        codes: of each pair that is known, in the order of the columns, GPUs first.
        affinity: CPUs that are near a GPU, as text.
        lines: the line of the text that a row starts on.
        models: what the driver calls a GPU, where the text has that too, as `nvidia-smi -L` prints it.
    """

    gpus: tuple[str, ...]
    nics: tuple[str, ...]
    codes: dict[Pair, str]
    affinity: dict[str, str]
    lines: dict[str, int]
    models: dict[str, str]


class _LineError(Exception):
    """Something is wrong with a line; 0 stands for the whole text."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"line {number}: {what}" if number else what)


@dataclass(frozen=True)
class _Row:
    number: int
    name: str
    codes: list[str]
    rest: list[str]


def parse(text: str, where: str = "nvidia-smi topo -m") -> Matrix:
    """Reads a matrix; `where` says in errors what the text is.

    Raises:
        TopologyError: it is none, or a line of it cannot be understood; names the line.
    """
    lines = [_ESCAPES.sub("", line).strip() for line in text.splitlines()]
    try:
        start, end, columns = _header(lines)
        rows = list(_rows(lines, end, columns))
        codes = _codes(rows, columns)
        _require_all(columns, codes, rows, start)
    except _LineError as fault:
        raise TopologyError(f"{where}: {fault}") from None
    gpus = tuple(name for name in columns if _GPU.fullmatch(name))
    called = _legend(lines[end:], [name for name in columns if name not in gpus])
    affinity = {row.name: row.rest[0] for row in rows if row.rest and _CPUS.fullmatch(row.rest[0])}
    return Matrix(
        gpus,
        tuple(called.values()),
        {(called.get(one, one), called.get(other, other)): code for (one, other), code in codes.items()},
        {name: cpus for name, cpus in affinity.items() if name in gpus},
        {called.get(row.name, row.name): row.number for row in rows},
        dict(_listed(lines)),
    )


def _listed(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The GPUs that lines such as "GPU 0: NVIDIA A10 (UUID: ...)" or "GPU 0,1: NVIDIA A10" name."""
    for line in lines:
        found = _LISTED.fullmatch(line)
        if found:
            yield from ((f"GPU{number}", found[2]) for number in found[1].split(","))


def _split(line: str) -> list[str]:
    """The names of a piece of a header, those that stick together apart."""
    return [name for token in line.split() for name in _NAME.findall(token)]


def _starts(line: str) -> bool:
    """Whether a line starts with the name of a GPU."""
    return _GPU.match(line) is not None


def _is_row(line: str) -> bool:
    tokens = line.split()
    return len(tokens) > 1 and _GLUED.fullmatch(tokens[1]) is not None


def _header(lines: Sequence[str]) -> tuple[int, int, list[str]]:
    """Index of the first line of the header, of the line after it, and the columns of GPUs and NICs."""
    start = next((number for number, line in enumerate(lines) if _starts(line)), None)
    if start is None:
        raise _LineError(0, "no line starts with 'GPU0'; expected what `nvidia-smi topo -m` prints, header and all")
    if _is_row(lines[start]):
        raise _LineError(start + 1, f"{_short(lines[start])} is a row; the header with the columns is missing")
    text, end = lines[start], start + 1
    while end < len(lines) and not _AFFINITY.search(text) and lines[end] and not _is_row(lines[end]):
        text, end = f"{text} {lines[end]}", end + 1
    found = _AFFINITY.search(text)
    columns = _split(text[: found.start()] if found else text)
    repeated = [name for number, name in enumerate(columns) if name in columns[:number]]
    if repeated:
        raise _LineError(start + 1, f"the header has {repeated[0]!r} twice")
    return start, end, columns


def _rows(lines: Sequence[str], number: int, columns: Sequence[str]) -> Iterator[_Row]:
    """The rows below the header; ends where something else begins, or a name comes again."""
    seen: set[str] = set()
    while number < len(lines):
        tokens = lines[number].split()
        name = tokens[0] if tokens else ""
        if name in seen or (tokens and name not in columns):
            if _GPU.fullmatch(name) and name not in seen:
                raise _LineError(number + 1, f"there is a row for {name}, which is no column of the header")
            return
        if tokens:
            seen.add(name)
            row, number = _row(lines, number, columns)
            yield row
        else:
            number += 1


def _row(lines: Sequence[str], number: int, columns: Sequence[str]) -> tuple[_Row, int]:
    """The row that starts on a line, with the lines that it was wrapped to, and the number of the line after it."""
    first, wanted = number, len(columns)
    name, *tokens = lines[number].split()
    codes, rest = _take(tokens, wanted)
    number += 1
    while len(codes) < wanted and not rest and number < len(lines) and _goes_on(lines[number]):
        more, rest = _take(lines[number].split(), wanted - len(codes))
        codes, number = codes + more, number + 1
    last = not any(line.split() and line.split()[0] in columns for line in lines[number:])
    if len(codes) < wanted and not (last and not rest and codes):
        raise _LineError(first + 1, _short_row(name, codes, rest, wanted))
    return _Row(first + 1, name, codes, rest), number


def _goes_on(line: str) -> bool:
    tokens = line.split()
    return bool(tokens) and _GLUED.fullmatch(tokens[0]) is not None


def _take(tokens: Sequence[str], wanted: int) -> tuple[list[str], list[str]]:
    """Codes from the start of a row, as many as there are columns, and what is left."""
    codes: list[str] = []
    for position, token in enumerate(tokens):
        if len(codes) >= wanted or not _GLUED.fullmatch(token):
            return codes, list(tokens[position:])
        codes += _CODE.findall(token)
    return codes, []


def _short_row(name: str, codes: Sequence[str], rest: Sequence[str], wanted: int) -> str:
    known = f"expected X, NV and a number, {', '.join(CODES)}"
    if rest:
        return f"row {name} has {rest[0]!r} where a code for column {len(codes) + 1} of {wanted} should be; {known}"
    return f"row {name} has {len(codes)} codes, but the header has {wanted} columns"


def _codes(rows: Sequence[_Row], columns: Sequence[str]) -> dict[Pair, str]:
    """The code of each pair, in the order of the columns; both halves must agree."""
    order = {name: number for number, name in enumerate(columns)}
    codes: dict[Pair, str] = {}
    for row in rows:
        if len(row.codes) > len(columns):
            raise _LineError(row.number, f"row {row.name} has more codes than the header has columns, {len(columns)}")
        for name, code in zip(columns, row.codes, strict=False):
            if (code == "X") != (name == row.name):
                raise _LineError(row.number, f"row {row.name} has {code} in column {name}, expected X where they meet")
            one, other = sorted((row.name, name), key=order.__getitem__)
            same = codes.setdefault((one, other), _SAME.get(code, code))
            if same != _SAME.get(code, code):
                raise _LineError(row.number, f"row {row.name} has {code} in column {name}, but row {name} says {same}")
    return {pair: code for pair, code in codes.items() if code != "X"}


def _require_all(columns: Sequence[str], codes: dict[Pair, str], rows: Sequence[_Row], header: int) -> None:
    """How each two GPUs reach each other must be known; of NICs, it may be left open."""
    gpus = [name for name in columns if _GPU.fullmatch(name)]
    missing = [
        f"{one} and {other}"
        for number, one in enumerate(gpus)
        for other in gpus[number + 1 :]
        if (one, other) not in codes
    ]
    if missing:
        absent = [name for name in gpus if name not in {row.name for row in rows}]
        hint = f"; rows of {listed(absent)} are missing" if absent else ""
        raise _LineError(header + 1, f"nothing is said of {listed(missing)}{hint}: copy all of the matrix")
    if len(gpus) == 1 and not rows:
        raise _LineError(header + 1, f"the row of {gpus[0]} is missing: copy all of the matrix")


def _legend(lines: Sequence[str], nics: Sequence[str]) -> dict[str, str]:
    """The NICs by their columns, each with its name of the legend of NICs, or else its own."""
    found = {match[1]: match[2] for line in lines if (match := _LEGEND.fullmatch(line))}
    return {nic: found.get(nic, nic) for nic in nics}


def _short(line: str) -> str:
    return repr(line if len(line) <= 40 else f"{line[:37]}...")
