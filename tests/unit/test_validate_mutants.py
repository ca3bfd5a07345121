"""Mutants of valid input: a report or acceptance that ``apply`` shares, in bounded time and memory.

Each mutant is made from a seed, so that what fails can be made again:
``python tests/unit/test_validate_mutants.py SEED``.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook import collection
from runbook.load import targets
from runbook.load.run_input import examined
from runbook.load.source import Selection, Source

#: Of one mutant's validation: seconds, and bytes of the process's address space.
SECONDS, MEMORY = 5.0, 1 << 30

HOSTILE: list[Any] = [
    None, True, 0, -1, 10**400, 1.5, "", " ", "x", "x" * 300, "a/" * 3000, "../" * 40, "\0", "{{", "{{ x",
    "{{ undefined }}", "{{ 'a' * 10 ** 9 }}", "{{ 9 ** 9 ** 9 }}", "{{ x | nofilter }}",
    "{{ " + "(" * 500 + "1" + ")" * 500 + " }}", "{% for a in b %}", "{{ lookup('pipe', 'x') }}",
    "{{ lookup('vars', 'run_id') }}", "{# x", "x is defined", "all:!all", "a[1:99999999]", "&", "!",
    "labeller.runbook." + "x" * 300, "ansible.builtin.nothing", [], {}, ["local"], [[]], [None],
    {"": None}, {"a": {"b": {"c": [1]}}}, {"run_id": []}, [{"role": "{{ x }}"}], {"block": []},
]  # fmt: skip
TEXTS = [
    "\t", "\0", "\ufeff", "\x85", "*a", "&a ", "!vault ", "!!python/object:x ", "<<: *a\n", "? ", "- ", "{", "}",
    "[" * 100, "---\n", "...\n", "%YAML 9.9\n", "'", '"', "|", ">", "0x", "1e999", "2018-13-99", "\u2028", "#",
    "$ANSIBLE_VAULT;1.1;AES256\n", ": ", "\r", "{{ ", " }}",
]  # fmt: skip


#: Each folder's name is a short one.
LONG = "a/" * 3000 + "b.yml"


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [path, *(found for key, item in entries for found in _paths(item, (*path, key)))]


def _changed(text: str, draw: random.Random) -> str:
    """The text with a value, a key or a few characters replaced."""
    if draw.random() < 0.6:
        whole = [yaml.safe_load(text)]
        path = draw.choice(_paths(whole)[1:])
        holder: Any = whole
        for part in path[:-1]:
            holder = holder[part]
        if isinstance(holder, dict) and draw.random() < 0.3:
            key = draw.choice(
                ["x" * 300, "a.b.c", "hosts", "vars", "when", "loop", "block", "run_id", 7, ""]
            )
            holder[key] = holder.pop(path[-1])
        else:
            holder[path[-1]] = draw.choice(HOSTILE)
        return yaml.safe_dump(whole[0], sort_keys=False)
    for _ in range(draw.randint(1, 3)):
        start = draw.randrange(len(text) + 1)
        end = min(len(text), start + draw.choice([0, 0, 1, 3, 20]))
        text = text[:start] + draw.choice([*TEXTS, text[start : start + 40]]) + text[end:]
    return text


def _mutant(seed: int, folder: Path, *, packaged: bool) -> tuple[Path, targets.Target]:
    """Write a mutant into ``folder``; gives its playbook and its target."""
    draw = random.Random(seed)
    root = collection.root()
    names = ["backup.yml", "shutdown.yml"]
    if packaged:
        names = [path.name for path in targets.playbooks(root)]
    shutil.copytree(root / "playbooks", folder / "playbooks")
    shutil.copytree(root / "inventories", folder / "inventories")
    playbook = folder / "playbooks" / draw.choice(names)
    where = folder / "inventories" / draw.choice(["labeller3", "sandbox"])
    plain = [path for path in where.rglob("*.yml") if "!vault" not in path.read_text()]
    tasks = sorted((folder / "playbooks" / "tasks").glob("*.yml"))
    files = [playbook, playbook, *sorted(plain), *tasks[: 20 if packaged else 3]]
    for file in dict.fromkeys(draw.choices(files, k=draw.randint(1, 2))):
        file.write_text(_changed(file.read_text(), draw), errors="surrogatepass")
    return playbook, targets.Target(where.name, str(where), where)


def _validate(seed: int, folder: Path, *, packaged: bool) -> str:
    """The failure of a mutant as a text; empty for none."""
    playbook, target = _mutant(seed, folder, packaged=packaged)
    begun = time.process_time()
    try:
        source = Source.of(playbook, target, ["run_id=1"])
        found = examined(source, Selection(limit="all"))
        errors = [str(problem) for problem in found.problems if not problem.warning]
        if not errors:  # then apply goes on with what it loads
            _ = source.inventory and source.inventory.local, found.differing({})
    except BaseException as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"
    if any("\n" in error or not error.strip() for error in errors):
        return f"a problem of several lines or none: {errors}"
    if not all(problem.line for problem in found.problems if not problem.file.startswith("-")):
        return f"a problem without a line: {found.problems}"
    took = time.process_time() - begun
    return f"took {took:.1f} s" if took > SECONDS else ""


def run(first: int, count: int, *, packaged: bool) -> dict[int, str]:
    """The failures of ``count`` mutants, in a process whose memory is bounded."""
    arguments = [sys.executable, __file__, str(first), str(count), str(int(packaged))]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[int, str] = json.loads(done.stdout)
    return found


def test_some_mutants() -> None:
    assert run(0, 50, packaged=False) == {}


@pytest.mark.parametrize(
    "play",
    [
        {"import_playbook": LONG},
        {"hosts": "all", "tasks": [{"import_tasks": LONG}]},
        {"hosts": "all", "tasks": [{"include_tasks": LONG}]},
        {"hosts": "all", "tasks": [{"ansible.builtin.include_vars": LONG}]},
        {"hosts": "all", "tasks": [{"import_role": {"name": LONG}}]},
        {"hosts": "all", "roles": [LONG]},
        {"hosts": "all", "vars_files": [LONG]},
        {"hosts": "all", "tasks": [{"ansible.builtin.script": LONG}]},
    ],
)
def test_a_name_longer_than_a_path_may_be(tmp_path: Path, play: dict[str, Any]) -> None:
    playbook = tmp_path / "p.yml"
    playbook.write_text(yaml.safe_dump([{"name": "P", **play}]))
    where = collection.root() / "inventories/sandbox"
    source = Source.of(playbook, targets.Target("sandbox", str(where), where), [])
    assert all(problem.line for problem in examined(source, Selection(limit="all")).problems)


@pytest.mark.campaign
@pytest.mark.parametrize("first", range(10_000, 11_000, 500))
def test_many_mutants(first: int) -> None:
    assert run(first, 500, packaged=True) == {}


@pytest.mark.campaign
def test_new_mutants() -> None:
    assert run(int.from_bytes(os.urandom(4), "big"), 500, packaged=True) == {}


if __name__ == "__main__":
    start, number, whole = (*map(int, sys.argv[1:]), 1, 1)[:3]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    failures = {}
    for each in range(start, start + number):
        with tempfile.TemporaryDirectory() as place:
            problem = _validate(each, Path(place), packaged=bool(whole))
        if problem:
            failures[each] = problem
    sys.stdout.write(json.dumps(failures))
