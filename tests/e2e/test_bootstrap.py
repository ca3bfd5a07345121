"""bootstrap.yml on bare hosts, which have SSH and no internet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import host as hosts
import pytest
from instances import Instance, instances

#: One worker makes the hosts.
pytestmark = pytest.mark.xdist_group("bootstrap")

INTERPRETER = str(hosts.PYTHON)
LINK = f"{hosts.HOME}/runbook"
PLAYBOOK = ("apply", "bootstrap.yml", "--yes")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    if missing := hosts.missing():
        pytest.skip(f"needs {missing}: .ci/apt installs what CI has")
    with instances(tmp_path_factory.mktemp("bare"), bare=True) as (made,):
        yield made


@pytest.fixture
def bare(shared: Instance) -> Instance:
    """A bare instance as new, with the usual interpreter in its inventory."""
    shared.host.reset()
    shared.variables = {"ansible_python_interpreter": INTERPRETER}
    return shared


def everything(bare: Instance) -> list[str]:
    """The files of mapper's home, with modes and what links name."""
    listed = bare.host.run("find", str(hosts.HOME), "-printf", "%p %m %l\n").splitlines()
    noise = ("/.ansible", "/.ssh", "/.cache", "/labeller")
    return sorted(line for line in listed if not any(each in line for each in noise))


def test_a_bare_instance_gets_its_environment(bare: Instance) -> None:
    """Also with a profile that prints text, umask 0007 and a /tmp of which nothing is executed."""
    for name in (".bashrc", ".profile"):
        profile = Path(f"{bare.host.root}{hosts.HOME}/{name}")
        profile.write_text(f"echo Welcome\necho to labeller >&2\n{profile.read_text()}")
    bare.host.outside(
        "mount", "-t", "tmpfs", "-o", "noexec,mode=1777", "none", bare.host.outer("/tmp")
    )
    unready = bare.run("doctor", exit_code=4)
    assert "runbook apply bootstrap.yml" in unready.stdout + unready.stderr
    before = everything(bare)
    shown = bare.run("apply", "bootstrap.yml", "--check", "--diff").stdout
    assert everything(bare) == before
    assert "+Python 3.11.2 (/usr/bin/python3.11)" in shown
    assert "+zstandard 0.25.0" in shown
    done = bare.run(*PLAYBOOK).stdout
    assert "Done, as planned" in done
    link = bare.host.run("readlink", LINK).strip()
    assert link.startswith(".runbook/")
    assert bare.host.run("ls", "-A", f"{hosts.HOME}/.runbook").split() == [Path(link).name]
    assert {line for line in everything(bare) if "/.local/" not in line and "/.runbook" not in line
            } - set(before) == {f"{LINK} 777 {link}", f"{hosts.HOME}/.local 700 "}  # fmt: skip
    again = bare.run(*PLAYBOOK).stdout
    assert "Nothing to change" in again
    assert "bootstrap.yml  done" in bare.run("history").stdout
    libraries = "import boto3, psycopg2, yaml, zstandard, sys; print(sys.prefix)"
    assert bare.host.run(INTERPRETER, "-c", libraries).strip() == LINK
    assert "python" in bare.run("doctor").stdout


@pytest.mark.campaign
def test_what_was_installed_by_hand_is_put_right_and_the_environment_removed(
    bare: Instance,
) -> None:
    bare.run(*PLAYBOOK)
    packages = bare.host.run("sh", "-c", f"ls -d {LINK}/lib/python3*/site-packages").strip()
    bare.host.run("mv", f"{packages}/six-1.17.0.dist-info", f"{packages}/six-1.0.dist-info")
    old = bare.host.run("readlink", LINK)
    shown = bare.run("apply", "bootstrap.yml", "--check", "--diff").stdout
    assert "-six 1.0\n" in shown
    assert "+six 1.17.0\n" in shown
    bare.run(*PLAYBOOK)
    assert bare.host.run("readlink", LINK) != old
    # A call from cron may still use the one before.
    assert len(bare.host.run("ls", "-A", f"{hosts.HOME}/.runbook").split()) == 2
    absent = ("-e", "target_environment=absent")
    assert "remove" in bare.run("apply", "bootstrap.yml", "--check", *absent).stdout
    bare.run(*PLAYBOOK, *absent)
    assert not [
        line for line in everything(bare) if line.startswith((LINK, f"{hosts.HOME}/.runbook"))
    ]
    assert "Nothing to change" in bare.run(*PLAYBOOK, *absent).stdout
