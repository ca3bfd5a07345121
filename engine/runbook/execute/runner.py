"""The only place that knows ansible-runner: runs a playbook, and hands its events on.

- Private: every run has a folder of its own (0700, below ``RUNBOOK_HOME/private``), removed at its
  end however it ends; what a killed run left is removed by the next. ansible-runner writes the
  command line and the environment into it, so both reach ansible through a pipe (``launch``).
- ansible-runner works on a thread of its own (``process``); events are published on the caller's.
"""

from __future__ import annotations

import contextlib
import gc
import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook.errors import ExitCode, worst
from runbook.events.model import Event, HostCounts, Notice, TaskResult, failures
from runbook.execute.child import patches
from runbook.execute.child.channel import ANSWER
from runbook.execute.environment import (
    MOST,
    MOST_LOCAL,
    callbacks,
    facts,
    settings,
    transport,
)
from runbook.execute.process import AnsibleProcess, launched
from runbook.execute.watch import Seen, Watch
from runbook.home import expanded
from runbook.load import vault
from runbook.sandbox.state import Home, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from runbook.events.redaction import Redactor
    from runbook.load.source import Source


#: Hosts at a time unless said otherwise: Ansible's number, if there are no more.
FEWEST = 5


@dataclass(frozen=True)
class Request:
    """One call of ansible-playbook, in its terms."""

    playbook: Path
    inventory: str
    target: str = ""  # the inventory's name in messages
    check: bool = False
    diff: bool = False
    extra_vars: tuple[str, ...] = ()
    limit: str = ""
    tags: str = ""
    skip_tags: str = ""
    forks: int = 0  # unless given, as many as there are hosts, at most MOST or MOST_LOCAL
    hosts: int = 1  # how many, as far as known
    verbosity: int = 0
    become: bool = False
    become_password: str | None = None
    vault_passwords: Mapping[str, str] = field(default_factory=dict)  # asked for: by -J or by id
    vault_password_files: tuple[str, ...] = ()
    vault_ids: tuple[str, ...] = ()
    start_at_task: str = ""
    ask: Callable[[str], str] | None = None
    strategy: str = "linear"
    local: bool = False
    sandboxed: bool = False  # Inventory.sandboxed
    held: bool = False  # to Outcome.planned of the check run, which ``Ansible.run`` is given
    saved: Mapping[str, str] = field(default_factory=dict)  # id and run of a plan file
    run_id: str = ""  # of the journals; without one ansible's process makes it
    map: bool = False  # whether to look where the sites of the run lie, for a report

    @classmethod
    def of(cls, source: Source, *, limit: str, **options: Any) -> Request:
        """A request for the playbook, the target and the parameters of ``source``."""
        assert source.playbook is not None
        assert source.inventory is not None
        return cls(
            playbook=source.playbook,
            inventory=source.target.inventory,
            target=source.target.name,
            extra_vars=source.extra.arguments,
            limit=limit,
            local=source.inventory.local,
            sandboxed=source.inventory.sandboxed,
            hosts=len(source.inventory.match(limit or "all")),
            **options,
        )

    def arguments(self) -> list[str]:
        """The command line of ansible-playbook."""
        most = MOST_LOCAL if self.local else MOST
        named = {
            "--inventory": self.inventory,
            "--limit": self.limit,
            "--tags": self.tags,
            "--skip-tags": self.skip_tags,
            "--start-at-task": self.start_at_task,
            "--forks": str(self.forks or min(max(self.hosts, FEWEST), most)),
        }
        flags = {
            "--check": self.check,
            "--diff": self.check or self.diff,
            "--become": self.become,
            "--step": self.ask is not None,
            "--ask-become-pass": self.become_password is not None,
            "--ask-vault-pass": vault.ASKED in self.vault_passwords,
            f"-{'v' * self.verbosity}": self.verbosity > 0,
        }
        arguments = [flag for flag, wanted in flags.items() if wanted]
        for name, value in named.items():
            arguments += [name, value] if value else []
        for variables in self.extra_vars:
            arguments += ["--extra-vars", variables]
        for file in self.vault_password_files:
            arguments += ["--vault-password-file", str(expanded(file).absolute())]
        for identity in self.vault_ids:
            name, _, source = identity.rpartition("@")
            source = source if source == "prompt" else str(expanded(source).absolute())
            arguments += ["--vault-id", f"{name or 'default'}@{source}"]
        return [*arguments, str(self.playbook)]


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    ``unfinished`` is the step that was running when it was cut off, ``unchecked`` are those that a
    check could only skip. ``planned``: what each step returned, as its module holds itself to it in
    the real run (``translate.planned``); with secrets as Ansible masks them, so for no renderer.
    Empty for a step that its condition left out, unless it depends on what was not checked.
    """

    exit_code: ExitCode
    hosts: Mapping[str, HostCounts]
    results: tuple[TaskResult, ...]
    message: str = ""
    unfinished: str = ""
    unchecked: tuple[str, ...] = ()
    planned: Mapping[str, Any] = field(default_factory=dict)
    #: By host, the fact ``runbook_answer`` of a query, with its secrets.
    answers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        """Whether a step changed, or in a check would change, something."""
        return any(result.changed for result in self.results)

    @property
    def failed(self) -> set[str]:
        """The hosts that failed or could not be reached."""
        return {host for host, counts in self.hosts.items() if counts.bad}

    @property
    def plan(self) -> list[dict[str, Any]]:
        """Every planned change of the run with its host, in order, without what was only read."""
        return [
            {"host": result.host, **item}
            for result in self.results
            if result.changed
            for item in result.plan
        ]


class Ansible:
    """An ansible process that has the environment of one request, and waits for its arguments."""

    def __init__(self, request: Request, redactor: Redactor, process: AnsibleProcess) -> None:
        self._request, self._process = request, process
        self._watch = Watch(redactor, process.channel, process.events, request.ask)
        process.cancelled = self._watch.cancelled
        process.channel.launch(_environment(request, process))

    def run(
        self,
        publish: Callable[[Event], None],
        begun: Callable[[Seen], None] = lambda _seen: None,
        places: Mapping[str, Mapping[str, Any]] | None = None,
        planned: Mapping[str, Any] | None = None,
    ) -> Outcome:
        """Run the playbook, publishing events as they come.

        ``places``: the parameters that are set (``RunInput.places``). If a secret one has no value,
        or one that cannot be masked, before a play begins, the outcome is INVALID. ``planned``:
        what a request that is ``held`` is held to.

        ``begun`` is called when ansible has read all variables, so that the redactor knows the
        secret ones, before the first play, with the public ones as the play's tasks see them, and
        again, with all of them, when a later play has more hosts. An interruption (SIGINT,
        SIGTERM, SIGHUP) ends ansible, and the outcome says so.
        """
        if self._request.held:
            _plan_of(self._process.folder).write_text(json.dumps(planned), encoding="utf-8")
        known = sandbox_state(self._process.folder) if self._request.sandboxed else []
        arguments = [*known, *self._request.arguments()]
        self._process.channel.launch({"arguments": arguments, "places": dict(places or {})})

        way = f"Strategy {self._request.strategy}: {transport(local=self._request.local)}"
        untold = [way] if self._request.verbosity else []

        def begin(seen: Seen) -> None:
            begun(seen)
            while untold:
                publish(Notice("verbose", untold.pop()))

        self._watch.follow(publish, begin)
        code = self._process.exit_code()
        self._watch.finish()
        self._watch.explain(code)
        files = sorted(self._process.folder.glob(f"{ANSWER}*.json"))
        answers = {
            file.stem.removeprefix(ANSWER): json.loads(file.read_text(encoding="utf-8"))
            for file in files
        }
        return replace(_outcome(self._watch, code), answers=answers)


def sandbox_state(folder: Path) -> list[str]:
    """``-e`` with what the lookup ``sandbox_state`` gives, in a file in ``folder``.

    The tasks of a run evaluate the lookup 130 times. Nothing without a sandbox: the lookup says so.
    """
    state = State.load(Home.current())
    if state is None:
        return []
    file = folder / "sandbox.json"
    file.write_text(json.dumps({"sandbox_state": asdict(state)}), encoding="utf-8")
    return ["--extra-vars", f"@{file}"]


@contextlib.contextmanager
def started(
    request: Request, redactor: Redactor, process: AnsibleProcess | None = None
) -> Iterator[Ansible]:
    """An ansible process for ``request``; it imports what it needs and waits for ``run``.

    ``process``: one that was launched before, and is ended here too.
    """
    with contextlib.ExitStack() as stack:
        if process is None:
            process = stack.enter_context(launched(dict(_typed_passwords(request))))
        else:
            stack.callback(process.end)
        patches.close_at_once()
        gc.freeze()
        gc.enable()
        yield Ansible(request, redactor, process)


def _environment(request: Request, process: AnsibleProcess) -> dict[str, str]:
    """The whole environment of a request."""
    folder = process.folder
    chosen = {
        **settings(request.strategy, folder, request.hosts),
        **(callbacks() if request.run_id else {}),
    }
    given = {**process.environment, **chosen, **facts(folder), "RUNBOOK_TARGET": request.target}
    if patches.fast():
        given["RUNBOOK_IN_PROCESS" if request.local else "RUNBOOK_OVER_SSH"] = "1"
    if request.held:
        given["RUNBOOK_PLANNED"] = str(_plan_of(folder))
    if request.saved:
        given["RUNBOOK_SAVED_PLAN"] = json.dumps(dict(request.saved))
    if request.run_id:
        given["RUNBOOK_RUN"] = request.run_id
    if request.map:
        given["RUNBOOK_MAP"] = "yes"
    if request.ask:
        given["RUNBOOK_ANSWERS"] = str(folder / "answers")
    return given


def _plan_of(folder: Path) -> Path:
    """The file with what the run in a private folder is held to."""
    return folder / "planned.json"


def _typed_passwords(request: Request) -> Iterator[tuple[re.Pattern[str], str]]:
    """The questions for passwords on the process's own terminal, and what was typed for them."""
    if request.become_password is not None:
        yield re.compile(r"BECOME password.*:\s*$", re.MULTILINE), request.become_password
    for name, password in request.vault_passwords.items():
        asked = "" if name == vault.ASKED else re.escape(f" ({name})")
        yield re.compile(rf"Vault password{asked}:\s*$", re.MULTILINE), password


def _outcome(watch: Watch, code: int | None) -> Outcome:
    exit_code = _exit_code(watch, code)
    return Outcome(
        exit_code,
        watch.hosts,
        tuple(watch.results),
        _message(watch, exit_code),
        watch.running if exit_code == ExitCode.INTERRUPTED else "",
        tuple(watch.unchecked),
        _planned(watch),
    )


def _planned(watch: Watch) -> dict[str, Any]:
    """The plan that the real run is held to; empty entries count only if every step was checked."""
    return {step: done for step, done in watch.planned.items() if done or not watch.unchecked}


def _exit_code(watch: Watch, code: int | None) -> ExitCode:
    """The exit code that a run's end means; ansible's own code only says whether all went well."""
    if watch.broken:
        return ExitCode.FAILED
    if watch.invalid:
        return ExitCode.INVALID
    if code == 0:
        return ExitCode.OK
    if watch.asked:
        return ExitCode.INTERRUPTED
    codes = [result.exit_code for result in failures(watch.results, watch.hosts).values()]
    return worst(codes) if codes else ExitCode.FAILED


def _message(watch: Watch, exit_code: ExitCode) -> str:
    """The messages of the steps that failed, of several hosts each with its name; or ansible's."""
    if exit_code in (ExitCode.OK, ExitCode.INTERRUPTED):
        return ""
    ended = failures(watch.results, watch.hosts)
    failed = [*ended.values()] or [r for r in watch.results if r.failed][-1:]
    several = len(watch.hosts) > 1
    said = [f"{f'{r.host}: ' if several else ''}{r.task}: {r.message}" for r in failed]
    return "\n".join(said or watch.errors)
