"""From a matrix to a topology: its own matrix is the one that it came from."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.placement.topology.discover.machines import PLACES, levels_of
from torchplace.errors import OptionError, TopologyError
from torchplace.placement.topology import Topology
from torchplace.placement.topology.discover.from_matrix import load_matrix, read_matrix
from torchplace.placement.topology.discover.levels import NAMES, Level
from torchplace.placement.topology.discover.matrix import Matrix, parse
from torchplace.placement.topology.draw.codes import Codes
from torchplace.placement.topology.presets import preset

HERE = Path(__file__).parent / "matrices"
FILES = sorted(HERE.glob("*.txt"))


def nominal(text: str) -> Topology:
    if "GPU 0: " in text:
        return read_matrix(text)
    with pytest.warns(UserWarning, match="does not say which GPUs these are"):
        return read_matrix(text)


def codes(topology: Topology, matrix: Matrix) -> dict[tuple[str, str], str]:
    """The codes of the pairs that a matrix tells of."""
    found = Codes(topology)
    names = {name: name.replace("GPU", "gpu:") for name in matrix.gpus}
    return {(a, b): found.of(names.get(a, a), names.get(b, b)) for a, b in matrix.codes}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_real_machine_has_the_matrix_that_it_came_from(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    topology, matrix = nominal(text), parse(text)
    assert codes(topology, matrix) == matrix.codes
    assert len(topology.devices) == len(matrix.gpus)
    assert [device.torch_device for device in topology.devices] == [f"cuda:{i}" for i in range(len(matrix.gpus))]
    assert Topology.from_dict(topology.to_dict()) == topology


@given(PLACES, st.data())
def test_any_machine_that_can_be_built_has_the_matrix_that_it_came_from(
    places: list[tuple[int, ...]], data: st.DataObject
) -> None:
    names, levels = levels_of(places)
    gpus = data.draw(st.integers(1, len(names)), "GPUs, the others are NICs")
    columns = [f"GPU{i}" if i < gpus else f"NIC{i - gpus}" for i in range(len(names))]
    blank = data.draw(st.sampled_from(["\t", "    ", " \t "]))
    known = {frozenset(pair): NAMES[level] for pair, level in levels.items()}
    rows = [[known.get(frozenset((one, other)), " X ") for other in names] for one in names]
    lines = [blank.join(["", *columns]), *(blank.join([name, *row]) for name, row in zip(columns, rows, strict=True))]
    text = "\n".join(lines)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        topology = read_matrix(text)
    matrix = parse(text)
    assert codes(topology, matrix) == matrix.codes
    assert len(matrix.codes) == len(names) * (len(names) - 1) // 2


@pytest.mark.parametrize(
    ("name", "gpu", "cpu", "machine"),
    [
        ("dgx1-v100", "v100-sxm2-16gb", "broadwell", "dgx1-v100"),
        ("dgx1-p100-glued-header", "p100-sxm2-16gb", "broadwell", "dgx1-p100"),
    ],
)
def test_a_dgx1_costs_what_the_preset_does(name: str, gpu: str, cpu: str, machine: str) -> None:
    found, documented = load_matrix(HERE / f"{name}.txt", gpu=gpu, cpu=cpu), preset(machine)
    assert found.devices == documented.devices
    for one, other in itertools.permutations(documented.device_names, 2):
        ours, theirs = found.route(one, other), documented.route(one, other)
        assert ours.bandwidth == theirs.bandwidth
        assert ours.latency == pytest.approx(theirs.latency)


def test_nvswitches_are_told_from_direct_links_by_the_model() -> None:
    slice_ = load_matrix(HERE / "p3-8xlarge.txt", gpu="v100-sxm2-16gb")
    assert not any(switch.kind == "nvswitch" for switch in slice_.switches)
    assert slice_.route("gpu:0", "gpu:3").nodes == ("gpu:0", "gpu:3")
    dgx = load_matrix(HERE / "dgx-a100-nps4.txt", gpu="a100-sxm4-80gb")
    assert dgx.route("gpu:0", "gpu:7").nodes == ("gpu:0", "nvswitch", "gpu:7")
    assert dgx.route("gpu:0", "gpu:7").bandwidth == preset("dgx-a100").route("gpu:0", "gpu:7").bandwidth


def test_a_gpu_that_lost_its_nvlinks_goes_over_pcie() -> None:
    machine = load_matrix(HERE / "b200x8-one-without-nvlink.txt", gpu="b200-sxm-180gb")
    assert machine.route("gpu:0", "gpu:7").nodes == ("gpu:0", "nvswitch", "gpu:7")
    assert not any(node == "nvswitch" for node in machine.route("gpu:2", "gpu:0").nodes)
    assert machine.route("gpu:2", "gpu:0").bandwidth == 48e9


def test_gpus_without_peer_to_peer_get_host_memory() -> None:
    machine = load_matrix(HERE / "five-gpus-phb-node.txt", gpu="rtx-4090")
    assert machine.route("gpu:1", "gpu:2").nodes == (
        "gpu:1",
        "bridge:0",
        "socket:1",
        "memory:1",
        "socket:1",
        "bridge:0",
        "gpu:2",
    )
    assert {switch.name for switch in machine.switches if switch.kind == "host-memory"} == {"memory:0", "memory:1"}


def test_what_a_matrix_does_not_say_can_be_given() -> None:
    path = HERE / "five-gpus-phb-node.txt"
    machine = load_matrix(path, gpu="rtx-3090,rtx-4090,rtx-4090,t4,t4", pcie="3x8", cpu="emerald-rapids")
    assert [device.kind for device in machine.devices] == ["rtx-3090", "rtx-4090", "rtx-4090", "t4", "t4"]
    assert machine.route("gpu:3", "gpu:4").bandwidth == 6e9
    joint = next(link for link in machine.links if (link.source, link.target) == ("socket:0", "socket:1"))
    assert joint.bandwidth == 40e9
    assert machine.name == "five-gpus-phb-node"


def test_a_list_of_the_gpus_in_the_same_text_names_their_models() -> None:
    assert nominal((HERE / "h200-mig.txt").read_text(encoding="utf-8")).devices[0].kind == "h200-sxm-141gb"
    matrix = (HERE / "four-gpus-pxb-pix.txt").read_text(encoding="utf-8")
    listed = "GPU 0,1: Tesla T4\nGPU 2: NVIDIA A10 (UUID: GPU-1)\nGPU 3: NVIDIA A10G (UUID: GPU-2)\n"
    assert [device.kind for device in read_matrix(listed + matrix).devices] == ["t4", "t4", "a10", "a10g"]
    assert {device.kind for device in read_matrix(listed + matrix, gpu="l4").devices} == {"l4"}
    with pytest.warns(UserWarning, match="GPU 'NVIDIA Z1' is not known"):
        assert read_matrix(listed.replace("Tesla T4", "NVIDIA Z1") + matrix).devices[0].kind == "z1"
    with pytest.warns(UserWarning, match="does not say which GPUs these are"):
        read_matrix(listed.replace("GPU 3: ", "GPU 7: ") + matrix)


def test_nvlinks_join_gpus_alone() -> None:
    with pytest.raises(TopologyError, match="NV2 between gpu:0 and NIC0: NVLinks join GPUs alone"):
        read_matrix("GPU0 NIC0\nGPU0 X NV2\nNIC0 NV2 X\n", gpu="v100-sxm2-16gb")


def test_without_a_model_the_figures_are_nominal_and_it_is_said() -> None:
    with pytest.warns(
        UserWarning, match=r"matrix .*a6000-bridge.txt does not say which GPUs these are.*give --gpu KIND"
    ):
        machine = Topology.load(HERE / "a6000-bridge.txt")
    assert {device.kind for device in machine.devices} == {"gpu"}
    assert machine.devices[0].peak("float32") == 10e12


@pytest.mark.parametrize(
    ("given_", "error", "message"),
    [
        ({"gpu": "v100"}, TopologyError, "no GPU model 'v100'"),
        ({"gpu": "t4,t4"}, OptionError, "gpu is 't4,t4', 2 models; expected one, or one for each of 4 GPUs"),
        ({"pcie": "fast"}, OptionError, "PCIe link 'fast': expected a generation"),
        ({"cpu": "epic"}, OptionError, "cpu is 'epic'; did you mean 'epyc'"),
        ({"gpu": "t4"}, TopologyError, "NV1 between gpu:0 and gpu:1, but gpu:0 is of model 't4', which has no NVLinks"),
        ({"gpu": "p100-sxm2-16gb,v100-sxm2-16gb,rtx-2080-ti,v100-sxm2-16gb"}, TopologyError, "have more NVLinks than"),
    ],
)
def test_options_that_make_no_sense(given_: dict[str, str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_matrix(HERE / "p3-8xlarge.txt", **{"gpu": "v100-sxm2-16gb", **given_})


def test_a_matrix_that_contradicts_itself_is_refused_with_its_line() -> None:
    text = "\tGPU0\tGPU1\tGPU2\nGPU0\tX\tPIX\tSYS\nGPU1\tPIX\tX\tPIX\nGPU2\tSYS\tPIX\tX\n"
    message = "^box: line 2: GPU0 and GPU2 are SYS, but others join them that are NODE or nearer to both"
    with pytest.raises(TopologyError, match=message):
        read_matrix(text, gpu="t4", where="box")


def test_nvlinks_of_some_pairs_only_are_no_nvswitch() -> None:
    rows = ["X NV18 NV18 SYS", "NV18 X NV18 NV18", "NV18 NV18 X NV18", "SYS NV18 NV18 X"]
    text = "GPU0 GPU1 GPU2 GPU3\n" + "\n".join(f"GPU{i} {row}" for i, row in enumerate(rows))
    with pytest.raises(TopologyError, match="behind NVSwitches, but gpu:0 and gpu:3 are not joined by as many"):
        read_matrix(text, gpu="h100-sxm5-80gb")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="matrix .*nothing.txt: cannot be read: No such file"):
        Topology.resolve(str(tmp_path / "nothing.txt"))


def test_the_public_way_in() -> None:
    machine = Topology.from_matrix((HERE / "four-gpus-pxb-pix.txt").read_text(encoding="utf-8"), gpu="a10")
    assert Codes(machine).of("gpu:0", "gpu:1") == NAMES[Level.SWITCHES]
