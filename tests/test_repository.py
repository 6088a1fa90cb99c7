"""The repository keeps the promises that no module can keep alone."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "torchplace"
WINGS = ("compiler", "placement", "runtime")
PUBLIC = (
    "Checkpointer",
    "GradScaler",
    "Plan",
    "RankError",
    "Step",
    "Timeline",
    "Topology",
    "clip_grad_norm_",
    "compare",
    "compile",
    "plan",
    "plans",
    "save_trace",
)
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
SKIPPED_FOLDERS = {".git", ".venv", "__pycache__", "build", "dist", "site"}
LOCAL_FOLDERS = ("work", "root", "tmp/v")
LOCAL_PATH = re.compile(rf"(?<![\w.])/({'|'.join(LOCAL_FOLDERS)})/".encode())
TARGETS = ("help", "demo", "test", "lint", "bench", "docs", "clean")

unpacked_sdist = pytest.mark.skipif((ROOT / "PKG-INFO").exists(), reason="an sdist has no links")


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def repository_files() -> list[Path]:
    """Every file that is, or would be, committed; all files but caches where git cannot tell."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if (ROOT / ".git").exists() and shutil.which("git"):
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        paths = [ROOT / line for line in listed.split("\0") if line]
    else:
        paths = [p for p in ROOT.rglob("*") if not SKIPPED_FOLDERS & set(p.relative_to(ROOT).parts)]
    return sorted(p for p in paths if p.is_file() and not p.is_symlink())


def long_functions(text: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield node.name, lines


@unpacked_sdist
@pytest.mark.parametrize("wing", WINGS)
def test_link_at_the_top_points_to_its_wing(wing: str) -> None:
    link = ROOT / wing
    assert link.is_symlink()
    assert os.readlink(link) == f"torchplace/{wing}"  # relative, so that it survives a move
    assert (link / "__init__.py").is_file()


@pytest.mark.parametrize("public", PUBLIC)
def test_public_name(public: str) -> None:
    import torchplace

    assert public in torchplace.__all__
    assert getattr(torchplace, public).__doc__


def test_all_promises_nothing_that_is_missing() -> None:
    import torchplace

    assert [n for n in torchplace.__all__ if not hasattr(torchplace, n)] == []


@pytest.mark.parametrize("path", sources(), ids=name)
def test_file_is_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE_LINES, f"{name(path)} has {lines} lines; split it by its nouns"


@pytest.mark.parametrize("path", sources(), ids=name)
def test_functions_are_short(path: Path) -> None:
    assert list(long_functions(path.read_text(encoding="utf-8"))) == []


def test_long_functions_are_found() -> None:
    body = "    pass\n" * MAX_FUNCTION_LINES
    assert list(long_functions(f"def f():\n{body}")) == [("f", MAX_FUNCTION_LINES + 1)]


def test_no_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    assert [name(p) for p in repository_files() if LOCAL_PATH.search(p.read_bytes())] == []


def test_local_paths_are_found() -> None:
    folder = LOCAL_FOLDERS[0]
    assert LOCAL_PATH.search(f"see /{folder}/notes".encode())
    assert not LOCAL_PATH.search(f"frame{folder}/notes and docs/{folder}/notes".encode())


def test_every_requirement_has_a_pin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [r for extra in project["optional-dependencies"].values() for r in extra]
    names = {normal(re.split(r"[\[<>=!~; ]", r)[0]) for r in project["dependencies"] + wanted}
    assert sorted(names - set(pins())) == []


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normal(package): version for package, version in pairs}


def normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("target", TARGETS)
def test_make_target_exists(target: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    dry_run = subprocess.run(
        ["make", "-n", target], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert dry_run.returncode == 0, dry_run.stderr
