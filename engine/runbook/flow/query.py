"""Questions to a target: a packaged playbook runs there; each host's answer comes back as a fact.

The playbook sets the fact ``runbook_answer`` to what it found, as JSON.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runbook.errors import ExitCode, InvalidInputError, RunbookError, worst

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from runbook.events.model import Event
    from runbook.events.redaction import Redactor
    from runbook.execute.runner import Outcome
    from runbook.flow.confirm import Passwords


@dataclass(frozen=True)
class Answers:
    """By host, what was answered, or why there is no answer; and how the run ended."""

    found: Mapping[str, Any]
    failed: Mapping[str, str]
    exit_code: ExitCode

    @property
    def problems(self) -> list[str]:
        """Why there is no answer, a text for each host."""
        return [f"{host}: {message}" for host, message in self.failed.items()]


def merged(answers: Mapping[str, Answers]) -> Answers:
    """The answers of several targets; a host that several have is ``TARGET: HOST``.

    The exit code is the worst one.
    """
    counted = Counter(host for each in answers.values() for host in (*each.found, *each.failed))

    def named(target: str, of: Mapping[str, Any]) -> dict[str, Any]:
        return {
            host if counted[host] == 1 else f"{target}: {host}": value for host, value in of.items()
        }

    found: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for target, each in answers.items():
        found |= named(target, each.found)
        failed |= named(target, each.failed)
    return Answers(found, failed, worst(each.exit_code for each in answers.values()))


def ask(
    question: str,
    options: Mapping[str, Any],
    variables: Mapping[str, Any] | None = None,
    *,
    check: bool = False,
    passwords: Passwords | None = None,
) -> dict[str, Any]:
    """Each host's answer to ``playbooks/queries/QUESTION.yml``, without secrets.

    ``passwords``: those that were typed for an apply, whose ``options`` these are; then ``-e`` may
    give parameters that the query does not use. Failures are raised with the module's exit code.
    """
    answers = survey(question, options, variables, check=check, passwords=passwords)
    if answers.failed:
        raise _failure(answers.exit_code, "\n".join(answers.problems))
    return dict(answers.found)


def ask_each(
    question: str,
    options: Mapping[str, Any],
    variables: Mapping[str, Any] | None = None,
    *,
    check: bool = False,
) -> tuple[dict[str, Any], ExitCode]:
    """As ``ask``, but if any host answers, failures of others are only said, and their exit code.

    For questions whose answers must not be kept back.
    """
    from runbook.flow.confirm import say

    answers = survey(question, options, variables, check=check)
    if not answers.found:
        raise _failure(answers.exit_code, "\n".join(answers.problems))
    for problem in answers.problems:
        say(problem)
    return dict(answers.found), answers.exit_code


def survey(
    question: str,
    options: Mapping[str, Any],
    variables: Mapping[str, Any] | None = None,
    *,
    check: bool = False,
    passwords: Passwords | None = None,
) -> Answers:
    """As ``ask``, but a host that fails does not keep the others' answers back.

    What no host could answer, as invalid input, is raised.
    """
    from runbook import collection
    from runbook.events.redaction import Redactor
    from runbook.execute import runner
    from runbook.flow.confirm import Passwords, ask_vault_passwords
    from runbook.flow.sandboxed import bring_up
    from runbook.load import targets, vault
    from runbook.load.run_input import load
    from runbook.load.source import Selection, Source

    playbook = collection.root() / "playbooks/queries" / f"{question}.yml"
    target = targets.target(options["target"])
    redactor = Redactor()
    given = (*options["extra_vars"], *([json.dumps(dict(variables))] if variables else ()))
    source = Source.of(playbook, target, given)
    redactor.learn(source.extra.secrets())
    typed = passwords or Passwords(
        None, ask_vault_passwords(options["vault_id"], wanted=options["ask_vault_password"])
    )
    redactor.learn([typed.become, typed.vaults])
    request = runner.Request.of(
        source,
        limit=options["limit"],
        check=check,
        become=options.get("become", False),
        become_password=typed.become,
        vault_passwords=typed.vaults,
        vault_password_files=options["vault_password_file"],
        vault_ids=options["vault_id"],
    )
    with runner.started(request, redactor) as ansible, shown() as show:
        files, identities = options["vault_password_file"], options["vault_id"]
        opened = vault.passwords(typed.vaults, files, identities)
        selection = Selection(limit=options["limit"], others=passwords is not None, asks=True)
        places = load(source, selection, opened).places
        bring_up(target)
        outcome = ansible.run(show, places=places)
    if outcome.exit_code == ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    found = _answers(outcome, redactor)
    if not found.found and not found.failed:
        raise InvalidInputError(f"target {target.name} has no host")
    return found


def _answers(outcome: Outcome, redactor: Redactor) -> Answers:
    """The answers of those who answered, and the messages of those who failed."""
    failed = {
        result.host: redactor.text(result.message)
        for result in outcome.results
        if result.status in ("failed", "unreachable")
    }
    if outcome.exit_code != ExitCode.OK and not failed:
        message = redactor.text(outcome.message) or "ansible could not be run"
        raise _failure(outcome.exit_code, message)
    found = {
        host: redactor.value(answer)
        for host, answer in outcome.answers.items()
        if host not in failed
    }
    return Answers(found, failed, outcome.exit_code)


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


def _failure(code: ExitCode, message: str) -> RunbookError:
    error = RunbookError(message)
    error.exit_code = code
    return error
