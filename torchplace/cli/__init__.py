"""The command line: `torchplace plan | compare | run | topo | bench`, one command a file."""

from __future__ import annotations

import warnings

import typer

from torchplace.cli import bench, common, compare, plan, run, topo
from torchplace.errors import TorchplaceError

app = typer.Typer(
    help="Place PyTorch models on many devices: plan, compare, run.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(plan.plan)
app.command()(compare.compare)
app.command()(run.run)
app.command()(topo.topo)
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Entry point: errors of ours are one line on stderr and exit status 1; no traceback. So are warnings, one line."""
    warnings.showwarning = _warn
    try:
        app(standalone_mode=True)
    except TorchplaceError as error:
        common.complain(f"error: {error}")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        common.complain("interrupted")
        raise SystemExit(130) from None


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    common.errors.print(f"warning: {message}", style="yellow", markup=False, soft_wrap=True)
