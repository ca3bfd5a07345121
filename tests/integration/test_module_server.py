"""Modules run as forks of the module server give what they give by themselves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook import module_server

PROJECT = Path(__file__).resolve().parent.parent.parent
COLLECTIONS = PROJECT / ".build" / "collections"


def arguments(folder: Path, **options: object) -> str:
    return json.dumps(
        {
            "ANSIBLE_MODULE_ARGS": {
                "home": str(folder),
                "crontab_file": str(folder / "crontab"),
                **options,
            }
        }
    )


#: Runs the server in a process of its own, as the ansible process of a run does.
HOST = """
import json
import sys
from pathlib import Path
from runbook import module_server
server = module_server.start(Path(sys.argv[1]))
module_server.go(server)
print(json.dumps(module_server.call(server, sys.argv[2], sys.argv[3])), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "crontab").write_text("0 4 * * * true\n")
    return tmp_path


def host(module: str, asked: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOST, COLLECTIONS, module, asked],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def served(module: str, asked: str) -> dict[str, object]:
    with host(module, asked) as process:
        output, _ = process.communicate()
    result: dict[str, object] = json.loads(output)
    return result


def by_itself(module: str, asked: str) -> dict[str, object]:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from ansible.module_utils import basic\n"
        "basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = sys.argv[2].encode(), 'legacy'\n"
        f"from {module_server.PACKAGE} import {module}\n{module}.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, COLLECTIONS, asked], capture_output=True, text=True
    )
    return {"rc": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


@pytest.mark.parametrize(
    "options", [{"state": "present", "profile": "no_n"}, {"state": "absent"}, {"state": "wrong"}]
)
def test_served_module_gives_what_it_gives_by_itself(
    folder: Path, options: dict[str, object]
) -> None:
    asked = arguments(folder, _ansible_check_mode=True, **options)
    assert served("crontab_profile", asked) == by_itself("crontab_profile", asked)


def test_a_module_that_crashes_says_so(folder: Path) -> None:
    result = served("no_such_module", arguments(folder))
    assert result["rc"] == 1
    assert "no_such_module" in str(result["stderr"])


def children(pid: int) -> Iterator[int]:
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(status.read_text().rsplit(")", 1)[1].split()[1]) == pid:
                yield int(status.parent.name)
        except OSError:
            continue


def test_the_server_dies_with_whoever_started_it(folder: Path) -> None:
    process = host("crontab_profile", arguments(folder, state="absent"))
    assert process.stdout is not None
    process.stdout.readline()
    (server,) = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{server}/stat").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{server}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            break
        os.sched_yield()
    else:
        assert not Path(f"/proc/{server}").exists()
