"""``apply``: load → plan (a check run) → confirm → execute. Each stop has its exit code."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from runbook import processes
from runbook.errors import ExitCode, LockedError, RefusedError, RunbookError
from runbook.events import journal, score
from runbook.events.journal import Journal, new_run_id
from runbook.events.model import (
    Event,
    Notice,
    ParametersRead,
    Publisher,
    Result,
    RunFinished,
    RunStarted,
    Subscriber,
    TaskResult,
)
from runbook.events.redaction import Redactor
from runbook.events.render import fleet, text
from runbook.events.render.people import Detail
from runbook.events.render.summary import Summary
from runbook.execute import runner
from runbook.flow import resume, saved
from runbook.flow.confirm import Passwords, ask_passwords, ask_step, confirm, say
from runbook.flow.sandboxed import bring_up
from runbook.home import expanded, operator
from runbook.load import plan_file, vault
from runbook.load.run_input import RunInput, load
from runbook.load.source import Selection, Source

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from runbook.execute.process import AnsibleProcess
    from runbook.execute.watch import Seen
    from runbook.flow.resume import Unfinished
    from runbook.load.plan_file import PlanFile


@dataclass(frozen=True)
class Options:
    """The options of ``runbook apply`` and ``runbook plan`` (runbook.commands.apply).

    ``out``: where a check run is saved, to be applied within ``lifetime``. ``plan``: a saved one,
    which the options that select what is done come from, as they do from the run that is resumed.
    """

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
    strategy: str = "linear"
    as_json: bool = False
    reports: tuple[str, ...] = ()
    quiet: bool = False
    detailed_exitcode: bool = False
    verbose: int = 0
    out: str = ""
    lifetime: timedelta = saved.LIFETIME
    plan: PlanFile | None = None
    resumes: Unfinished | None = None
    journaled: bool = True


def apply(
    options: Options, show: Subscriber | None = None, process: AnsibleProcess | None = None
) -> ExitCode:
    """Do what ``options`` say; gives the exit code. Errors become a result, and are raised.

    ``show`` takes the events in place of a renderer for people or programs. ``process``: for the
    first run of ansible, if it was launched before.
    """
    redactor = Redactor()
    summary = _detail(options).summary()
    shown: list[Subscriber] = [_outliving_its_reader(show or _renderer(options)), summary]
    publisher = Publisher(redactor, [*shown, *_reports(options)])
    flow = _Apply(options, redactor, publisher, summary, process)
    try:
        code = flow.run()
    except RunbookError as error:
        problems = [asdict(problem) for problem in getattr(error, "problems", [])]
        publisher.publish(flow.result(error.exit_code, str(error), problems))
        clean = type(error)(redactor.text(str(error)))
        clean.exit_code = error.exit_code
        raise clean from error
    publisher.publish(flow.result(code))
    return code


def _reports(options: Options) -> list[Subscriber]:
    """The files to be written; InvalidInputError for one that cannot be."""
    if not options.reports:
        return []
    from runbook.events.render.report.file import ReportFile

    return [ReportFile(expanded(file), say) for file in options.reports]


def _renderer(options: Options) -> Subscriber:
    """The one renderer of this call."""
    if options.as_json:
        from runbook.events.render.jsonlines import JsonLines

        return JsonLines()
    from runbook.events.render.people import Brief, Plain, Terminal, is_terminal

    if options.quiet:
        return Brief(only_check=options.check)

    detail = _detail(options)
    return Terminal(detail, live=not options.step) if is_terminal(sys.stdout) else Plain(detail)


def _detail(options: Options) -> Detail:
    return Detail(options.diff, options.verbose, asked=_asked(options))


def _asked(options: Options) -> bool:
    """Whether a question follows the check, and has to show its summary: stdout is elsewhere."""
    seen = sys.stdout.isatty() and not (options.as_json or options.quiet)
    return sys.stdin.isatty() and not (seen or options.yes or options.check)


def _outliving_its_reader(show: Subscriber) -> Subscriber:
    """``show``, which falls silent when the reader of its output has gone: the run goes on."""

    def shown(event: Event) -> None:
        try:
            show(event)
        except BrokenPipeError:
            processes.silence()

    return shown


class _Apply:
    """One call of ``apply``: what its stages share."""

    def __init__(
        self,
        options: Options,
        redactor: Redactor,
        publisher: Publisher,
        summary: Summary,
        process: AnsibleProcess | None,
    ) -> None:
        self._options = options
        self._summary = summary
        self._redactor = redactor
        self._publisher = publisher
        self._process = process
        self._run_id = new_run_id()
        self._outcome: runner.Outcome | None = None
        self._check = True
        self._journal: Journal | None = None
        self._planned: Sequence[TaskResult] = ()
        self._unchecked: Sequence[str] = ()
        self._seen: Seen = {}
        self._plan_sha256 = options.plan.sha256 if options.plan else ""

    def run(self) -> ExitCode:
        """Every stage in turn."""
        options = self._options
        if options.step and not sys.stdin.isatty():
            raise RefusedError("--step asks before each step, and there is no terminal to ask on.")
        source = Source.named(options.playbook, options.target, options.extra_vars)
        self._redactor.learn(source.extra.secrets())
        passwords = ask_passwords(
            options.vault_id, become=options.ask_become_pass, vaults=options.ask_vault_password
        )
        self._redactor.learn([passwords.become, passwords.vaults])
        if options.validate:
            self._load(source, passwords)
            return ExitCode.OK
        request = self._request(source, passwords)
        if options.plan:
            return self._saved(options.plan, request, source, passwords)
        with contextlib.ExitStack() as ends:
            return self._planned_first(request, source, passwords, ends)

    def _planned_first(
        self,
        request: runner.Request,
        source: Source,
        passwords: Passwords,
        ends: contextlib.ExitStack,
    ) -> ExitCode:
        """The check run, the question and the real run, which is held to the check run.

        The process of the real run is started when the check run finds something to do, and ended
        with ``ends``: it imports what it needs meanwhile. It has no input before the question is
        answered.
        """
        options = self._options
        ask = ask_step if options.step else None
        held = replace(request, check=False, ask=ask, held=True, map=True)
        real: list[runner.Ansible] = []

        def start() -> runner.Ansible:
            if not real:
                real.append(ends.enter_context(runner.started(held, self._redactor)))
            return real[0]

        def ahead(event: Event) -> None:
            if isinstance(event, TaskResult) and event.changed:
                start()

        if not options.check:
            self._publisher.subscribe(ahead)
        # Also with --yes: what can be known to fail must fail before anything is touched.
        planned, given = self._checked(request, source, passwords)
        if planned.exit_code != ExitCode.OK or not (planned.changed or planned.unchecked):
            self._advise(planned, planned.failed)
            return planned.exit_code
        if options.check:
            pending = options.detailed_exitcode and planned.changed
            return ExitCode.CHANGES if pending else ExitCode.OK
        self._require_unlocked(planned)
        if not options.yes:
            shown = self._summary if _asked(options) else None
            confirm(planned.plan, source.target.name, shown, self._changed_hosts(planned))
        bound = saved.bound(given, self._seen, asdict(options), planned.planned, self._redactor)
        self._keep(bound)
        begun, self._check, self._planned = time.monotonic(), False, planned.results
        self._unchecked = planned.unchecked
        return self._run(start(), given, begun, planned.planned).exit_code

    def _checked(
        self, request: runner.Request, source: Source, passwords: Passwords
    ) -> tuple[runner.Outcome, RunInput]:
        """The check run and its input. The plan is saved, or held to the run that is resumed."""
        options, begun = self._options, time.monotonic()
        if options.out:
            saved.require_no_secret(source)
            plan_file.require_place(options.out)
        with runner.started(request, self._redactor, self._process) as ansible:
            given = self._load(source, passwords)
            if options.resumes:
                resume.require_same(options.resumes, given)
            bring_up(source.target)
            if options.journaled:
                self._begin_journal()
            planned = self._run(ansible, given, begun)
        if planned.exit_code == ExitCode.OK:
            if options.out:
                self._save(planned, given)
            if options.resumes:
                self._verify(options.resumes, planned, given, passwords)
        return planned, given

    def _saved(
        self, plan: PlanFile, request: runner.Request, source: Source, passwords: Passwords
    ) -> ExitCode:
        """Apply a saved plan, or only see whether that would be accepted."""
        plan_file.require_fresh(plan)
        if self._options.check:
            plan_file.require_same(plan, self._load(source, passwords))
            bring_up(source.target)
            saved.require_accepted(plan, asdict(self._options), passwords)
            say(
                f"{plan.file}: the target accepts this plan. Nothing was changed: this was a check."
            )
            return ExitCode.OK
        by = {"id": plan.sha256, "run": self._run_id}
        held = replace(request, check=False, held=True, saved=by, map=True)
        begun, self._check, self._planned = time.monotonic(), False, saved.results(plan)
        self._unchecked = plan.content["unchecked"]
        with runner.started(held, self._redactor, self._process) as ansible:
            given = self._load(source, passwords)
            plan_file.require_same(plan, given)
            bring_up(source.target)
            self._begin_journal()
            self._keep(plan.content)
            return self._run(ansible, given, begun, plan.held()).exit_code

    def _save(self, planned: runner.Outcome, given: RunInput) -> None:
        """Write the plan file."""
        options = self._options
        content = saved.content(
            planned, given, self._seen, asdict(options), options.lifetime, self._redactor
        )
        self._plan_sha256 = plan_file.write(options.out, content)
        say(
            f"Plan: {options.out}, SHA-256 {self._plan_sha256}, to be applied by "
            f"{text.moment(content['expires_at'])}."
        )

    def _verify(
        self, run: Unfinished, planned: runner.Outcome, given: RunInput, passwords: Passwords
    ) -> None:
        """Say which steps of a run that is resumed are done; raise if any of them is not."""
        parameters = saved.parameters(given, self._seen, self._redactor)
        done = resume.require_unmoved(run, planned, parameters, asdict(self._options), passwords)
        if done:
            say(f"Done in {run.run_id}, and as it left it: {', '.join(done)}.")
        if not (planned.changed or planned.unchecked):
            say(f"Nothing is left to do of {run.named}.")

    def _keep(self, bound: Mapping[str, Any]) -> None:
        """Keep what the real run that now begins is given."""
        assert self._journal is not None
        resumes = self._options.resumes
        given = resume.given(bound, self._redactor, self._plan_sha256, resumes)
        self._journal.keep_input(given)

    def result(
        self, code: ExitCode, message: str = "", problems: Sequence[dict[str, Any]] = ()
    ) -> Result:
        """The result of the command so far."""
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
            plan_sha256=self._plan_sha256,
        )

    def _load(self, source: Source, passwords: Passwords) -> RunInput:
        """The input, its warnings published; InvalidError for all that is wrong with it."""
        options = self._options
        selection = Selection(options.tags, options.skip_tags, options.limit, options.start_at_task)
        opened = vault.passwords(passwords.vaults, options.vault_password_file, options.vault_id)
        given = load(source, selection, opened)
        for warning in given.warnings:
            self._publisher.publish(Notice("warning", str(replace(warning, warning=False))))
        return given

    def _begin_journal(self) -> None:
        """Keep the events from now on; what cannot be removed of old ones stops no run."""
        try:
            journal.prune()
        except OSError as error:
            text = f"old runs of the journal stay: cannot remove {error.filename}: {error.strerror}"
            self._publisher.publish(Notice("warning", text))
        self._journal = Journal(self._run_id, quiet=self._options.quiet)
        self._publisher.subscribe(self._journal)

    def _run(
        self,
        ansible: runner.Ansible,
        given: RunInput,
        begun: float,
        planned: Mapping[str, Any] | None = None,
    ) -> runner.Outcome:
        """One run of ansible, from its beginning to its end, for whoever follows it."""
        check = self._check
        started = False

        def start(seen: Seen) -> None:
            nonlocal started
            parameters = given.differing(seen) if seen else {}
            if not started:
                name, target = given.name, given.source.target.name
                about = (self._run_id, name, target, check, parameters, self._options.limit)
                self._publisher.publish(RunStarted(*about, operator()))
            elif seen:
                self._publisher.publish(ParametersRead(parameters))
            self._seen, started = seen or self._seen, True

        outcome = self._outcome = ansible.run(self._publisher.publish, start, given.places, planned)
        start({})  # ansible ended before it knew which values are secret
        left = {}
        if not check and outcome.exit_code != ExitCode.OK:
            left = score.left(self._planned, outcome.results)
        self._publisher.publish(
            RunFinished(
                check,
                outcome.exit_code,
                outcome.changed,
                round(time.monotonic() - begun, 3),
                outcome.unfinished,
                list(outcome.unchecked if check else self._unchecked),
                [] if check else self._unplanned(outcome, {*left, *outcome.failed}),
                left,
                self._not_checked(outcome, given),
            )
        )
        return outcome

    def _not_checked(self, outcome: runner.Outcome, given: RunInput) -> list[str]:
        """The hosts that a check that failed did not come to."""
        if not self._check or outcome.exit_code == ExitCode.OK:
            return []
        come_to = {*outcome.hosts, *(result.host for result in outcome.results)}
        return fleet.ordered({*self._seen, *given.hosts} - come_to)

    def _changed_hosts(self, planned: runner.Outcome) -> str:
        """The hosts that a plan changes, in words; empty if they are the whole target, one host."""
        changed = {result.host for result in planned.results if result.changed}
        several = len(planned.hosts) > 1 or self._options.limit
        return fleet.named(changed, planned.hosts) if several else ""

    def _require_unlocked(self, planned: runner.Outcome) -> None:
        """Raise LockedError if a person has locked hosts, before anything is asked."""
        locked = {each.host: each.message for each in planned.results if each.locked}
        if locked:
            self._advise(planned, {*locked})
            raise LockedError("\n".join(f"{host}: {said}" for host, said in locked.items()))

    def _advise(self, planned: runner.Outcome, bad: set[str]) -> None:
        """After a check with some ``bad`` ones of several hosts, say how to leave those out."""
        if bad and {*planned.hosts, *self._seen} - bad:
            limit = fleet.without(self._options.limit, bad)
            say(f"To go on without {', '.join(fleet.ordered(bad))}: --limit '{limit}'")

    def _unplanned(self, outcome: runner.Outcome, but: Collection[str]) -> list[str]:
        """The differences between the plan and a real run, on the hosts where it ended well."""
        plan = [result for result in self._planned if result.host not in but]
        done = [result for result in outcome.results if result.host not in but]
        return score.unplanned(plan, done, seen=not self._unchecked)

    def _request(self, source: Source, passwords: Passwords) -> runner.Request:
        """The check run, as ansible-playbook takes it."""
        options = self._options
        return runner.Request.of(
            source,
            limit=options.limit,
            check=True,
            diff=options.diff,
            tags=",".join(options.tags),
            skip_tags=",".join(options.skip_tags),
            forks=options.forks or 0,
            verbosity=options.verbose,
            become=options.become,
            become_password=passwords.become,
            vault_passwords=passwords.vaults,
            vault_password_files=options.vault_password_file,
            vault_ids=options.vault_id,
            start_at_task=options.start_at_task,
            strategy=options.strategy,
            run_id=self._run_id,
            map=bool(options.reports or options.out),
        )
