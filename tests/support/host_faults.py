"""Helpers of the tests of faults of hosts: connections that are cut, programs that wait, full disks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from host import PYTHON, USER, Host
from instances import IMPATIENT, Instance

from runbook.execute.unreachable import LOST

#: The names that a run left to be mapped.
OPEN = "SELECT run, count(*) FROM incoming_names WHERE NOT processed GROUP BY run"


@contextlib.contextmanager
def variables(instance: Instance, **values: object) -> Iterator[None]:
    """More variables of the inventory."""
    instance.variables.update(values)
    try:
        yield
    finally:
        for name in values:
            del instance.variables[name]


def cut(instance: Instance, *arguments: str, when: Callable[[], object]) -> None:
    """``apply ARGUMENTS`` that loses its host for good as soon as ``when()``.

    It ends with exit code 4 and the message that says what to do. Then the host is back.
    """
    host = instance.host
    with variables(instance, **IMPATIENT):
        try:
            code, said = instance.struck(
                when, lambda _: host.connect(up=False), "apply", *arguments, "--yes"
            )
        finally:
            host.connect(up=True)
    assert code == 4, said
    assert LOST in " ".join(said.split()), said


def await_end(host: Host) -> None:
    """Return when nothing that a login of this machine has started runs on the host."""
    found = f"pgrep -u {USER} -f '{PYTHON.parent}/python|^sshd: {USER}'"
    wait = f"while {found} >/dev/null; do sleep 0.1; done"
    host.run("timeout", "120", "sh", "-c", wait, user="root")


@dataclass(frozen=True)
class Waiting:
    """A program of a host that waits before it does what it is called for."""

    host: Host
    program: str
    gate: str

    def reached(self) -> bool:
        """Whether it waits."""
        return Path(f"{self.host.root}{self.gate}.reached").exists()

    def go_on(self) -> None:
        """Let it do that, if it still waits, and what it is called for later."""
        opened = f"timeout 10 sh -c ': >{self.gate}'"
        self.host.run(
            "sh", "-c", f"mv {self.program}.real {self.program}; {opened}; :", user="root"
        )


def waiting(host: Host, program: str, last: str) -> Waiting:
    """Make a program wait when its last argument is ``last``."""
    gate = f"/tmp/{Path(program).name}.gate"
    script = f"""#!/bin/sh
for last do :; done
[ "$last" = {last} ] || exec {program}.real "$@"
: >{gate}.reached
read -r _ <{gate}
exec {program} "$@"
"""
    put = f"mv {program} {program}.real; cat >{program}; chmod 755 {program}; mkfifo -m 666 {gate}"
    host.run("sh", "-ec", put, user="root", input=script)
    return Waiting(host, program, gate)
