"""The only place that knows ansible-runner: runs a playbook, and hands its events on.

- Private: every run has a folder of its own (0700, below ``RUNBOOK_HOME/private``), removed at its
  end however it ends; what a killed run left is removed by the next. ansible-runner writes the
  command line and the environment into it, so both reach ansible through a pipe (``launch``).
- ansible-runner works on a thread of its own; events are published on the caller's.
"""

from __future__ import annotations

import contextlib
import gc
import json
import re
import sys
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook import processes
from runbook.errors import ExitCode, RunbookError, worst
from runbook.events.model import Event, HostCounts, Notice, TaskResult, failures
from runbook.execute.child import patches
from runbook.execute.environment import (
    MOST,
    callbacks,
    environment,
    may_be_kept,
    settings,
    transport,
)
from runbook.execute.private import private_folder
from runbook.execute.watch import POLL, Channel, Seen, Watch
from runbook.home import expanded
from runbook.load import vault
from runbook.sandbox.state import Home, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from runbook.events.redaction import Redactor


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
    forks: int = 0  # unless given, as many as there are hosts, at most MOST
    hosts: int = 1  # how many, as far as known
    verbosity: int = 0
    become: bool = False
    become_password: str | None = None
    vault_passwords: Mapping[str, str] = field(default_factory=dict)  # asked for: by -J or by id
    vault_password_files: tuple[str, ...] = ()
    vault_ids: tuple[str, ...] = ()
    start_at_task: str = ""
    ask: Callable[[str], str] | None = None
    strategy: str = ""
    local: bool = False
    sandboxed: bool = False  # Inventory.sandboxed
    planned: Mapping[str, Any] = field(default_factory=dict)  # Outcome.planned of the check run
    saved: Mapping[str, str] = field(default_factory=dict)  # id and run of a plan file
    run_id: str = ""  # of the journals; without one ansible's process makes it
    map: bool = False  # whether to look where the sites of the run lie, for a report

    def arguments(self) -> list[str]:
        """The command line of ansible-playbook."""
        named = {
            "--inventory": self.inventory,
            "--limit": self.limit,
            "--tags": self.tags,
            "--skip-tags": self.skip_tags,
            "--start-at-task": self.start_at_task,
            "--forks": str(self.forks or min(max(self.hosts, FEWEST), MOST)),
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
        """Every planned change of the run, in order, without what a step only looked at."""
        return [item for result in self.results if result.changed for item in result.plan]


class Ansible:
    """An ansible process that was started for one request, and waits for its arguments."""

    def __init__(self, request: Request, redactor: Redactor, folder: Path) -> None:
        self._request, self._folder = request, folder
        self._channel = Channel(folder)
        self._watch = Watch(redactor, self._channel, request.ask)
        self._transport = transport(request.strategy, local=request.local)
        self._runner, given = _runner(request, self._transport.strategy, self._watch, folder)
        self._channel.launch(given)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="ansible-runner")
        self._thread.start()

    def run(
        self,
        publish: Callable[[Event], None],
        begun: Callable[[Seen], None] = lambda _seen: None,
        needed: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Outcome:
        """Run the playbook, publishing events as they come.

        ``needed``: the secret parameters that must have a value before a play begins
        (``RunInput.secrets``); else the outcome is INVALID.

        ``begun`` is called when ansible has read all variables, so that the redactor knows the
        secret ones, before the first play, with the public ones as the play's tasks see them. An
        interruption (SIGINT, SIGTERM, SIGHUP) ends ansible, and the outcome says so.
        """
        known = sandbox_state(self._folder) if self._request.sandboxed else []
        arguments = [*known, *self._request.arguments()]
        self._channel.launch({"arguments": arguments, "needed": dict(needed or {})})

        def begin(seen: Seen) -> None:
            begun(seen)
            if self._request.verbosity:
                publish(Notice("verbose", "Strategy {}: {}".format(*self._transport)))

        self._watch.follow(publish, begin)
        self._thread.join()
        if self._failure:
            raise self._failure
        self._watch.finish()
        self._watch.explain(self._runner.rc)
        return _outcome(self._watch, self._runner.rc)

    def end(self) -> None:
        """End a process that got no arguments, or that is no longer followed."""
        self._watch.kill()
        self._channel.launch(None)
        self._thread.join()
        self._channel.close()

    def _run(self) -> None:
        try:
            _with_a_terminal(self._runner.run)
        except BaseException as error:  # noqa: BLE001 - raised in the main thread
            self._failure = error
        finally:
            self._watch.ended()


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
def started(request: Request, redactor: Redactor) -> Iterator[Ansible]:
    """An ansible process for ``request``; it imports what it needs and waits for ``run``."""
    patches.close_at_once()
    gc.freeze()
    gc.enable()
    processes.adopt_orphans()
    with private_folder() as folder:
        ansible = Ansible(request, redactor, folder)
        try:
            yield ansible
        finally:
            ansible.end()


def _runner(
    request: Request, plugin: str, watch: Watch, folder: Path
) -> tuple[Any, dict[str, str]]:
    """ansible-runner's runner, and the whole environment for ansible's process."""
    from ansible_runner import Runner, RunnerConfig

    chosen = {**settings(plugin, folder, request.hosts), **(callbacks() if request.run_id else {})}
    config = RunnerConfig(
        private_data_dir=str(folder),
        ident="run",
        suppress_env_files=True,
        fact_cache_type="",
        envvars=chosen,
        playbook="-",
    )
    config.prepare()
    given = {**environment(config.env, set(chosen), folder), "RUNBOOK_TARGET": request.target}
    if request.local and plugin == "linear" and patches.fast():
        given["RUNBOOK_IN_PROCESS"] = "1"
    if request.planned and not request.check:
        (folder / "planned.json").write_text(json.dumps(request.planned), encoding="utf-8")
        given["RUNBOOK_PLANNED"] = str(folder / "planned.json")
    if request.saved:
        given["RUNBOOK_SAVED_PLAN"] = json.dumps(dict(request.saved))
    if request.run_id:
        given["RUNBOOK_RUN"] = request.run_id
    if request.map:
        given["RUNBOOK_MAP"] = "yes"
    if request.ask:
        given["RUNBOOK_ANSWERS"] = str(folder / "answers")
    config.env = {name: value for name, value in given.items() if may_be_kept(name)}
    # As settings these would be forgotten: without a file of them, ansible-runner empties them.
    config.pexpect_timeout = POLL
    config.suppress_ansible_output = config.suppress_output_file = True
    config.cwd = str(Path.cwd())
    launch = "runbook.execute.child.launch"
    config.command = [sys.executable, "-P", "-m", launch, str(folder / "launch")]
    config.expect_passwords = {**dict(_answers(request)), **config.expect_passwords}
    return Runner(config, event_handler=watch.event, cancel_callback=watch.cancelled), given


def _with_a_terminal(start: Callable[[], object]) -> None:
    """Start ansible, to which ansible-runner gives a terminal of its own; say when there is none.

    Python raises an OSError without a number where the system has no pseudo-terminal left.
    """
    try:
        start()
    except OSError as error:
        if "pty" not in str(error):
            raise
        raise RunbookError(
            "cannot start Ansible: the system gives no pseudo-terminal (out of pty devices). "
            "Mount /dev/pts (mount -t devpts devpts /dev/pts), or raise kernel.pty.max if all "
            "are in use; a container must be started with /dev/pts"
        ) from error


def _answers(request: Request) -> Iterator[tuple[re.Pattern[str], str]]:
    """The questions on the run's own terminal, with their answers."""
    yield re.compile(r"continue connecting \(yes/no[^)]*\)\? ?$", re.MULTILINE), "no"
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
