"""What is built from the repository holds the package once, and works far from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WINGS = ("compiler", "placement", "runtime")
NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "build", "dist", "site"
)
NOT_SHIPPED = {"__pycache__", ".mypy_cache"}
LOCATE = """
import importlib.metadata as metadata
import torchplace
(scripts,) = (e for e in metadata.entry_points(group="console_scripts") if e.name == "torchplace")
(backends,) = (e for e in metadata.entry_points(group="torch_dynamo_backends") if e.name == "torchplace")
assert callable(scripts.load()) and callable(backends.load())
assert metadata.version("torchplace") == torchplace.__version__
print(torchplace.__file__)
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def run(*arguments: str | Path, cwd: Path, **environment: str) -> str:
    """What a Python command prints, run with nothing of this checkout on its path."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=clean | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{arguments} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A wheel and an sdist, each built straight from a copy of the tree, its links at the top included."""
    tree = tmp_path_factory.mktemp("tree") / "torchplace"
    shutil.copytree(ROOT, tree, symlinks=True, ignore=NOT_COPIED)
    options = ("--no-isolation", "--sdist", "--wheel", "--outdir", tree / "out")
    run("-m", "build", *options, tree, cwd=tree.parent)
    (wheel,) = (tree / "out").glob("*.whl")
    (sdist,) = (tree / "out").glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def contents(archive: Path) -> list[str]:
    """The files of an archive, an sdist's without its top folder; a name twice if it is there twice."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as file:
            return [n for n in file.namelist() if not n.endswith("/")]
    with tarfile.open(archive) as file:
        return [member.name.partition("/")[2] for member in file.getmembers() if not member.isdir()]


def package_files() -> set[str]:
    paths = (p for p in (ROOT / "torchplace").rglob("*") if p.is_file())
    return {p.relative_to(ROOT).as_posix() for p in paths if not NOT_SHIPPED & set(p.parts)}


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_holds_the_whole_package(built: dict[str, Path], kind: str) -> None:
    shipped = set(contents(built[kind]))
    assert sorted(package_files() - shipped) == []
    assert {f"torchplace/{wing}/__init__.py" for wing in WINGS} <= shipped


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_holds_the_package_once(built: dict[str, Path], kind: str) -> None:
    shipped = contents(built[kind])
    assert len(shipped) == len(set(shipped))
    assert [n for n in shipped if n.split("/")[0] in WINGS] == []
    assert sum(n.endswith("compiler/__init__.py") for n in shipped) == 1


def test_wheel_holds_nothing_but_the_package(built: dict[str, Path]) -> None:
    tops = {n.split("/")[0] for n in contents(built["wheel"])}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"torchplace"}


def test_both_carry_the_licence(built: dict[str, Path]) -> None:
    for archive in built.values():
        assert any(n.split("/")[-1] == "LICENSE" for n in contents(archive)), archive.name


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_works_from_outside_the_checkout(built: dict[str, Path], kind: str, tmp_path: Path) -> None:
    target = tmp_path / "installed"
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", target)
    run("-m", "pip", "install", *options, built[kind], cwd=tmp_path)
    located = run("-c", LOCATE, cwd=tmp_path, PYTHONPATH=str(target)).strip()
    assert Path(located) == target / "torchplace" / "__init__.py"
    assert "Usage" in run("-m", "torchplace", "--help", cwd=tmp_path, PYTHONPATH=str(target))
