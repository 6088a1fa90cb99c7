"""The parser of `nvidia-smi topo -m`: what real machines print, and one message for what cannot be understood."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from torchplace.errors import TopologyError
from torchplace.placement.topology.discover.matrix import parse

HERE = Path(__file__).parent / "matrices"
FILES = sorted(HERE.glob("*.txt"))


def text(name: str) -> str:
    return (HERE / f"{name}.txt").read_text(encoding="utf-8")


def test_there_are_real_matrices_of_many_forms_each_with_its_source() -> None:
    assert len(FILES) >= 20
    for path in [*FILES, *HERE.glob("refused/*.txt")]:
        assert re.search("^# Source: .{10,}", path.read_text(encoding="utf-8"), re.MULTILINE), path.name


@pytest.mark.parametrize(
    ("name", "gpus", "nics", "some"),
    [
        ("k80x2-soc-2015", 4, ["mlx4_0"], {("GPU0", "GPU1"): "PIX", ("GPU3", "mlx4_0"): "PHB"}),
        ("four-gpus-soc", 4, [], {("GPU0", "GPU2"): "SYS", ("GPU2", "GPU3"): "PHB"}),
        ("p40x8-soc", 8, ["mlx5_0"], {("GPU0", "GPU7"): "PXB", ("GPU7", "mlx5_0"): "SYS"}),
        ("dgx1-p100-glued-header", 8, ["mlx5_0", "mlx5_2", "mlx5_1", "mlx5_3"], {("GPU7", "mlx5_3"): "PIX"}),
        (
            "dgx1-v100",
            8,
            ["mlx5_0", "mlx5_2", "mlx5_1", "mlx5_3"],
            {("GPU0", "GPU3"): "NV2", ("GPU0", "mlx5_1"): "PHB"},
        ),
        ("p3-8xlarge", 4, [], {("GPU0", "GPU3"): "NV2"}),
        ("v100x8-two-nics", 8, ["mlx5_0", "mlx5_1"], {("GPU3", "mlx5_0"): "PIX", ("mlx5_0", "mlx5_1"): "SYS"}),
        ("eight-gpus-pix-node", 8, [], {("GPU0", "GPU1"): "PIX", ("GPU1", "GPU2"): "NODE"}),
        ("four-gpus-pxb-pix", 4, [], {("GPU0", "GPU1"): "PXB", ("GPU2", "GPU3"): "PIX"}),
        ("a4000x3-trailing-blanks", 3, [], {("GPU0", "GPU2"): "PHB"}),
        ("five-gpus-phb-node", 5, [], {("GPU1", "GPU2"): "PHB", ("GPU1", "GPU3"): "NODE", ("GPU0", "GPU1"): "SYS"}),
        ("two-gpus-wrapped-legend", 2, [], {("GPU0", "GPU1"): "NODE"}),
        ("two-gpus-escapes", 2, ["NIC0", "NIC1"], {("GPU0", "GPU1"): "NV12", ("GPU1", "NIC1"): "SYS"}),
        (
            "two-gpus-nic-legend",
            2,
            ["rocep4s0f0", "rocep4s0f1", "rocep137s0f0", "rocep137s0f1"],
            {("GPU0", "rocep4s0f0"): "PHB", ("rocep4s0f0", "rocep4s0f1"): "PIX"},
        ),
        ("a6000-bridge", 3, [], {("GPU0", "GPU1"): "NV4", ("GPU0", "GPU2"): "NODE"}),
        ("v100x8-virtual-machine", 8, [], {("GPU0", "GPU7"): "PHB"}),
        (
            "dgx-a100-nps4",
            8,
            [f"mlx5_{i}" for i in range(12)],
            {("GPU0", "mlx5_1"): "PXB", ("mlx5_10", "mlx5_11"): "PIX"},
        ),
        ("h100x8-cut-off", 8, [f"NIC{i}" for i in range(9)], {("GPU0", "NIC8"): "PIX", ("NIC5", "NIC8"): "NODE"}),
        ("h100x8-lost-tabs", 8, [f"NIC{i}" for i in range(12)], {("GPU5", "NIC9"): "PXB", ("GPU7", "NIC11"): "PXB"}),
        (
            "b200x8-one-without-nvlink",
            8,
            [f"NIC{i}" for i in range(12)],
            {("GPU2", "GPU4"): "SYS", ("GPU6", "GPU7"): "NV18"},
        ),
        ("gb200x4-cut-off", 4, [f"NIC{i}" for i in range(6)], {("GPU2", "GPU3"): "NV18", ("GPU3", "NIC0"): "SYS"}),
        ("h200-mig", 1, [], {}),
    ],
)
def test_real_matrices(name: str, gpus: int, nics: list[str], some: dict[tuple[str, str], str]) -> None:
    matrix = parse(text(name))
    assert matrix.gpus == tuple(f"GPU{i}" for i in range(gpus))
    assert matrix.nics == tuple(nics)
    assert some.items() <= matrix.codes.items()


def test_all_files_are_tried() -> None:
    tried = {mark.args[1][i][0] for mark in test_real_matrices.pytestmark for i in range(len(mark.args[1]))}
    assert tried == {path.stem for path in FILES}


@pytest.mark.parametrize(
    ("name", "affinity"),
    [
        ("dgx1-v100", {"GPU0": "0-19,40-59", "GPU7": "20-39,60-79"}),
        ("p3-8xlarge", {"GPU0": "0-31"}),
        ("gb200x4-cut-off", {"GPU2": "72-143"}),
        ("h200-mig", {"GPU0": "0-23"}),
        ("h100x8-lost-tabs", {"GPU4": "56-111,168-223"}),
    ],
)
def test_cpu_affinities(name: str, affinity: dict[str, str]) -> None:
    assert affinity.items() <= parse(text(name)).affinity.items()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dgx2-cut-off", "line 4: nothing is said of GPU5 and GPU6, .* rows of GPU5, .* are missing: copy all"),
        ("moore-threads", "line 4: row GPU0 has 'MPB' where a code for column 2 of 6 should be; expected X, NV"),
        ("boxed-table", "no line starts with 'GPU0'; expected what `nvidia-smi topo -m` prints"),
        ("peer-to-peer-status", "line 4: row GPU0 has 'GNS' where a code for column 2 of 2 should be"),
        (
            "nothing-between-columns",
            "line 3: nothing is said of GPU0 and GPU1, .* rows of GPU0, GPU1, GPU2 are missing",
        ),
    ],
)
def test_real_texts_that_are_refused(name: str, message: str) -> None:
    with pytest.raises(TopologyError, match=f"^box: {message}"):
        parse((HERE / "refused" / f"{name}.txt").read_text(encoding="utf-8"), "box")


GOOD = "\tGPU0\tGPU1\tCPU Affinity\nGPU0\t X \tPHB\t0-3\nGPU1\tPHB\t X \t0-3\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (GOOD, "", "no line starts with 'GPU0'"),
        (GOOD, "GPU0 X PHB\nGPU1 PHB X\n", "line 1: 'GPU0 X PHB' is a row; the header with the columns is missing"),
        ("GPU0\tGPU1\tCPU", "GPU0\tGPU0\tCPU", "line 1: the header has 'GPU0' twice"),
        ("GPU1\tPHB", "GPU1\tSYS", "line 3: row GPU1 has SYS in column GPU0, but row GPU0 says PHB"),
        ("GPU1\tPHB\t X ", "GPU1\t X \tPHB", "line 3: row GPU1 has X in column GPU0, expected X where they meet"),
        ("\t X \tPHB", "\tPHB\tPHB", "line 2: row GPU0 has PHB in column GPU0, expected X where they meet"),
        ("PHB\t0-3\nG", "0-3\nG", "line 2: row GPU0 has '0-3' where a code for column 2 of 2 should be"),
        ("\tPHB\t0-3\nG", "\nG", "line 2: row GPU0 has 1 codes, but the header has 2 columns"),
        ("\nGPU1\t", "\nGPU2\t", "line 3: there is a row for GPU2, which is no column"),
        (
            "GPU0\t X \tPHB\t0-3\nGPU1\tPHB\t X \t0-3\n",
            "",
            "line 1: nothing is said of GPU0 and GPU1; rows of GPU0, GPU1",
        ),
        ("PHB\t0-3\nGPU1", "NVX\t0-3\nGPU1", "line 2: row GPU0 has 'NVX' where a code for column 2"),
        ("PHB\t0-3\nGPU1", "PHBPHB\t0-3\nGPU1", "line 2: row GPU0 has more codes than the header has columns, 2"),
    ],
)
def test_one_message_for_each_mistake(old: str, new: str, message: str) -> None:
    with pytest.raises(TopologyError, match=f"^box: {message}"):
        parse(GOOD.replace(old, new, 1), "box")


@pytest.mark.parametrize(
    "changed",
    [
        GOOD.replace("\t", "  "),
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\n\n"),
        GOOD.replace("GPU0\tGPU1\tCPU", "\x1b[4mGPU0\tGPU1\tCPU").replace("Affinity", "Affinity\x1b[0m"),
        GOOD.replace("GPU0\tGPU1\tCPU", "[4mGPU0\tGPU1\tCPU").replace("Affinity", "Affinity[0m"),  # the escape was lost
        "$ nvidia-smi topo -m\n" + GOOD,
        GOOD.replace("\tCPU Affinity", "").replace("\t0-3", ""),
        GOOD.replace("CPU Affinity", "CPU Affinity\tNUMA Affinity\tGPU NUMA ID").replace("0-3", "0-3\t0\t\tN/A"),
        GOOD.replace("\tPHB\t0-3", "\n\tPHB\t0-3"),  # wrapped
        GOOD.replace("\tCPU", "\nCPU"),
        GOOD[: GOOD.rindex("\t X ")],  # cut off within the last row
        GOOD + "\n" + GOOD.replace("PHB", "OK"),
        GOOD.rstrip("\n"),
    ],
)
def test_what_a_copy_does_to_it(changed: str) -> None:
    assert parse(changed).codes == {("GPU0", "GPU1"): "PHB"}


def test_a_row_of_nics_that_is_wrapped_and_a_header_too() -> None:
    wide = (
        "        GPU0    GPU1    NIC0\n    NIC1    CPU Affinity\n"
        "GPU0     X      NV2     PIX\n    SYS     0-3\nGPU1    NV2      X      SYS\n  PIX     4-7\n"
        "NIC0    PIX     SYS      X\n    SYS\nNIC1    SYS     PIX     SYS\n  X\nNIC Legend:\n\n  NIC1: mlx5_7\n"
    )
    matrix = parse(wide)
    assert matrix.nics == ("NIC0", "mlx5_7")
    assert matrix.codes == {
        ("GPU0", "GPU1"): "NV2",
        ("GPU0", "NIC0"): "PIX",
        ("GPU0", "mlx5_7"): "SYS",
        ("GPU1", "NIC0"): "SYS",
        ("GPU1", "mlx5_7"): "PIX",
        ("NIC0", "mlx5_7"): "SYS",
    }
    assert matrix.affinity == {"GPU0": "0-3", "GPU1": "4-7"}


def test_one_gpu_without_affinities() -> None:
    assert parse("\tGPU0\nGPU0\t X\n").gpus == ("GPU0",)
    with pytest.raises(TopologyError, match="line 1: the row of GPU0 is missing"):
        parse("\tGPU0\tCPU Affinity\n")


def test_psb_of_dual_boards_is_pix() -> None:
    assert parse(GOOD.replace("PHB", "PSB")).codes == {("GPU0", "GPU1"): "PIX"}
