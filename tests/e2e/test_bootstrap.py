"""bootstrap.yml on bare hosts, which have SSH and no internet."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import host as hosts
import interpreters
import pytest
from ansible_collections.labeller.runbook.plugins.module_utils.host_python import ABOUT
from command_line import RUNBOOK
from instances import IMPATIENT, WAITING, Instance, instances
from waiting import until

from runbook.sandbox import cron

#: One worker makes the hosts.
pytestmark = pytest.mark.xdist_group("bootstrap")

INTERPRETER = str(hosts.PYTHON)
LINK = f"{hosts.HOME}/runbook"
PLAYBOOK = ("apply", "bootstrap.yml", "--yes")
LIBRARIES = "import boto3, psycopg2, yaml, zstandard, sys; print(sys.prefix)"
ITERATIONS = "SELECT iteration FROM iteration_metrics WHERE run = 0 ORDER BY 1"
#: Whether a run mode of runbook is in place.
MARKED = "SELECT to_regclass('runbook.run_marker') IS NOT NULL"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Instance]]:
    if missing := hosts.missing():
        pytest.skip(f"needs {missing}: .ci/apt installs what CI has")
    with instances(tmp_path_factory.mktemp("bare"), 2, bare=True) as made:
        yield made


def as_new(instance: Instance, **variables: object) -> Instance:
    """A bare instance as new, with the usual interpreter in its inventory."""
    instance.host.reset()
    instance.variables = {"ansible_python_interpreter": INTERPRETER, **variables}
    instance.more = {}
    return instance


@pytest.fixture
def bare(shared: list[Instance]) -> Instance:
    return as_new(shared[0])


@pytest.fixture
def pair(shared: list[Instance]) -> tuple[Instance, Instance]:
    """Two bare instances as new; the inventory of the second has both."""
    shared[0].cloud.reset(*(each.host.name for each in shared))
    first, second = (
        as_new(each, aoi_index=n, **IMPATIENT) for n, each in zip((1, 3), shared, strict=True)
    )
    second.more = {first.host.name: first.parameters()}
    return first, second


def everything(bare: Instance) -> list[str]:
    """The files of mapper's home, with modes and what links name."""
    listed = bare.host.run("find", str(hosts.HOME), "-printf", "%p %m %l\n").splitlines()
    noise = ("/.ansible", "/.ssh", "/.cache", "/labeller")
    return sorted(line for line in listed if not any(each in line for each in noise))


@pytest.mark.campaign
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
    assert bare.host.run(INTERPRETER, "-c", LIBRARIES).strip() == LINK
    assert "python" in bare.run("doctor").stdout


@pytest.mark.campaign
def test_what_was_installed_by_hand_is_put_right_and_the_environment_removed(
    bare: Instance, tmp_path: Path
) -> None:
    bare.run(*PLAYBOOK)
    packages = bare.host.run("sh", "-c", f"ls -d {LINK}/lib/python3*/site-packages").strip()
    bare.host.run("mv", f"{packages}/six-1.17.0.dist-info", f"{packages}/six-1.0.dist-info")
    old = bare.host.run("readlink", LINK)
    # A plan file could not be recorded as applied, and so be applied twice: there is none.
    plan = tmp_path / "bootstrap.plan"
    shown = bare.run("plan", "bootstrap.yml", "--diff", "-o", str(plan), exit_code=3)
    assert "-six 1.0\n" in shown.stdout
    assert "+six 1.17.0\n" in shown.stdout
    assert "apply it without a plan file" in shown.stderr
    assert not plan.exists()
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


def give(bare: Instance, python: Path, folder: str) -> str:
    """Have the host's folder name a Python of this machine; its path there.

    It is where it is here, for its libraries are found by that path.
    """
    home = python.resolve().parents[1]
    bare.host.bind(home, str(home))
    script = """umask 022; mkdir -p "$2"; ln -s "$1/bin" "$2/bin"
        for each do while [ "$each" != / ]; do each=$(dirname "$each"); chmod o+rx "$each"; done; done
        chmod o+rx "$2" """
    bare.host.run("sh", "-ec", script, "sh", str(home), folder, user="root")
    return str(python.resolve())


@pytest.mark.campaign
def test_no_python_or_an_old_one_is_refused_before_anything_is_changed(bare: Instance) -> None:
    bare.host.lose_python()
    python = interpreters.found("2.7")
    old = give(bare, python, "/opt/python/cp27") if python else ""
    before = everything(bare)
    for arguments in (("apply", "bootstrap.yml", "--check"), PLAYBOOK):
        done = bare.run(*arguments, exit_code=7)
        said = done.stdout + done.stderr
        assert "the host has no Python 3." in said
        assert "or give a standalone build of Python as a file (target_python_build)" in said
        assert not old or f"{old} (2.7.18, too old)" in said
    assert everything(bare) == before


#: Folders in which a host may have its Pythons.
FOLDERS = {
    "3.8": "/opt/rh/rh-python38/root/usr", "3.9": "/opt/python/cp39", "3.10": "/opt/python310",
    "3.12": "/opt/python/cp312", "3.13": "/home/mapper/.pyenv/versions/3.13.0",
}  # fmt: skip


@pytest.mark.campaign
def test_every_python_gets_its_libraries(bare: Instance) -> None:
    """A host under six names, each with an environment of its own; the first test has Debian's 3.11."""
    for version, folder in FOLDERS.items():
        python = interpreters.found(version)
        if python and (version != "3.8" or metadata.version("ansible-core").startswith("2.19.")):
            give(bare, python, folder)
            bare.more[f"python{version}"] = {
                **bare.parameters(),
                "ansible_python_interpreter": f"{hosts.HOME}/python{version}/bin/python",
                "target_python": f"{folder}/bin/python3",
            }
    shown = bare.run(*PLAYBOOK, "--diff").stdout
    versions = {name: name.removeprefix("python") for name in bare.more}
    # Without target_python it is the newest, of Debian's and those that this machine has.
    newest = max(["3.11", *versions.values()], key=lambda version: int(version[2:]))
    for name, version in {**versions, bare.host.name: newest}.items():
        assert re.search(rf"\[{name}\].*\n.*\n.*\n.*\n +\+Python {version}\.", shown)
    # Six interpreters that start at the same time on a busy machine take longer than usual.
    bare.run("apply", "backup.yml", "--check", ANSIBLE_TIMEOUT="300")


def operations(bare: Instance, folder: Path) -> list[str]:
    """An inventory with a vault for the loop's call from cron; the options that name it."""
    bare.command()
    known = bare.parameters()
    secret = {name: known.pop(name) for name in ("db_pwd", "github_token")}
    known.update(
        learner_command="",
        learner_inventory=f"{hosts.HOME}/operations/inventory",
        learner_vault_password_file=f"{hosts.HOME}/.vault-password",
        learner_inventory_source=str(folder / "inventory"),
        learner_vault_password_source=str(folder / "password"),
    )
    own = {name: known.pop(name) for name in ("aoi_name", "aoi_index")}
    for path, content in (
        ("password", "sesame"),
        ("inventory/hosts.json", {"all": {"hosts": {bare.host.name: known}}}),
        (f"inventory/host_vars/{bare.host.name}.yml", own),
        ("inventory/group_vars/all/vault.yml", secret),
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / path).write_text(text)
    vault = ["--vault-password-file", str(folder / "password")]
    encrypt = [RUNBOOK.with_name("ansible-vault"), "encrypt", *vault]
    subprocess.run(
        [*encrypt, folder / "inventory/group_vars/all/vault.yml"], check=True, capture_output=True
    )
    return [str(folder / "inventory"), *vault]


@pytest.mark.campaign
def test_the_loop_runs_from_cron_on_a_host_without_python(bare: Instance, tmp_path: Path) -> None:
    """A standalone build, runbook itself, inventory and vault; then a run mode takes the call."""
    bare.host.lose_python()
    inventory, *vault = operations(bare, tmp_path)
    given = ("-e", "target_python_build=" + str(interpreters.build(tmp_path)))

    def apply(playbook: str, *arguments: str, exit_code: int = 0) -> str:
        command = [str(RUNBOOK), "apply", playbook, "-i", inventory, *vault, *arguments]
        done = subprocess.run(
            command, env=bare.environment, cwd=tmp_path, text=True, capture_output=True
        )
        assert done.returncode == exit_code, done.stdout + done.stderr
        assert "sesame" not in done.stdout + done.stderr
        return done.stdout + done.stderr

    refused = apply("bootstrap.yml", "--check", exit_code=7)
    assert "which runbook itself needs for the loop's call from cron" in refused
    apply("bootstrap.yml", "--yes", *given)
    assert "Nothing to change" in apply("bootstrap.yml", "--yes", *given)
    put = bare.host.run("find", f"{hosts.HOME}/operations", f"{hosts.HOME}/.vault-password",
                        "-printf", "%m %y\\n").split("\n")  # fmt: skip
    assert set(put) == {"700 d", "600 f", ""}
    apply("regular.yml", "--yes")  # it tries the call
    bare.map_sites()
    (call,) = [
        each for each in cron.parse(bare.host.run("crontab", "-l")) if "iterate" in each.command
    ]
    command, standard_input = cron.command_line(call)
    bare.host.run(*command, input=standard_input)
    log = bare.host.run("cat", f"{hosts.HOME}/labeller/log/iterate.log")
    assert bare.host.query(ITERATIONS) == [(0,), (1,)], log
    absent = ("-e", "target_environment=absent", *given)
    assert "shutdown.yml" in apply("bootstrap.yml", "--yes", *absent, exit_code=7)
    apply("shutdown.yml", "--yes")
    apply("bootstrap.yml", "--yes", *absent)
    left = bare.host.run("find", str(hosts.HOME), "-name", "*runbook*").split()
    assert left == [f"{hosts.HOME}/.local/state/runbook"]
    assert bare.host.run("find", f"{hosts.HOME}/operations", "-type", "f") == ""


@pytest.mark.campaign
def test_a_disk_that_is_full_leaves_nothing_half_done(bare: Instance) -> None:
    small = "/srv/small"
    bare.variables["ansible_python_interpreter"] = f"{small}/runbook/bin/python"
    bare.host.run("mkdir", "-p", small, user="root")
    owner = "uid=1000,gid=1000,mode=700"

    def disk(options: str) -> None:
        bare.host.outside("mount", "-t", "tmpfs", "-o", f"{owner},{options}", "none",
                          bare.host.outer(small))  # fmt: skip

    for options, problem in (
        ("size=20m", f"the disk of {small} is full: 21 MB are free"),
        ("nr_inodes=500", "No space left on device"),  # only in the middle of the installation
    ):
        disk(options)
        said = " ".join(bare.run(*PLAYBOOK, exit_code=1).stdout.split())
        assert problem in said
        assert "Free some of the disk, or name a path on another one" in said
        assert bare.host.run("ls", "-A", small) == ""
    disk("size=1g")
    assert "Done, as planned" in bare.run(*PLAYBOOK).stdout
    bare.host.run(f"{small}/runbook/bin/python", "-c", LIBRARIES)


def module_of(host: hosts.Host) -> int:
    """The process that runs the module by a new environment's Python; 0 for none."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            program, *arguments = (folder / "cmdline").read_bytes().decode().split("\0")
            own = program.startswith(f"{hosts.HOME}/.runbook/") and program.endswith("/bin/python")
            if own and arguments == [""] and (folder / "root").samefile(host.root):
                return int(folder.name)
    return 0


@pytest.mark.campaign
def test_a_run_that_is_killed_is_finished_by_the_next_one(bare: Instance) -> None:
    """While packages are installed; when the environment is complete; the module, on the host."""
    host, folder = bare.host, Path(f"{bare.host.root}{hosts.HOME}/.runbook")
    for made in ("*/lib/python3*/site-packages/boto3", f"*/{ABOUT}"):
        seen = {*folder.glob(made)}
        code, said = bare.struck(
            lambda made=made, seen=seen: {*folder.glob(made)} - seen,
            subprocess.Popen.kill,
            *PLAYBOOK,
        )
        assert code == -signal.SIGKILL, said
        assert not host.run("find", LINK, check=False)
    code, said = bare.struck(
        lambda: module_of(host), lambda _: os.kill(module_of(host), signal.SIGKILL), *PLAYBOOK
    )
    assert code == 1, said
    assert "was killed on the host before it was done (exit code 137)" in said
    assert not host.run("find", LINK, check=False)
    assert len([*folder.iterdir()]) == 2, "what the killed controllers left"
    host.run("sh", "-c", f"touch -d '2 hours ago' {hosts.HOME}/.runbook/*")
    bare.run(*PLAYBOOK)
    assert len([*folder.iterdir()]) == 1
    assert "Nothing to change" in bare.run(*PLAYBOOK).stdout
    host.run(INTERPRETER, "-c", LIBRARIES)


@pytest.mark.campaign
def test_a_fleet_over_ssh_from_nothing_to_a_run(pair: tuple[Instance, Instance]) -> None:
    """The network of one instance goes in the middle of its transaction."""
    first, second = pair
    names = [each.host.name for each in pair]
    assert f"2 steps on {', '.join(sorted(names))} changed" in second.run(*PLAYBOOK).stdout
    said = second.interrupted(lambda: second.host.connect(up=False))
    assert "Stopped: 1 of 2 hosts are done." in said
    assert f"  {names[0]}: done" in said
    assert [first.host.query(MARKED), second.host.query(MARKED)] == [[(True,)], [(False,)]]
    second.host.connect(up=True)
    until(lambda: not second.host.query(WAITING))
    second.expire_lease()
    resumed = second.run("resume", "--yes")
    assert f", on {names[1]}\n" in resumed.stderr
    assert second.host.query(MARKED) == [(True,)]
    rows = second.run("status").stdout
    assert all(f"{name} " in rows for name in names)
    assert "regular.yml" in first.run("history").stdout
