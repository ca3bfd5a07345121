"""The cost of holding a run to its plan, of the target's journal and of the lease, together.

``apply regular.yml --yes`` of this project beside the same of a copy that has none of the three, in
turn, on a sandbox that is made new before each: locally, and over ssh on loopback where an sshd can
be started. And ``apply FILE`` beside the copy's apply, which has to plan first.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.engine import PROJECT, TIMES, clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTS = ("engine", "galaxy.yml", "inventories", "meta", "playbooks", "plugins", "roles", "schemas")
#: In which files of the copy what is replaced, so that it holds, journals and leases nothing.
REMOVED = (
    ("plugins/module_utils/held.py", "    if planned is None:\n", "    if True:\n"),
    (
        "plugins/module_utils/journal.py",
        "    if not about or not any(change.changed for change in changes):\n",
        "    if True:\n",
    ),
    ("plugins/module_utils/transaction.py", "if real else None", "if False else None"),
    ("playbooks/tasks/verify.yml", "register: lease\n", "register: not_taken\n  when: false\n"),
    (
        "playbooks/tasks/release.yml",
        'number: "{{ lease.number }}"\n',
        'number: "{{ lease.number }}"\n  when: false\n',
    ),
    ("roles/parameters/vars/main.yml", "lease_number:", "lease: {number: }\nlease_number:"),
)


def main() -> None:
    """Print a line for each figure."""
    with tempfile.TemporaryDirectory() as folder:
        without = _copy(Path(folder) / "without")
        for name, bound, target in (("locally", 1.05, _local), ("over ssh", 1.08, over_ssh)):
            with target(Path(folder)) as box:
                if box:
                    _print(name, bound, box, without)


def _print(name: str, bound: float, box: Box, without: Path) -> None:
    held, bare = box.in_turn(PROJECT, without)
    print(
        f"hold, journal and lease, {name}: {held:5.2f} s, without {bare:5.2f} s, "
        f"ratio {held / bare:.3f} (bound {bound:.2f})"
    )
    saved = statistics.median(box.of_a_file() for _ in range(TIMES))
    print(f"apply FILE, {name}: {saved:5.2f} s, ratio {saved / bare:.3f} (bound 1.05)")


def _copy(folder: Path) -> Path:
    """The project without what is measured."""
    for part in PARTS:
        source = PROJECT / part
        copy = shutil.copytree if source.is_dir() else shutil.copy
        folder.mkdir(exist_ok=True)
        copy(source, folder / part)
    for path, before, after in REMOVED:
        text = (folder / path).read_text()
        if before not in text:
            sys.exit(f"{path} has changed: this benchmark finds no {before!r} in it")
        (folder / path).write_text(text.replace(before, after))
    return folder


@dataclass
class Box:
    """A sandbox, and the inventory by which a run reaches it."""

    home: Path
    inventory: str = "sandbox"
    journal: list[str] = field(default_factory=list)

    def run(self, project: Path, *arguments: str) -> str:
        """The output of a command of the engine in ``project``, which must end well."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "runbook", *arguments],
            env={**clean_environment(), "RUNBOOK_HOME": str(self.home),
                 "PYTHONPATH": str(project / "engine")},
            cwd=project, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode != 0:
            sys.exit(f"{' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def seconds(self, project: Path, *arguments: str) -> float:
        """How long an apply takes on a sandbox that is new."""
        begun = time.perf_counter()
        self.run(project, "apply", *arguments, "-i", self.inventory, "--yes")
        return time.perf_counter() - begun

    def in_turn(self, *projects: Path) -> list[float]:
        """The median of each project, after a round to warm up."""
        taken: dict[Path, list[float]] = {project: [] for project in projects}
        for number in range(TIMES + 1):
            for project in projects:
                self.run(PROJECT, "sandbox", "reset")
                figure = self.seconds(project, "regular.yml")
                self._check_journal(project)
                if number:
                    taken[project].append(figure)
        return [statistics.median(figures) for figures in taken.values()]

    def _check_journal(self, project: Path) -> None:
        """Exit unless the project journals and the copy does not."""
        told = json.loads(self.run(PROJECT, "history", "-i", self.inventory, "--json"))
        ((_, found),) = told["hosts"].items()
        new = [run["run"] for run in found if run["run"] not in self.journal]
        if bool(new) is not (project == PROJECT):
            sys.exit(f"{project}: {len(new)} new runs in the target's journal")
        self.journal += new

    def of_a_file(self) -> float:
        """How long ``apply FILE`` takes on a new sandbox."""
        self.run(PROJECT, "sandbox", "reset")
        plan = self.home / "plan.json"
        plan.unlink(missing_ok=True)
        self.run(PROJECT, "plan", "regular.yml", "-i", self.inventory, "-o", str(plan))
        begun = time.perf_counter()
        self.run(PROJECT, "apply", str(plan), "--yes")
        return time.perf_counter() - begun


@contextlib.contextmanager
def _local(folder: Path) -> Iterator[Box]:
    box = Box(folder / "home")
    box.run(PROJECT, "sandbox", "up")
    try:
        yield box
    finally:
        box.run(PROJECT, "sandbox", "down")


@contextlib.contextmanager
def over_ssh(folder: Path) -> Iterator[Box | None]:
    """A sandbox and a target that uses its services: a user of this machine, behind an sshd.

    None where this machine cannot have one.
    """
    sys.path.insert(0, str(PROJECT / "tests" / "support"))
    import sshd  # type: ignore[import-not-found]  # of the tests

    if missing := sshd.missing():
        print(f"over ssh: not measured, for want of {missing}")
        yield None
        return
    keys = folder / "sshd"
    keys.mkdir()
    with _local(folder) as box, sshd.target(keys) as reached:
        told = json.loads(box.run(PROJECT, "sandbox", "status", "--json"))
        labeller = reached.home / "labeller"
        packed = ["tar", "-C", told["labeller_home"], "-c", "."]
        archive = subprocess.run(packed, check=True, capture_output=True).stdout
        reached.run("mkdir", "-p", str(labeller))
        unpack = ("tar", "-C", str(labeller), "--no-same-owner", "-x")
        reached.run(*unpack, input=archive)
        inventory = folder / "inventory"
        shutil.copytree(PROJECT / "inventories/sandbox/group_vars", inventory / "group_vars")
        variables = {**reached.host_variables(), "labeller_home": str(labeller),
                     "crontab_file": "", "journal_folder": ""}  # fmt: skip
        hosts = {"all": {"hosts": {"labeller9": variables}}}
        (inventory / "hosts.yml").write_text(json.dumps(hosts))
        yield Box(box.home, str(inventory))
