"""Following a run: its events are translated and published, and it is ended when asked to."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from runbook import processes
from runbook.events.model import (
    Event,
    HostCounts,
    Notice,
    Progress,
    Recap,
    TaskResult,
    TaskStarted,
)
from runbook.events.redaction import Redactor
from runbook.execute import translate
from runbook.execute.process import POLL
from runbook.home import home

if TYPE_CHECKING:
    from runbook.execute.process import Channel

#: By host, the public parameters as the tasks of a play see them.
Seen = Mapping[str, Mapping[str, Any]]

#: Seconds that an interrupted ansible has to end its modules, and then to end by itself.
MODULE_GRACE = 1.0
GRACE = 5.0


class Watch:
    """Follows one run: ``raw`` are ansible-runner's events, and None when none comes any more."""

    def __init__(
        self,
        redactor: Redactor,
        channel: Channel,
        raw: queue.SimpleQueue[Mapping[str, Any] | None],
        ask: Callable[[str], str] | None = None,
    ) -> None:
        self.results: list[TaskResult] = []
        self.errors: list[str] = []
        self._written: deque[str] = deque(maxlen=10)
        self.hosts: Mapping[str, HostCounts] = {}
        self.running = ""
        self.asked = 0
        self.asking = False
        self.unchecked: list[str] = []
        self.planned: dict[str, list[dict[str, Any]]] = {}
        self.broken = self.invalid = False
        self._redactor, self._channel, self._ask = redactor, channel, ask
        self._publish: Callable[[Event], None] = lambda _: None
        self._begun: Callable[[Seen], None] = lambda _seen: None
        self._seen: dict[str, Mapping[str, Any]] | None = None
        self._raw = raw
        self._kill = False
        self._pid = 0
        self._reached: dict[str, dict[str, Any]] = {}
        self._others: set[processes.Process] = set()
        self._interrupted = 0.0

    def cancelled(self) -> bool:
        """Whether ansible-runner is to kill the process group."""
        return self._kill

    def follow(
        self, publish: Callable[[Event], None], begun: Callable[[Seen], None] = lambda _seen: None
    ) -> None:
        """Publish the run's events until it has ended.

        ``begun`` is called when ansible has read all variables, before the first event, with
        those that it may show, and again when a later play has more hosts. Signals end the run
        instead of raising somewhere in the middle.
        """
        self._publish, self._begun = publish, begun
        with _interruptible(self):
            while True:
                raw: Mapping[str, Any] | None = {}
                with contextlib.suppress(queue.Empty):
                    raw = self._raw.get(timeout=POLL)
                self._listen()
                if raw is None:
                    return
                if raw:
                    self._take(raw)
                self._end_if_asked()

    def explain(self, code: int | None) -> None:
        """Report a failure that neither a step nor ansible has reported, as far as it is known."""
        failed = any(result.failed for result in self.results)
        if code == 0 or self.asked or self.errors or failed:
            return
        lines = "".join(f"\n  {line}" for text in self._written for line in text.splitlines())
        self._report(
            f"ansible-playbook exited with code {code} and without an error message"
            + (f". The last lines that it wrote:{lines}" if lines else ", and wrote nothing")
        )

    def _take(self, raw: Mapping[str, Any]) -> None:
        self._pid = raw.get("pid", self._pid)
        for step, done in translate.planned(raw):
            self.planned.setdefault(step, []).extend([done] if done else [])
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
                case Notice(level="verbose"):
                    self._written.append(event.text)
            self._publish(event)

    def _listen(self) -> None:
        """Take in what ansible's process has reported, and answer what it asks."""
        for message in self._channel.read():
            if "secrets" in message:
                self._redactor.learn(message["secrets"])
                self._learn_of(message["parameters"])
            if "unchecked" in message and message["unchecked"] not in self.unchecked:
                self.unchecked.append(message["unchecked"])
            if "reached" in message:
                self._reached[message["reached"]["host"]] = message["reached"]
            if "progress" in message:
                self._publish(Progress(**message["progress"]))
            if "broken" in message and not self.broken:
                self._cut_off(message["broken"])
            for problem in message.get("invalid", ()):
                self.invalid = True
                self._report(problem)
            if "question" in message:
                self._channel.answer(self._answer(message["question"]))

    def _learn_of(self, hosts: Seen) -> None:
        """Take in the parameters of the hosts of a play; the first play that has a host counts."""
        known = self._seen or {}
        if self._seen is None or {*hosts} - {*known}:
            self._seen = {**hosts, **known}
            self._begun(self._seen)

    def _cut_off(self, reason: str) -> None:
        """End a run that can be followed no longer."""
        self.broken = True
        self._report(
            f"cannot write below {home()} ({reason}), so what happens cannot be followed: the run "
            "was cut off. Make room, and run the same command again to finish"
        )

    def _report(self, error: str) -> None:
        self.errors.append(error)
        self._publish(Notice("error", error))

    def _answer(self, question: str) -> str:
        """The operator's answer; an interruption is no, and ends the run."""
        self.asking = True
        try:
            return self._ask(question) if self._ask else ""
        except KeyboardInterrupt:
            return ""
        finally:
            self.asking = False

    def _end_if_asked(self) -> None:
        """Interrupt ansible, then its steps, then kill it."""
        if not (self.asked or self.broken):
            return
        now = time.monotonic()
        if not self._interrupted and self._pid:
            main = {found for found in [processes.Process.of(self._pid)] if found}
            self._others = processes.descendants(os.getpid(), but=main)
            processes.signal_all(main, signal.SIGINT)
        self._interrupted = self._interrupted or now
        if now - self._interrupted > MODULE_GRACE:
            processes.signal_all({p for p in self._doomed() if p.pid != self._pid}, signal.SIGTERM)
        self._kill = not self._pid or self.asked > 1 or now - self._interrupted > GRACE

    def finish(self) -> None:
        """After the run: no process of an interrupted one stays, or it is said which."""
        if self._interrupted and self._pid and (left := processes.end(self._doomed)):
            pids = " ".join(str(process.pid) for process in sorted(left, key=lambda p: p.pid))
            text = f"processes of a cut-off step still run, as another user: sudo kill {pids}"
            self._publish(Notice("warning", text))

    def _doomed(self) -> set[processes.Process]:
        """The processes that an interruption ends: ansible's, and all that it starts even now.

        What steps had started before, to stay (a daemon), is not among its descendants any more,
        and stays.
        """
        return processes.descendants(os.getpid(), but=self._others)


@contextlib.contextmanager
def _interruptible(watch: Watch) -> Iterator[None]:
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
