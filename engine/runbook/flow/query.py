"""Questions to a target: a packaged playbook runs there; each host's answer comes back as a file.

The playbook writes what it found to ``{{ answers }}/HOST.json`` on this machine.
"""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook.errors import ExitCode, InvalidInputError, RunbookError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from runbook.events.model import Event


def ask(
    question: str,
    options: Mapping[str, Any],
    variables: Mapping[str, Any] | None = None,
    *,
    check: bool = False,
) -> dict[str, Any]:
    """Each host's answer to ``playbooks/queries/QUESTION.yml``, without secrets.

    Failures are raised with the module's exit code.
    """
    from runbook import collection
    from runbook.events.redaction import Redactor
    from runbook.execute import runner
    from runbook.flow.confirm import ask_vault_passwords
    from runbook.flow.sandboxed import bring_up
    from runbook.load import targets, vault
    from runbook.load.run_input import load
    from runbook.load.source import Selection, Source

    playbook = collection.root() / "playbooks/queries" / f"{question}.yml"
    target = targets.target(options["target"])
    redactor = Redactor()
    with tempfile.TemporaryDirectory(prefix="runbook-") as answers:
        given = (*options["extra_vars"], json.dumps({**(variables or {}), "answers": answers}))
        source = Source.of(playbook, target, given)
        redactor.learn(source.extra.secrets())
        asked = ask_vault_passwords(options["vault_id"], wanted=options["ask_vault_password"])
        redactor.learn(asked.values())
        files, identities = options["vault_password_file"], options["vault_id"]
        request = runner.Request(
            playbook=playbook,
            inventory=target.inventory,
            target=target.name,
            check=check,
            extra_vars=source.extra.arguments,
            limit=options["limit"],
            vault_passwords=asked,
            vault_password_files=files,
            vault_ids=identities,
            local=source.inventory is not None and source.inventory.local,
        )
        with runner.started(request, redactor) as ansible, shown() as show:
            opened = vault.passwords(asked, files, identities)
            secrets = load(source, Selection(limit=options["limit"]), opened).secrets
            bring_up(target)
            outcome = ansible.run(show, needed=secrets)
        if outcome.exit_code == ExitCode.INTERRUPTED:
            raise KeyboardInterrupt
        if outcome.exit_code != ExitCode.OK:
            raise _failure(outcome.exit_code, redactor.text(_messages(outcome)))
        found = {
            path.stem: redactor.value(json.loads(path.read_text(encoding="utf-8")))
            for path in sorted(Path(answers).glob("*.json"))
        }
    if not found:
        raise InvalidInputError(f"target {target.name} has no host")
    return found


@contextmanager
def shown() -> Iterator[Callable[[Event], None]]:
    """A subscriber of a run's events, which on a terminal shows the step that is running."""
    from runbook.events.render.people import is_terminal

    if not is_terminal(sys.stderr):
        yield lambda _: None
        return
    from rich.console import Console

    from runbook.events.render.live import Live

    live = Live(Console(stderr=True))
    try:
        yield live
    finally:
        live.stop()


def _messages(outcome: Any) -> str:
    failed = [
        f"{result.host}: {result.message}"
        for result in outcome.results
        if result.status in ("failed", "unreachable")
    ]
    return "\n".join(failed) or outcome.message or "ansible could not be run"


def _failure(code: ExitCode, message: str) -> RunbookError:
    error = RunbookError(message)
    error.exit_code = code
    return error
