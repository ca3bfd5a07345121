"""The plan of a target's environment, pure; what it is made of, against constraints.txt."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.labeller.runbook.plugins.module_utils import target_environment as module
from ansible_collections.labeller.runbook.plugins.module_utils.change import Change
from ansible_collections.labeller.runbook.plugins.module_utils.errors import (
    InvalidInput,
    ModuleFailure,
    Refused,
)
from ansible_collections.labeller.runbook.plugins.module_utils.host_python import (
    ABOUT,
    File,
    Host,
    Place,
    Python,
    normalized,
    versions,
)
from ansible_collections.labeller.runbook.plugins.module_utils.module import Plan
from ansible_collections.labeller.runbook.plugins.plugin_utils import wheels

PROJECT = Path(__file__).resolve().parents[2]
PYTHONS = [f"3.{minor}" for minor in range(8, 14)]
INTERPRETER = "/home/mapper/runbook/bin/python"
WRITABLE = Place("/home/mapper", True, 10**12)
BARE = Host(
    home="/home/mapper",
    machine="x86_64",
    cron=False,
    places={"~/.local/state/runbook/journal": WRITABLE, "/home/mapper": WRITABLE},
)


def python(version: str, problem: str = "", libc: str = "glibc 2.17") -> Python:
    return Python(f"/opt/{version}/bin/python3", version, libc, problem)


def params(**given: Any) -> dict[str, Any]:
    engine = bool(given.get("engine"))
    packages = {each: wheels.pins(each, engine=engine and each > "3.10") for each in PYTHONS}
    options = {"interpreter": INTERPRETER, "packages": packages, **given}
    found = ArgumentSpecValidator(module.ARGUMENTS).validate(options)
    assert not found.error_messages
    checked: dict[str, Any] = found.validated_parameters
    return checked


def made(host: Host, of: Python, options: dict[str, Any]) -> Host:
    """The host after an environment was made."""
    packages = versions(module.requirements(of, options))
    about = {"python": module.source_of(of, options), "engine": options["engine_sha256"]}
    own = replace(of, path="/home/mapper/runbook")
    return replace(host, link=".runbook/one", about=about, packages=packages, python=own)


def test_the_newest_python_that_will_do_is_taken_and_kept() -> None:
    found = [python("2.7.5"), python("3.6.8"), python("3.8.9"), python("3.11.2"), python("3.14.0")]
    host = replace(BARE, pythons=(*found, python("3.12.1", problem="No module named ssl")))
    options = params()
    (change,) = module.plan(host, options).changes
    assert change.before == ""
    assert change.after.splitlines()[:2] == [
        "Python 3.11.2 (/opt/3.11.2/bin/python3)",
        "boto3 1.44.5",
    ]
    after = made(host, found[3], options)
    newer = replace(after, pythons=(python("3.13.0"),))
    assert not module.plan(newer, options).changes[0].changed
    # One that was updated in place, one that was removed, and one that is asked for.
    updated = replace(after, python=replace(found[3], version="3.11.9"), pythons=())
    assert not module.plan(updated, options).changes[0].changed
    gone = replace(newer, python=Python("/home/mapper/runbook", "", problem="it does not start"))
    change = module.plan(gone, options).changes[0]
    assert change.before.startswith("Python does not start (/opt/3.11.2/bin/python3)\n")
    assert change.after.startswith("Python 3.13.0 ")
    asked = module.plan(newer, params(python="/opt/3.13.0/bin/python3")).changes[0]
    assert asked.after.startswith("Python 3.13.0 ")


def test_what_differs_from_the_pins_is_a_change() -> None:
    options = params()
    host = made(BARE, python("3.9.2"), options)
    older = replace(host, packages={**host.packages, "boto3": "1.0", "pip": "9"})
    change = module.plan(older, options).changes[0]
    assert change.action == "replace"
    assert set(change.before.splitlines()) - set(change.after.splitlines()) == {"boto3 1.0"}
    more = replace(host, packages={**host.packages, "ipython": "9.0"})
    assert module.plan(more, options).changes[0].changed


@pytest.mark.parametrize(
    ("host", "options", "said"),
    [
        ({}, {}, r"no Python 3\.8 to 3\.13 .*; found: none\. Install one, or give a standalone"),
        (
            {"pythons": (python("2.7.5"), python("3.6.8"))},
            {},
            r"found: /opt/2\.7\.5/bin/python3 \(2\.7\.5, too old\), .*3\.6\.8, too old\)",
        ),
        (
            {"pythons": (python("3.11.2", libc="glibc 2.12"),)},
            {},
            r"its C library is glibc 2\.12, not glibc 2\.17 or later",
        ),
        ({"pythons": (python("3.11.2", libc=""),)}, {}, "its C library is no glibc"),
        ({"pythons": (python("3.8.9"),)}, {"oldest": "3.9"}, r"no Python 3\.9 to 3\.13"),
        (
            {"pythons": (python("3.10.9"),)},
            {"engine": True},
            r"no Python 3\.11 to 3\.13, which runbook itself needs.*set learner_loop to false",
        ),
        (
            {"home": "/home/ec2-user", "pythons": (python("3.11.2"),)},
            {"engine": True},
            "set it to /home/ec2-user/runbook/bin/python, or give learner_command",
        ),
        ({"machine": "armv7l", "pythons": (python("3.11.2"),)}, {}, "the host is a armv7l"),
        ({"other": True}, {}, r"did not make it: move it away \(mv /home/mapper/runbook "),
        ({"link": "/opt/venv"}, {}, "did not make it"),
        (
            {"pythons": (python("3.6.8"),)},
            {"python": "/opt/3.6.8/bin/python3"},
            "target_python is /opt/3.6.8/bin/python3, which cannot be used",
        ),
    ],
)
def test_a_host_that_will_not_do_is_refused_with_the_way_out(
    host: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(Refused, match=said):
        module.plan(replace(BARE, **host), params(**options))


def test_a_place_that_cannot_be_written_is_an_error_of_the_check() -> None:
    host = replace(BARE, pythons=(python("3.9.2"),))
    for path in host.places:
        places = {**host.places, path: Place("/home", False, None)}
        with pytest.raises(ModuleFailure, match="this user may not write /home"):
            module.plan(replace(host, places=places), params())
    options = params(files=[{"path": "/home/mapper/i", "mode": "0600", "sha256": "a"}])
    other = replace(host, files={"/home/mapper/i": File(False, "600", "")})
    with pytest.raises(ModuleFailure, match="another user's"):
        module.plan(other, options)


@pytest.mark.parametrize(
    "given",
    ["", "auto", "python3", "/python", "/home/../bin/python", "/a b/bin/python", "/bin/python"],
)
def test_an_interpreter_that_is_no_environments_is_refused(given: str) -> None:
    with pytest.raises(InvalidInput, match="ansible_python_interpreter is"):
        module.path_of(params(interpreter=given))


def test_a_standalone_build_stands_for_the_hosts_pythons() -> None:
    built = {"name": "cpython.tar.gz", "version": "3.11.7", "machine": "x86_64", "sha256": "ab"}
    options = params(built=built, engine=True, engine_sha256="cd")
    host = replace(BARE, pythons=(python("3.13.0"),))
    (change,) = module.plan(host, options).changes
    assert change.after.startswith("Python 3.11.7 (cpython.tar.gz, SHA-256 ab)\nansible-core 2.19")
    after = made(host, module.wanted(host, options), options)
    assert not module.plan(after, options).changes[0].changed
    # Without the build the environment must not be made of what is inside another.
    without = module.plan(after, params(engine=True, engine_sha256="cd")).changes[0]
    assert without.after.startswith("Python 3.13.0 ")
    for wrong, said in (
        ({"machine": "aarch64"}, "it is for aarch64, and the host is a x86_64"),
        ({"version": "3.10.1"}, "too old; needed is Python 3.11 to 3.13"),
    ):
        with pytest.raises(Refused, match=said):
            module.plan(host, params(built={**built, **wrong}, engine=True))


def test_files_are_compared_by_content_and_mode() -> None:
    path, same = "/home/mapper/inventory/hosts.yml", "0" * 64
    file = {"path": path, "mode": "0600", "sha256": same}
    options, absent = params(files=[file]), params(files=[file], state="absent")
    bare = replace(BARE, places={**BARE.places, "/home/mapper/inventory": WRITABLE})
    host = made(bare, python("3.9.2"), options)
    for now, changed, removed in (
        (None, True, False),
        (File(True, "600", same), False, True),
        (File(True, "660", same), True, True),
        (File(True, "600", "1" * 64), True, False),
    ):
        there = replace(host, files={path: now} if now else {})
        assert module.plan(there, options).changes[1].changed == changed
        assert module.plan(there, absent).changes[1].changed == removed


def test_an_environment_that_cron_calls_is_not_removed() -> None:
    options = params(engine=True)
    host = made(BARE, python("3.11.2"), options)
    absent = params(state="absent")
    assert module.plan(host, absent).changes[0].after == ""
    assert not module.plan(BARE, absent).changes[0].changed
    called = replace(host, cron=True, packages={**host.packages, module.RUNBOOK: "0.1.0"})
    with pytest.raises(Refused, match=r"runbook apply shutdown\.yml"):
        module.plan(called, absent)


ONE, TWO, HALF, NEW = (f"20260114T09301{number}-3f9a1c" for number in range(4))


def environment(folder: Path) -> dict[str, Any]:
    """The options for an environment in a folder, where there is one."""
    (folder / ".runbook" / ONE).mkdir(parents=True)
    (folder / ".runbook" / ONE / ABOUT).write_text("python=/usr/bin/python3\n")
    (folder / "runbook").symlink_to(f".runbook/{ONE}")
    return params(interpreter=f"{folder}/runbook/bin/python", state="absent")


def test_a_removal_that_is_cut_off_is_finished_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = environment(tmp_path)

    def cut_off(folder: str) -> None:
        (Path(folder) / ABOUT).unlink()
        raise KeyboardInterrupt

    found = module.plan(module.observe(options), options)
    monkeypatch.setattr(shutil, "rmtree", cut_off)
    with pytest.raises(KeyboardInterrupt):
        module.apply(found, options)
    monkeypatch.undo()
    found = module.plan(module.observe(options), options)
    assert found.changes[0].changed
    module.apply(found, options)
    assert not [*tmp_path.iterdir()]
    (tmp_path / "runbook").symlink_to(".runbook/gone")
    module.apply(module.plan(module.observe(options), options), options)
    assert not [*tmp_path.iterdir()]


def test_what_cut_off_runs_left_is_removed_after_an_hour(tmp_path: Path) -> None:
    options = environment(tmp_path)
    base, long_ago = tmp_path / ".runbook", time.time() - 2 * 3600
    for name in (TWO, HALF):
        (base / name).mkdir()
        (base / name / ABOUT).touch()
    (base / f"{HALF}.link").symlink_to(f".runbook/{HALF}")
    for each in base.iterdir():
        os.utime(each, (long_ago, long_ago), follow_symlinks=False)
    (base / NEW).mkdir()
    present = {**options, "state": "present", "made": TWO}
    change = Change(str(tmp_path / "runbook"), "replace", "before", "after")
    module.apply(Plan([change]), present)
    assert (tmp_path / "runbook").readlink() == Path(f".runbook/{TWO}")
    assert {each.name for each in base.iterdir()} == {ONE, TWO, NEW}


def test_what_bootstrap_did_not_make_is_left_alone(tmp_path: Path) -> None:
    """With ~/venv/bin/python as the interpreter, the folder of the environments is ~/.venv."""
    options = environment(tmp_path)
    mine = tmp_path / ".runbook" / "lib" / "file"
    mine.parent.mkdir()
    mine.write_text("mine")
    os.utime(mine.parent, (1, 1))
    module.apply(Plan([Change("", "replace", "a", "b")]), {**options, "made": ONE})
    assert mine.exists()
    module.apply(module.plan(module.observe(options), options), options)
    assert [*tmp_path.rglob("*")] == [tmp_path / ".runbook", mine.parent, mine]


def pinned(requirements: Iterable[str]) -> dict[str, str]:
    return {name: version.partition(";")[0] for name, version in versions(requirements).items()}


def test_the_pins_name_each_package_once_for_every_python() -> None:
    lines = wheels.PINS.read_text().splitlines()
    names = {normalized(re.split("==", line)[0]) for line in lines if "==" in line} - {"pip"}
    targets = {normalized(line.partition("==")[0]) for line in lines if "extra" not in line}
    for each in PYTHONS:
        found = wheels.pins(each, engine=each > "3.10")
        assert len(versions(found)) == len(found)
        expected = names - ({"typing-extensions"} if each == "3.13" else set())
        assert versions(found).keys() == (expected if each > "3.10" else targets & names)


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_the_pins_are_those_of_the_project(version: str) -> None:
    from packaging.requirements import Requirement

    constraints = [
        Requirement(line)
        for line in (PROJECT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    ours = {
        normalized(each.name): str(each.specifier).removeprefix("==")
        for each in constraints
        if each.marker is None or each.marker.evaluate({"python_version": version})
    }
    for name, pin in versions(wheels.pins(version, engine=True)).items():
        assert ours[name] == pin, name
