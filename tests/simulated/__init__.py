"""A simulated accelerator: several devices of torch's PrivateUse1 kind, "sim:0" and so on, in the host's memory.

`load()` builds it once and registers it with torch for the rest of the process, so call it in a process of its own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import torch

NAME = "sim"
_HERE = Path(__file__).parent
_SOURCES = ("device.cpp", "clocks.h")


def compiler() -> str | None:
    """The C++ compiler of this machine, if it has one."""
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))), None)


def build() -> Path:
    """The library, built now unless it was built before from the same sources for the same torch."""
    parts = [torch.__version__, sys.version, *(_HERE.joinpath(name).read_text(encoding="utf-8") for name in _SOURCES)]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    library = Path(tempfile.gettempdir()) / f"torchplace-simulated-{os.getuid()}" / f"device-{digest}.so"
    if not library.exists():
        library.parent.mkdir(mode=0o700, exist_ok=True)
        _compile(library)
    return library


def _compile(library: Path) -> None:
    made = library.with_suffix(f".{os.getpid()}")
    root = Path(torch.__file__).parent
    command = [str(compiler()), "-std=c++20", "-O1", "-shared", "-fPIC", "-w", str(_HERE / "device.cpp")]
    command += [f"-I{root / 'include'}", f"-I{root / 'include/torch/csrc/api/include'}", f"-L{root / 'lib'}"]
    command += [f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}", "-o", str(made)]
    done = subprocess.run([*command, "-ltorch", "-ltorch_cpu", "-lc10"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the simulated device does not compile: {done.stderr[-4000:]}")
    made.replace(library)


def load() -> None:
    """Make `torch.accelerator` see the simulated devices, in this process, from now on."""
    torch.ops.load_library(str(build()))
    torch.utils.rename_privateuse1_backend(NAME)
    torch._register_device_module(NAME, _module())
    torch.utils.generate_methods_for_privateuse1_backend()


def take_faults() -> list[str]:
    """What was done without the waits that it needs since this was last asked."""
    return list(torch.ops.simulated.take_faults())


def _module() -> types.ModuleType:
    """What `torch.sim` is: what torch asks of the module of a device."""
    ops = torch.ops.simulated
    module = types.ModuleType(f"torch.{NAME}")

    def index(device: object) -> int:
        if isinstance(device, int):
            return device
        found = torch.device(device).index
        return ops.current_device() if found is None else found

    def manual_seed(seed: int) -> None:
        ops.manual_seed(ops.current_device(), seed)

    def manual_seed_all(seed: int) -> None:
        for i in range(ops.device_count()):
            ops.manual_seed(i, seed)

    named = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_is_in_bad_fork": lambda: False,
        "device_count": lambda: int(ops.device_count()),
        "current_device": lambda: int(ops.current_device()),
        "set_device": lambda device: ops.exchange_device(index(device)),
        "get_rng_state": lambda device=NAME: ops.get_state(index(device)),
        "set_rng_state": lambda state, device=NAME: ops.set_state(index(device), state),
        "get_amp_supported_dtype": lambda: [torch.bfloat16, torch.float16],
        "manual_seed": manual_seed,
        "manual_seed_all": manual_seed_all,
    }
    vars(module).update(named)
    return module
