"""``runbook sandbox``: the embedded target at the keyboard."""

from __future__ import annotations

import json
from pathlib import Path

import click

from runbook.commands.options import Group
from runbook.sandbox import emr, lifecycle
from runbook.sandbox.state import Home, State

_SEED = click.option(
    "--seed", type=click.IntRange(0), metavar="N", help="What all content follows from. [0]"
)
_AOIS = click.option(
    "--aois",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="GeoJSON of areas whose cells are the grid, in place of the sandbox's own.",
)
_QUALITY = click.option(
    "--quality",
    type=click.FloatRange(0, 1),
    default=0.9,
    metavar="Q",
    show_default=True,
    help="How well the mappers draw, 0 to 1.",
)


@click.group("sandbox", cls=Group)
def group() -> None:
    """A target of its own on this machine: PostgreSQL, S3, EC2, EMR, a crontab and daemons.

    It lives in RUNBOOK_HOME; `-i sandbox` uses it and starts it when needed.
    """


@group.command()
@_AOIS
@_SEED
def up(aois: Path | None, seed: int | None) -> None:
    """Create the sandbox, or restart what has stopped."""
    lifecycle.up(seed=seed, aois=aois)
    _describe()


@group.command()
def down() -> None:
    """Stop it and remove all that it holds."""
    click.echo("The sandbox is gone." if lifecycle.down() else "There was no sandbox.")


@group.command()
@_AOIS
@_SEED
def reset(aois: Path | None, seed: int | None) -> None:
    """Make all in it as it was at first."""
    lifecycle.reset(seed=seed, aois=aois)
    _describe()


@group.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(*, as_json: bool) -> None:
    """Where it is, and how to look inside."""
    if as_json:
        click.echo(json.dumps(lifecycle.status(Home.current()), indent=2))
    else:
        _describe()


@group.command()
@click.option(
    "--names", type=click.IntRange(1), metavar="N", help="How many sites; all by default."
)
@_QUALITY
def work(names: int | None, quality: float) -> None:
    """Let simulated mappers finish open sites."""
    from runbook.sandbox import work as mapping

    done = mapping.work(lifecycle.ensure_up(), names, quality)
    click.echo(f"{done.sites} sites mapped to the end, {done.maps} maps; {done.left} are open.")


@group.command()
@click.option(
    "-e",
    "--extra-vars",
    multiple=True,
    metavar="K=V|@FILE",
    help="Parameters that both playbooks use.",
)
@_QUALITY
def loop(extra_vars: tuple[str, ...], quality: float) -> None:
    """Play the active-learning loop from regular.yml to a stopping criterion."""
    from rich.console import Console

    from runbook.sandbox import loop as player

    console = Console()
    end = player.watch(console, extra_vars, quality)
    last = end.iterations[-1] if end.iterations else None
    console.print(
        f"The loop ended after iteration {last.number if last else 0}"
        + (f": {end.reason}." if end.reason else "; it had ended before."),
        highlight=False,
        soft_wrap=True,
    )


@group.command()
@click.argument("names", nargs=-1, required=True, metavar="FAULT...")
def fault(names: tuple[str, ...]) -> None:
    """Let the next learner clusters meet a FAULT, one each; `none` forgets them.

    bootstrap, spot, step, cancelled, db, no-metrics, no-names, other-run, names-twice,
    unknown-names or empty-file.
    """
    lifecycle.ensure_up()
    emr.ask_for_faults(Home.current(), [] if names == ("none",) else names)


def _describe() -> None:
    home = Home.current()
    state = State.load(home)
    if state is None:
        click.echo(f"There is no sandbox in {home.path}; `runbook sandbox up` makes one.")
        return
    if dead := state.dead():
        click.echo(f"Stopped: {', '.join(dead)}; `runbook sandbox up` restarts it.")
    else:
        click.echo(f"The sandbox is up: {state.cells:,} cells in {state.aois} areas.")
    for name, value in lifecycle.status(home).items():
        if name in ("home", "database_url", "s3_endpoint_url", "bucket", "crontab"):
            click.echo(f"  {name:<16} {value}")
