"""The only place that knows ansible-runner: runs a playbook, and hands its events on.

- Hermetic: no ``ansible.cfg`` is read and of the operator's ``ANSIBLE_*`` settings only those that
  say how to reach hosts survive (``KEPT``); what they would break is decided by ``settings``.
- Private: every run has a folder of its own (0700, below ``RUNBOOK_HOME/private``), removed at its
  end however it ends; what a killed run left is removed by the next. ansible-runner writes the
  command line and the environment into it, so both reach ansible through a pipe (``launch``).
- Events are handed to ``publish`` as soon as they come; handlers must be quick, for ansible's
  output is not read meanwhile (ansible-runner issue 1343).
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook import collection, processes
from runbook.errors import EXIT_OF_KIND, ExitCode, RunbookError
from runbook.events.model import (
    Event,
    HostCounts,
    Notice,
    Progress,
    Recap,
    Status,
    TaskResult,
    TaskStarted,
)
from runbook.execute import translate
from runbook.execute.child import patches
from runbook.home import expanded, home, own_folder
from runbook.load import vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from runbook.events.redaction import Redactor

#: Settings of the operator that survive: how hosts are reached and vaults opened.
KEPT = re.compile(
    r"ANSIBLE_(PRIVATE_KEY_FILE|REMOTE_(USER|PORT|TEMP)|TIMEOUT|HOST_KEY_CHECKING|SSH_\w+"
    r"|VAULT_(PASSWORD_FILE|IDENTITY|IDENTITY_LIST)|BECOME_(METHOD|USER|EXE|PASSWORD_FILE)"
    r"|COLLECTIONS_PATH|ROLES_PATH)"
)

#: Settings that do not survive, unless chosen here or ``KEPT``.
FOREIGN = re.compile(r"ANSIBLE_|(JOB|AD_HOC_COMMAND|PROJECT_UPDATE)_ID$")

#: Where ansible finds other collections unless the operator says otherwise: its own default.
COLLECTIONS = "~/.ansible/collections:/usr/share/ansible/collections"

#: The oldest Mitogen that works with an ansible-core; others use Ansible's own strategy.
MITOGEN = {(2, 19): (0, 3, 29), (2, 20): (0, 3, 49), (2, 21): (0, 3, 49)}

#: Seconds between two looks at whether the run was interrupted.
POLL = 0.1

#: Seconds that an interrupted ansible has to end its modules, and then to end by itself.
MODULE_GRACE = 1.0
GRACE = 5.0


@dataclass(frozen=True)
class Request:
    """One call of ansible-playbook, in its terms."""

    playbook: Path
    inventory: str
    check: bool = False
    diff: bool = False
    extra_vars: tuple[str, ...] = ()
    limit: str = ""
    tags: str = ""
    skip_tags: str = ""
    forks: int = 0
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
    planned: Mapping[str, Any] = field(default_factory=dict)  # Outcome.planned of the check run

    def arguments(self) -> list[str]:
        """The command line of ansible-playbook."""
        named = {
            "--inventory": self.inventory,
            "--limit": self.limit,
            "--tags": self.tags,
            "--skip-tags": self.skip_tags,
            "--start-at-task": self.start_at_task,
            "--forks": str(self.forks or ""),
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
    def plan(self) -> list[dict[str, Any]]:
        """Every planned change of the run, in order, without what a step only looked at."""
        return [item for result in self.results if result.changed for item in result.plan]


def run(
    request: Request,
    publish: Callable[[Event], None],
    redactor: Redactor,
    secret_names: tuple[set[str], set[str]] = (set(), set()),
    ready: Callable[[], None] = lambda: None,
    begun: Callable[[], None] = lambda: None,
) -> Outcome:
    """Run ansible-playbook as ``request`` says, publishing events as they come.

    ``secret_names``: the names of secret parameters, and of those known to be public. ``ready`` is
    called, in a thread, while ansible is being imported; nothing is done before it has returned,
    and nothing at all if it raises: that is raised here. ``begun`` is called when ansible has read
    all variables, so that the redactor knows the secret ones, before the first play. An
    interruption (SIGINT, SIGTERM, SIGHUP) ends ansible, and the outcome says so.
    """
    from ansible_runner import Runner, RunnerConfig

    patches.close_at_once()
    with private_folder() as folder:
        watch = _Watch(publish, redactor, _Channel(folder), request.ask, begun)
        plugin = strategy(request.strategy, local=request.local)
        chosen = settings(plugin, folder)
        config = RunnerConfig(
            private_data_dir=str(folder),
            ident="run",
            suppress_env_files=True,
            fact_cache_type="",
            envvars=chosen,
            playbook="-",
        )
        config.prepare()
        given = environment(config.env, set(chosen), secret_names, folder)
        if request.local and plugin == "linear" and patches.fast():
            given["RUNBOOK_IN_PROCESS"] = "1"
        if request.planned and not request.check:
            (folder / "planned.json").write_text(json.dumps(request.planned), encoding="utf-8")
            given["RUNBOOK_PLANNED"] = str(folder / "planned.json")
        if request.ask:
            given["RUNBOOK_ANSWERS"] = str(folder / "answers")
        config.env = {name: value for name, value in given.items() if _ours(name)}
        # As settings these would be forgotten: without a file of them, ansible-runner empties them.
        config.pexpect_timeout = POLL
        config.suppress_ansible_output = config.suppress_output_file = True
        config.cwd = str(Path.cwd())
        config.command = [
            sys.executable,
            "-P",
            "-m",
            "runbook.execute.child.launch",
            str(folder / "launch"),
        ]
        config.expect_passwords = {**dict(_answers(request)), **config.expect_passwords}
        runner = Runner(config, event_handler=watch.event, cancel_callback=watch.interrupted)
        gc.freeze()
        gc.enable()
        processes.adopt_orphans()
        sender = _Sender(folder / "launch", given, request.arguments(), ready)
        with _interruptible(watch):
            sender.start()
            _with_a_terminal(runner.run)
            failure = sender.finish()
        watch.finish()
        if failure and not watch.asked:
            raise failure
        return _outcome(watch, runner.rc)


def strategy(chosen: str = "", *, local: bool = False) -> str:
    """The strategy plugin of a run: ``chosen``, else ``RUNBOOK_STRATEGY``, else what works best.

    On ``local`` hosts Ansible's own, whose workers run our modules themselves. Elsewhere Mitogen's,
    which keeps one interpreter a host, so that modules and their imports are paid for once; it is
    used when it is installed and known to work with this ansible-core.
    """
    name = chosen or os.environ.get("RUNBOOK_STRATEGY", "")
    if name:
        return {"mitogen": "mitogen_linear"}.get(name, name)
    if local or not patches.fast():
        return "linear"
    from importlib import metadata

    try:
        core, mitogen = (_version(package) for package in ("ansible-core", "mitogen"))
    except metadata.PackageNotFoundError:
        return "linear"
    oldest = MITOGEN.get((core[0], core[1]))
    return "mitogen_linear" if oldest and mitogen >= oldest else "linear"


def _version(package: str) -> tuple[int, ...]:
    from importlib import metadata

    return tuple(int(part) for part in re.findall(r"\d+", metadata.version(package))[:3])


def settings(plugin: str, folder: Path) -> dict[str, str]:
    """The ``ANSIBLE_*`` settings of a run with the strategy ``plugin`` and private ``folder``."""
    (folder / "ansible.cfg").touch()
    paths = [
        str(collection.link(folder / "collections")),
        os.environ.get("ANSIBLE_COLLECTIONS_PATH", COLLECTIONS),
    ]
    user_ssh = os.environ.get("ANSIBLE_SSH_ARGS", "-C -o ControlMaster=auto -o ControlPersist=60s")
    chosen = {
        "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
        "ANSIBLE_COLLECTIONS_PATH": os.pathsep.join(path for path in paths if path),
        "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "child/callback"),
        "ANSIBLE_STDOUT_CALLBACK": "runbook_quiet",
        "ANSIBLE_STRATEGY": plugin,
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_SSH_ARGS": user_ssh,
        "ANSIBLE_GATHERING": "explicit",
        "ANSIBLE_NOCOLOR": "True",
        "ANSIBLE_NOCOWS": "True",
        "ANSIBLE_DEPRECATION_WARNINGS": "False",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "True",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        # ansible-runner would turn it off.
        "ANSIBLE_HOST_KEY_CHECKING": os.environ.get("ANSIBLE_HOST_KEY_CHECKING", "True"),
        # ansible-runner would drop a result that is larger.
        "MAX_EVENT_RES": str(2**40),
    }
    if plugin.startswith("mitogen"):
        package = importlib.util.find_spec("ansible_mitogen")
        if package is not None and package.submodule_search_locations:
            location = Path(package.submodule_search_locations[0])
            chosen["ANSIBLE_STRATEGY_PLUGINS"] = str(location / "plugins" / "strategy")
        program = folder / "ssh"
        program.write_text(
            _SSH.format(shlex.quote(os.environ.get("ANSIBLE_SSH_EXECUTABLE", "ssh")))
        )
        program.chmod(0o700)
        chosen["ANSIBLE_SSH_EXECUTABLE"] = str(program)
    return chosen


#: Of several values of an option ssh takes the first. Mitogen gives StrictHostKeyChecking ahead of
#: the operator's arguments, which would then not count; an option that it has given already takes
#: its place. Unset, ssh asks, and Mitogen takes the question for a refusal.
_SSH = """\
#!/bin/sh
given=
for word do
    shift
    if [ -z "$given" ] && [ "$word" = "StrictHostKeyChecking yes" ]; then
        given=1
        word="LogLevel ERROR"
    fi
    set -- "$@" "$word"
done
exec {} "$@"
"""


def environment(
    prepared: Mapping[str, str],
    chosen: set[str],
    secret_names: tuple[set[str], set[str]],
    folder: Path,
) -> dict[str, str]:
    """The whole environment of ansible: what ansible-runner ``prepared`` from the operator's.

    Of Ansible's settings only those ``chosen`` here and ``KEPT`` remain, and none of the names
    that ansible-runner's callback takes for a job of AWX.
    """
    secret, public = secret_names
    user = os.environ.get("USER") or os.getuid()
    kept = {
        name: value
        for name, value in prepared.items()
        if name in chosen or KEPT.fullmatch(name) or not FOREIGN.match(name)
    }
    return {
        **kept,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)]),
        "RUNBOOK_HOME": str(home()),
        "RUNBOOK_HOLDER": f"{user}@{os.uname().nodename}, process {os.getpid()}",
        "RUNBOOK_PROCESS": process_name(os.getpid()),
        "RUNBOOK_CHANNEL": str(folder / "channel"),
        "RUNBOOK_SECRET_NAMES": json.dumps(sorted(secret)),
        "RUNBOOK_PUBLIC_NAMES": json.dumps(sorted(public)),
    }


def process_name(pid: int) -> str:
    """A process of this machine for module_utils/lease.py; empty where there is no /proc."""
    found = processes.Process.of(pid)
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return ""
    return f"{boot}/{space}/{pid}/{found.started}" if found else ""


def _ours(name: str) -> bool:
    """Whether a variable may be kept in a file by ansible-runner: those that hold no secret."""
    locale = ("HOME", "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TERM", "TMPDIR", "USER", "LOGNAME")
    return name in locale or (
        name.startswith(("ANSIBLE_", "AWX_", "RUNNER_", "RUNBOOK_", "ORIGINAL_STDOUT", "MAX_EVENT"))
        and not re.search(r"PASS(?!WORD_FILE)|TOKEN|SECRET(?!_NAMES)", name)
    )


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
    """What is asked on the run's own terminal, and the answer; nobody else can see it."""
    yield re.compile(r"continue connecting \(yes/no[^)]*\)\? ?$", re.MULTILINE), "no"
    if request.become_password is not None:
        yield re.compile(r"BECOME password.*:\s*$", re.MULTILINE), request.become_password
    for name, password in request.vault_passwords.items():
        asked = "" if name == vault.ASKED else re.escape(f" ({name})")
        yield re.compile(rf"Vault password{asked}:\s*$", re.MULTILINE), password


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A new folder of this run, 0700; removed at the end, and with it what killed runs left."""
    base = own_folder(home() / "private")
    folder = base / f"{os.getpid()}-{time.monotonic_ns()}"
    folder.mkdir(mode=0o700)
    with (folder / "alive").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for other in base.iterdir():
            if other != folder and not _alive(other):
                shutil.rmtree(other, ignore_errors=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _alive(folder: Path) -> bool:
    """Whether the run that made a private folder still holds it, or is just making it."""
    try:
        with (folder / "alive").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pid = folder.name.split("-")[0]
        return pid.isdigit() and Path(f"/proc/{pid}").exists()
    return False


class _Channel:
    """Pipes to the ansible process: what its callback tells, JSON a line, and answers to it."""

    def __init__(self, folder: Path) -> None:
        # Open for both: then neither side waits for the other, and no end of file is seen.
        self._pipes = {}
        for name in ("channel", "answers"):
            os.mkfifo(folder / name, 0o600)
            self._pipes[name] = os.open(folder / name, os.O_RDWR | os.O_NONBLOCK)
        self._rest = b""

    def read(self) -> list[dict[str, Any]]:
        """What has been told since the last time; never waits."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._pipes["channel"], 65536):
                self._rest += chunk
        *lines, self._rest = self._rest.split(b"\n")
        return [json.loads(line) for line in lines]

    def answer(self, text: str) -> None:
        os.write(self._pipes["answers"], text.splitlines()[0].encode() + b"\n" if text else b"\n")

    def close(self) -> None:
        for pipe in self._pipes.values():
            os.close(pipe)


class _Watch:
    """Follows a run: translates and publishes its events, and ends it when asked to."""

    def __init__(
        self,
        publish: Callable[[Event], None],
        redactor: Redactor,
        channel: _Channel,
        ask: Callable[[str], str] | None,
        begun: Callable[[], None] = lambda: None,
    ) -> None:
        self.results: list[TaskResult] = []
        self.errors: list[str] = []
        self.hosts: Mapping[str, HostCounts] = {}
        self.running = ""
        self.asked = 0
        self.asking = False
        self.unchecked: list[str] = []
        self.planned: dict[str, list[dict[str, Any]]] = {}
        self.broken = False
        self._publish, self._redactor, self._channel, self._ask = publish, redactor, channel, ask
        self._begun: Callable[[], None] | None = begun
        self._pid = 0
        self._reached: dict[str, dict[str, Any]] = {}
        self._others: set[processes.Process] = set()
        self._interrupted = 0.0

    def event(self, raw: Mapping[str, Any]) -> bool:
        """ansible-runner's event handler; False: nothing is to be kept on disk."""
        self._listen()
        self._pid = raw.get("pid", self._pid)
        for step, done in translate.planned(raw):
            self.planned.setdefault(step, []).append(done)
        for event in translate.events(raw, self._reached):
            if (self.asked or self.broken) and isinstance(event, Notice):
                continue  # ansible's own words about the interruption
            match event:
                case TaskStarted():
                    self.running = event.name
                case TaskResult():
                    self.results.append(event)
                case Recap():
                    self.hosts, self.running = event.hosts, ""
                case Notice(level="error"):
                    self.errors.append(event.text)
            self._publish(event)
        return False

    def _listen(self) -> None:
        """Take in what ansible's process has told, and answer what it asks."""
        for message in self._channel.read():
            if "secrets" in message:
                self._redactor.learn(message["secrets"])
                begun, self._begun = self._begun, None
                if begun:
                    begun()
            if "unchecked" in message and message["unchecked"] not in self.unchecked:
                self.unchecked.append(message["unchecked"])
            if "reached" in message:
                self._reached[message["reached"]["host"]] = message["reached"]
            if "progress" in message:
                self._publish(Progress(**message["progress"]))
            if "broken" in message and not self.broken:
                self._cut_off(message["broken"])
            if "question" in message:
                self._channel.answer(self._answer(message["question"]))

    def _cut_off(self, reason: str) -> None:
        """End a run that can be followed no longer."""
        self.broken = True
        self.errors.append(
            f"cannot write below {home()} ({reason}), so what happens cannot be followed: the run "
            "was cut off. Make room, and run the same command again to finish"
        )
        self._publish(Notice("error", self.errors[-1]))

    def _answer(self, question: str) -> str:
        """What the operator answers; an interruption is no, and ends the run."""
        self.asking = True
        try:
            return self._ask(question) if self._ask else ""
        except KeyboardInterrupt:
            return ""
        finally:
            self.asking = False

    def interrupted(self) -> bool:
        """ansible-runner's cancel callback: True makes it kill the process group."""
        self._listen()
        if not (self.asked or self.broken):
            return False
        now = time.monotonic()
        if not self._interrupted and self._pid:
            main = {found for found in [processes.Process.of(self._pid)] if found}
            self._others = processes.descendants(os.getpid(), but=main)
            processes.signal_all(main, signal.SIGINT)
        self._interrupted = self._interrupted or now
        if now - self._interrupted > MODULE_GRACE:
            processes.signal_all({p for p in self._doomed() if p.pid != self._pid}, signal.SIGTERM)
        return not self._pid or self.asked > 1 or now - self._interrupted > GRACE

    def finish(self) -> None:
        """After the run: no process of an interrupted one stays, or it is said which."""
        self._channel.close()
        if self._interrupted and self._pid and (left := processes.end(self._doomed)):
            pids = " ".join(str(process.pid) for process in sorted(left, key=lambda p: p.pid))
            text = f"processes of a cut-off step still run, as another user: sudo kill {pids}"
            self._publish(Notice("warning", text))

    def _doomed(self) -> set[processes.Process]:
        """What an interruption ends: ansible's process, and all that it starts even now.

        What steps had started before, to stay (a daemon), is not among its descendants any more,
        and stays.
        """
        return processes.descendants(os.getpid(), but=self._others)


@contextlib.contextmanager
def _interruptible(watch: _Watch) -> Iterator[None]:
    """Signals ask ``watch`` to end the run, instead of raising somewhere in the middle of it."""

    def ask(_number: int, _frame: object) -> None:
        watch.asked += 1
        if watch.asking:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Sender(threading.Thread):
    """Gives the ansible process its environment, and when all is ready its arguments."""

    def __init__(
        self,
        path: Path,
        environment: Mapping[str, str],
        arguments: list[str],
        ready: Callable[[], None],
    ) -> None:
        super().__init__(daemon=True)
        os.mkfifo(path, 0o600)
        self._path, self._environment, self._arguments = path, environment, arguments
        self._ready = ready
        self._failure: BaseException | None = None

    def run(self) -> None:
        """The thread: failures are kept for ``finish``."""
        try:
            with self._path.open("w", encoding="utf-8") as pipe:
                pipe.write(json.dumps(self._environment) + "\n")
                pipe.flush()
                self._ready()
                pipe.write(json.dumps(self._arguments) + "\n")
        except BrokenPipeError:
            return  # the process has ended, and its exit code says how
        except BaseException as error:  # noqa: BLE001 - raised in the main thread
            self._failure = error

    def finish(self) -> BaseException | None:
        """After the process has ended: what ``ready`` raised."""
        if self.is_alive():  # perhaps nobody ever read, and it still waits for a reader: be one
            os.close(os.open(self._path, os.O_RDONLY | os.O_NONBLOCK))
            self.join(1)
        return self._failure


def _outcome(watch: _Watch, code: int | None) -> Outcome:
    exit_code = _exit_code(watch, code)
    return Outcome(
        exit_code,
        watch.hosts,
        tuple(watch.results),
        _message(watch, exit_code),
        watch.running if exit_code == ExitCode.INTERRUPTED else "",
        tuple(watch.unchecked),
        watch.planned,
    )


def _exit_code(watch: _Watch, code: int | None) -> ExitCode:
    """The exit code that a run's end means; ansible's own code only says whether all went well."""
    if watch.broken:
        return ExitCode.FAILED
    if code == 0:
        return ExitCode.OK
    if watch.asked:
        return ExitCode.INTERRUPTED
    bad = {name for name, counts in watch.hosts.items() if counts.failed or counts.unreachable}
    for result in reversed(watch.results):
        if result.host in bad and result.status == Status.UNREACHABLE:
            return ExitCode.UNREACHABLE
        if result.host in bad and result.status == Status.FAILED:
            return EXIT_OF_KIND.get(result.error_kind, ExitCode.FAILED)
    return ExitCode.FAILED


def _message(watch: _Watch, exit_code: ExitCode) -> str:
    """What went wrong, in the words of the step that failed, or of ansible itself."""
    if exit_code in (ExitCode.OK, ExitCode.INTERRUPTED):
        return ""
    failed = [r for r in watch.results if r.status in (Status.FAILED, Status.UNREACHABLE)]
    if failed:
        return f"{failed[-1].task}: {failed[-1].message}"
    return "\n".join(watch.errors) or "ansible-playbook failed without a word"
