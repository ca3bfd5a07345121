"""Ansible's strategy linear, with one worker process for a step of a check on several hosts.

Ansible forks a process for each step and host, which copies each page that it writes to: a third of
the CPU time of a check of 16 hosts on this machine. Here the worker of a host goes on with others.

Only steps of this collection, and only in a check. In a real run one host would wait while another
one's step waits for a lock, and the lease on it would expire; all else is queued as Ansible does.
"""

# ruff: noqa: SLF001 - a strategy plugin uses what StrategyBase uses

from __future__ import annotations

import math
import os
import time
from typing import Any

from ansible import context
from ansible.errors import AnsibleError
from ansible.executor.process.worker import WorkerProcess
from ansible.plugins import loader
from ansible.plugins.strategy import linear

DOCUMENTATION = """
name: runbook_linear
short_description: Ansible's strategy linear, with fewer processes for a check of several hosts
description:
  - In a check, a worker process executes a step of this collection on several hosts.
version_added: "0.1.0"
"""

#: Worker processes for each processor: while one waits for a server, another one works.
PROCESSES = 2
#: Seconds between two looks whether a worker process has ended, when there is no room for another.
POLL = 0.001


class Worker(WorkerProcess):  # type: ignore[misc]
    """Executes a task on its host, then on the hosts of ``others``, which are never started."""

    others: tuple[Worker, ...] = ()
    _leader: Worker | None = None

    def lead(self, others: list[Worker], number: int) -> None:
        """Take over ``others``; ``number`` is what the parent knows this process by."""
        self.others, self.worker_id = (*others,), number
        for each in others:
            each._leader, each.worker_id, each.worker_queue = self, number, self.worker_queue

    def run(self) -> None:
        """Execute; a task is validated in place, and a host loses its variables."""
        for each in (self, *self.others):
            task, host = each._task, each._host
            each._task = task.copy(exclude_parent=True, exclude_tasks=True)
            each._task._parent = task._parent
            variables, groups = host.vars, host.groups
            super(Worker, each).run()
            host.vars, host.groups = variables, groups

    def _detach(self) -> None:
        if self._leader is None:
            super()._detach()

    def _term(self, signum: int, frame: Any) -> None:
        super(Worker, self._leader or self)._term(signum, frame)


class StrategyModule(linear.StrategyModule):  # type: ignore[misc]
    """See the module."""

    def __init__(self, tqm: Any) -> None:
        super().__init__(tqm)
        self._waiting: list[Worker] = []
        self._share = 1

    def run(self, iterator: Any, play_context: Any) -> Any:
        """Run a play on a batch of its hosts."""
        processes = min(len(self._workers), PROCESSES * (os.cpu_count() or 1))
        self._share = math.ceil(iterator.batch_size / processes)
        return super().run(iterator, play_context)

    def _queue_task(self, host: Any, task: Any, task_vars: Any, play_context: Any) -> None:
        if self._share == 1 or not _shareable(task):
            self._start()
            super()._queue_task(host, task, task_vars, play_context)
            return
        self._blocked_hosts[host.name] = True
        self._queued_task_cache[host.name, task._uuid] = {
            "host": host,
            "task": task,
            "task_vars": task_vars,
            "play_context": play_context,
        }
        worker = Worker(
            final_q=self._final_q,
            task_vars=task_vars,
            host=host,
            task=task,
            play_context=play_context,
            loader=self._loader,
            variable_manager=self._variable_manager,
            shared_loader_obj=loader.get_plugin_loader_namespace(),
            worker_id=0,
            cliargs=context.CLIARGS,
        )
        self._tqm.send_callback("v2_runner_on_start", host, task)
        self._waiting.append(worker)
        self._pending_results += 1
        if len(self._waiting) == self._share:
            self._start()

    def _wait_on_pending_results(self, iterator: Any) -> Any:
        self._start()
        return super()._wait_on_pending_results(iterator)

    def _start(self) -> None:
        """Start a process for the workers that wait."""
        if not self._waiting:
            return
        leader, *others = self._waiting
        self._waiting = []
        number = self._free()
        leader.lead(others, number)
        self._workers[number] = leader
        leader.start()

    def _free(self) -> int:
        """The number of a worker that has ended, if there was one; waits for one.

        Raises AnsibleError if one was killed: its results never come.
        """
        while True:
            if self._tqm.has_dead_workers():
                raise AnsibleError("A worker was found in a dead state")
            for number, worker in enumerate(self._workers):
                if worker is None or not worker.is_alive():
                    if worker is not None:
                        worker.close()
                    return number
            time.sleep(POLL)


def _shareable(task: Any) -> bool:
    """Whether a worker may execute a task on several hosts."""
    return (
        task.action.startswith("labeller.runbook.")
        and task.check_mode is True
        and not task.throttle
    )
