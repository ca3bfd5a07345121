"""``apply``: validate → plan (a check run) → confirm → execute. Each stop has its exit code."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook import collection
from runbook.errors import ExitCode, InvalidInputError, RefusedError, RunbookError
from runbook.events import journal
from runbook.events.journal import Journal, new_run_id
from runbook.events.model import (
    Event,
    Notice,
    Publisher,
    Result,
    RunFinished,
    RunStarted,
    Subscriber,
)
from runbook.events.redaction import Redactor
from runbook.events.render import text
from runbook.execute import runner
from runbook.home import expanded
from runbook.load import inventory, parameters, schemas, targets, vault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runbook.load.diagnostics import Problem

#: Actions of planned changes that take something away; so does any change that deletes rows.
DESTRUCTIVE = frozenset({"clear", "delete", "drop", "remove", "replace", "restore", "terminate"})


@dataclass(frozen=True)
class Options:
    """The options of ``runbook apply`` (runbook.commands.apply)."""

    playbook: str
    target: str
    extra_vars: tuple[str, ...] = ()
    check: bool = False
    validate: bool = False
    diff: bool = False
    yes: bool = False
    limit: str = ""
    tags: tuple[str, ...] = ()
    skip_tags: tuple[str, ...] = ()
    start_at_task: str = ""
    step: bool = False
    forks: int | None = None
    become: bool = False
    ask_become_pass: bool = False
    ask_vault_password: bool = False
    vault_password_file: tuple[str, ...] = ()
    vault_id: tuple[str, ...] = ()
    strategy: str = ""
    as_json: bool = False
    quiet: bool = False
    detailed_exitcode: bool = False
    verbose: int = 0


def apply(options: Options) -> ExitCode:
    """Do what ``options`` say; gives the exit code. Errors become a result, and are raised."""
    redactor = Redactor()
    publisher = Publisher(redactor, [_outliving_its_reader(_renderer(options))])
    flow = _Apply(options, redactor, publisher)
    try:
        code = flow.run()
    except RunbookError as error:
        problems = [asdict(problem) for problem in getattr(error, "problems", [])]
        publisher.publish(flow.result(error.exit_code, str(error), problems))
        raise type(error)(redactor.text(str(error))) from error
    publisher.publish(flow.result(code))
    return code


class InvalidError(InvalidInputError):
    """All problems of the input, each a line."""

    problems: Sequence[Problem] = ()

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> InvalidError:
        """The error of these problems."""
        error = cls("\n".join(str(problem) for problem in problems))
        error.problems = problems
        return error


def _renderer(options: Options) -> Subscriber:
    """The one renderer of this call."""
    if options.as_json:
        from runbook.events.render.jsonlines import JsonLines

        return JsonLines()
    from runbook.events.render.people import Brief, Detail, Plain, Terminal, is_terminal

    if options.quiet:
        return Brief(only_check=options.check)

    detail = Detail(options.diff, options.verbose)
    return Terminal(detail, live=not options.step) if is_terminal(sys.stdout) else Plain(detail)


def _outliving_its_reader(show: Subscriber) -> Subscriber:
    """``show``, which falls silent when the reader of its output has gone: the run goes on."""

    def shown(event: Event) -> None:
        from runbook.cli import silence

        try:
            show(event)
        except BrokenPipeError:
            silence()

    return shown


class _Apply:
    """One call of ``apply``: what its stages share."""

    def __init__(self, options: Options, redactor: Redactor, publisher: Publisher) -> None:
        self._options = options
        self._redactor = redactor
        self._publisher = publisher
        self._run_id = new_run_id()
        known = schemas.parameters()
        self._secret = {name for name, schema in known.items() if schema.get("writeOnly")}
        self._public = set(known) - self._secret
        self._extra = parameters.ExtraVars()
        self._become_password: str | None = None
        self._vault_passwords: dict[str, str] = {}
        self._outcome: runner.Outcome | None = None
        self._check = True

    def run(self) -> ExitCode:
        """Every stage in turn."""
        options = self._options
        if options.step and not sys.stdin.isatty():
            raise RefusedError("--step asks before each step, and there is no terminal to ask on.")
        self._find()
        self._ask_passwords()
        if options.validate:
            self._validate()
            return ExitCode.OK
        # Also with --yes: what can be known to fail must fail before anything is touched.
        planned = self._execute(check=True, before=self._prepare)
        if planned.exit_code != ExitCode.OK or not (planned.changed or planned.unchecked):
            return planned.exit_code
        if options.check:
            pending = options.detailed_exitcode and planned.changed
            return ExitCode.CHANGES if pending else ExitCode.OK
        if not options.yes:
            confirm(planned, self._target.name)
        return self._execute(check=False).exit_code

    def result(
        self, code: ExitCode, message: str = "", problems: Sequence[dict[str, Any]] = ()
    ) -> Result:
        """What the command came to so far."""
        done = self._outcome
        return Result(
            code,
            run_id=self._run_id,
            playbook=self._options.playbook,
            target=self._options.target,
            check=self._check,
            changed=done is not None and done.changed,
            message=message or (done.message if done else ""),
            problems=list(problems),
            hosts=done.hosts if done else {},
            plan=done.plan if done else [],
        )

    def _find(self) -> None:
        """What the names of playbook and target mean."""
        options = self._options
        self._target = targets.target(options.target)
        self._playbook = targets.playbook(options.playbook)
        self._extra = parameters.parse_extra_vars(options.extra_vars)
        given = self._extra.values.items()
        self._redactor.learn(value for name, value in given if name in self._secret)

    def _validate(self) -> None:
        """Everything that can be wrong in the input, at once."""
        options = self._options
        warnings = validated(
            self._playbook,
            self._target,
            self._extra,
            tags=options.tags,
            skip_tags=options.skip_tags,
            limit=options.limit or None,
            start_at_task=options.start_at_task,
            passwords=vault.passwords(
                self._vault_passwords, options.vault_password_file, options.vault_id
            ),
        )
        for warning in warnings:
            self._publisher.publish(Notice("warning", str(warning)))

    def _prepare(self) -> None:
        """The input; then the target, if it is the packaged sandbox, and the journal."""
        self._validate()
        bring_up(self._target)
        self._prune()
        self._publisher.subscribe(Journal(self._run_id))

    def _prune(self) -> None:
        """Make room in the journal; what cannot be removed stops no run."""
        try:
            journal.prune()
        except OSError as error:
            text = f"old runs of the journal stay: cannot remove {error.filename}: {error.strerror}"
            self._publisher.publish(Notice("warning", text))

    def _execute(self, *, check: bool, before: Callable[[], None] = lambda: None) -> runner.Outcome:
        """One run of ansible with its beginning and its end; ``before`` may still stop it."""
        self._check = check
        started = False

        def ready() -> None:
            before()
            _ = self._shown_parameters  # worked out while ansible is being imported

        def start(parameters: dict[str, Any]) -> None:
            nonlocal started
            if not started:
                name, target = self._playbook.name, self._target.name
                self._publisher.publish(RunStarted(self._run_id, name, target, check, parameters))
            started = True

        begun = time.monotonic()
        outcome = self._outcome = runner.run(
            self._request(check=check),
            self._publisher.publish,
            self._redactor,
            (self._secret, self._public),
            ready,
            lambda: start(self._shown_parameters),
        )
        start({})  # ansible ended before it knew which values are secret
        self._publisher.publish(
            RunFinished(
                check,
                outcome.exit_code,
                outcome.changed,
                round(time.monotonic() - begun, 3),
                outcome.unfinished,
                list(outcome.unchecked) if check else [],
            )
        )
        return outcome

    def _request(self, *, check: bool) -> runner.Request:
        options = self._options
        return runner.Request(
            playbook=self._playbook,
            inventory=self._target.inventory,
            check=check,
            diff=options.diff,
            extra_vars=tuple(map(self._extra_vars, options.extra_vars)),
            limit=options.limit,
            tags=",".join(options.tags),
            skip_tags=",".join(options.skip_tags),
            forks=options.forks or 0,
            verbosity=options.verbose,
            become=options.become,
            become_password=self._become_password,
            vault_passwords=self._vault_passwords,
            vault_password_files=options.vault_password_file,
            vault_ids=options.vault_id,
            start_at_task=options.start_at_task,
            ask=ask_step if options.step and not check else None,
            strategy=options.strategy,
            local=self._local,
            planned={} if check or self._outcome is None else self._outcome.planned,
        )

    @cached_property
    def _local(self) -> bool:
        """Whether the target is this machine; the check run and the real one ask."""
        return inventory.read(self._target).local

    @cached_property
    def _shown_parameters(self) -> dict[str, Any]:
        """The parameters that differ from their defaults, secrets masked."""
        return {
            f"{found.name} [{found.host}]" if found.host else found.name: found.value
            for found in parameters.resolve(self._playbook, self._target, self._extra)
            if found.differs
        }

    @staticmethod
    def _extra_vars(option: str) -> str:
        """An ``-e`` as ansible takes it: typed values as JSON; a file, perhaps a vault, by name."""
        if option.startswith("@"):
            return f"@{expanded(option[1:]).absolute()}"
        return json.dumps(dict(parameters.parse_extra_vars([option]).values), default=str)

    def _ask_passwords(self) -> None:
        options = self._options
        if options.ask_become_pass:
            self._become_password = ask("Become password", hidden=True)
        self._vault_passwords = ask_vault_passwords(options.ask_vault_password, options.vault_id)
        self._redactor.learn([self._become_password, self._vault_passwords])


def ask_vault_passwords(wanted: bool, identities: Sequence[str]) -> dict[str, str]:  # noqa: FBT001
    """The passwords of ``-J`` and of ``--vault-id ID@prompt``, typed at the terminal."""
    names = [vault.ASKED] if wanted else []
    return {
        name: ask("Vault password" + (f" ({name})" if name != vault.ASKED else ""), hidden=True)
        for name in [*names, *vault.prompts(identities)]
    }


def validated(
    playbook: Path, target: targets.Target, extra: parameters.ExtraVars, **selection: Any
) -> list[Problem]:
    """The warnings about a run's input (``checks.check``); InvalidError for all else, at once."""
    from runbook.load import checks  # here, while ansible is being imported

    found = checks.check(playbook, target, extra, **selection)
    if problems := [problem for problem in found if not problem.warning]:
        raise InvalidError.of(problems)
    return list(found)


def bring_up(target: targets.Target) -> None:
    """Start the target if it is ours, the sandbox."""
    if is_sandbox(target):
        from runbook.sandbox import lifecycle

        lifecycle.ensure_up()


def is_sandbox(target: targets.Target) -> bool:
    """Whether a target is the packaged sandbox, which starts by itself."""
    return target.path is not None and _same(target.path, collection.root() / "inventories/sandbox")


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def destructive(item: Mapping[str, Any]) -> bool:
    """Whether a planned change takes something away that was there."""
    taken = any(number and "deleted" in name for name, number in (item.get("counts") or {}).items())
    return item.get("action") in DESTRUCTIVE or taken


def confirm(planned: runner.Outcome, target: str) -> None:
    """Ask whether to go on; RefusedError unless the answer is the right one.

    What takes something away needs the target's name typed; the rest needs ``y``.
    """
    for line in text.headlines(planned.results):
        say(line)
    changes = text.real(planned.plan)
    losses = [item for item in changes if destructive(item)]
    if losses:
        say(f"This deletes or replaces, on {target}:")
        for item in losses:
            say(f"  {text.item(item)}")
        if ask(f"Type the target's name ({target}) to go on").strip() != target:
            raise RefusedError("Not confirmed: nothing was changed.")
    elif ask(f"Make these changes on {target}? (y/N)").strip().lower() not in ("y", "yes"):
        raise RefusedError("Not confirmed: nothing was changed.")


def ask_step(question: str) -> str:
    """Ansible's question before a step (``--step``)."""
    return ask(question.strip().removesuffix(":"))


def say(line: str) -> None:
    """Tell the person at the terminal; stdout may be for a program."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def ask(question: str, *, hidden: bool = False) -> str:
    """The answer typed at the terminal; RefusedError when there is none."""
    import click

    if not sys.stdin.isatty():
        raise RefusedError(
            f"Refused: there is no terminal to ask on ({question}); nothing was changed.\n"
            "Give --yes to go on without being asked, or --check to only look."
        )
    try:
        answer: str = click.prompt(
            question, hide_input=hidden, err=True, default="", show_default=False
        )
    except click.Abort:
        raise KeyboardInterrupt from None
    return answer
