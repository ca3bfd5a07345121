"""``runbook lock`` and ``runbook unlock``: a person holds a target, with a reason and until a time.

The lease is in the target's database; the module lock changes it there (``queries/lock.yml``).
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from runbook.commands.options import SETTINGS, YES, duration, query_options
from runbook.errors import RefusedError
from runbook.events.render import text
from runbook.flow import query
from runbook.home import operator

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from runbook.errors import ExitCode


@click.command("lock", context_settings=SETTINGS)
@query_options
@click.option("--reason", required=True, metavar="TEXT", help="Why; shown to those it refuses.")
@click.option("--for", "lasting", callback=duration, default="8h", show_default=True,
              metavar="DURATION", help="How long at most: 90m, 8h, 1d12h.")  # fmt: skip
def lock(*, reason: str, lasting: timedelta, **options: Any) -> int:
    """Hold a target: every apply is refused, your own too, until you unlock it or the time is over.

    The exit code is 6 while a run or another person holds it.
    """
    reason = " ".join("".join(c if c.isprintable() else " " for c in reason).split())
    if not reason:
        raise click.BadParameter("say why", param_hint="--reason")
    asked = {"reason": reason, "seconds": int(lasting.total_seconds())}
    return _show(options, *_ask(options, state="present", **asked))


@click.command("unlock", context_settings=SETTINGS)
@query_options
@click.option("--force", is_flag=True, help="Also what another person or a run holds.")
@YES
def unlock(*, force: bool, yes: bool, **options: Any) -> int:
    """Give back the lock that you hold on a target.

    With --force take the target from whoever holds it, which the target's name must confirm.
    """
    numbers = {}
    if force:
        held = {host: found["lease"] for host, found in _ask(options, state="read")[0].items()}
        numbers = {host: lease["number"] for host, lease in held.items() if lease}
        if numbers and not yes:
            _confirm(options["target"], held)
    return _show(options, *_ask(options, state="absent", force=force, numbers=numbers))


def _confirm(target: str, held: Mapping[str, Any]) -> None:
    """Have the target's name typed; RefusedError for anything else."""
    from runbook.flow.confirm import require_name, say

    for host, lease in held.items():
        say(f"{host}: {text.holder(lease)}")
    say("A run that loses its lease stops at its next change.")
    if not sys.stdin.isatty():
        raise RefusedError(
            "Refused: there is no terminal to ask on; nothing was changed.\n"
            "Give --yes to go on without being asked."
        )
    require_name(target)


def _ask(options: Mapping[str, Any], **wanted: Any) -> tuple[dict[str, Any], ExitCode]:
    return query.ask_each("lock", options, {"lock": {**wanted, "holder": operator()}})


def _show(options: Mapping[str, Any], answers: Mapping[str, Any], code: ExitCode) -> int:
    if options["as_json"]:
        hosts = {
            host: {"changed": found["changed"], "lease": found["lease"]}
            for host, found in answers.items()
        }
        click.echo(json.dumps({"hosts": hosts}))
        return code
    for host, found in answers.items():
        before = "" if found["changed"] else "was "
        click.echo(f"{host}: {before}{text.holder(found['lease'])}")
    return code
