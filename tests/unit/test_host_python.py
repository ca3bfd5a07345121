"""The shell script that looks at a host, run by the shells of this machine, on made-up folders."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import host_python
from ansible_collections.labeller.runbook.plugins.module_utils.errors import ModuleFailure

SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def answer(path: Path, version: str, problem: str = "") -> Path:
    """A program that answers as an interpreter does."""
    return program(path, f"printf '%s\\t%s\\t%s\\n' {version} 'glibc 2.17' '{problem}'")


def looked(
    folder: Path, *paths: Path, shell: str = "dash", given: str = "", search: bool = True
) -> host_python.Host:
    text = host_python.script(
        str(folder / "home" / "runbook"), given, [str(folder / "home" / "a" / "b"), "~/x"],
        [str(path) for path in paths], search=search,
    )  # fmt: skip
    done = subprocess.run(
        [shell, *(["sh"] if shell == "busybox" else []), "-s"],
        input=text, text=True, capture_output=True, check=True,
        env={"HOME": str(folder / "home"), "PATH": f"{folder / 'bin'}:/usr/bin:/bin"},
    )  # fmt: skip
    assert done.stderr == ""
    return host_python.parsed("a profile says hello\n" + done.stdout)


@pytest.mark.parametrize("shell", SHELLS)
def test_every_python_of_a_host_is_found_with_its_version_or_its_problem(
    tmp_path: Path, shell: str
) -> None:
    home = tmp_path / "home"
    pyenv = home / ".pyenv" / "versions"
    found = [
        answer(tmp_path / "bin" / "python3.9", "3.9.2"),
        answer(tmp_path / "bin" / "python", "2.7.5", "No module named venv"),
        answer(pyenv / "3.12.1" / "bin" / "python3.12", "3.12.1"),
        program(pyenv / "3.8.9" / "bin" / "python3.8", "echo libpython is missing >&2; exit 127"),
    ]
    (tmp_path / "bin" / "python3").symlink_to("python3.9")
    program(tmp_path / "shims" / "python3.11", "exit 1")
    host = looked(tmp_path, shell=shell)
    by_path = {each.path: each for each in host.pythons}
    assert by_path.keys() >= {str(path) for path in found}
    assert not [path for path in by_path if path.endswith(("bin/python3", "shims/python3.11"))]
    assert by_path[str(found[0])] == host_python.Python(str(found[0]), "3.9.2", "glibc 2.17")
    assert by_path[str(found[1])].problem == "No module named venv"
    assert by_path[str(found[3])].version == ""
    assert by_path[str(found[3])].problem == "it does not start: libpython is missing"
    assert looked(tmp_path, shell=shell, search=False).pythons == ()
    only = looked(tmp_path, shell=shell, given=str(found[2]))
    assert [each.path for each in only.pythons] == [str(found[2])]


@pytest.mark.parametrize("shell", SHELLS)
def test_environment_places_and_files_are_read(tmp_path: Path, shell: str) -> None:
    home = tmp_path / "home"
    made = home / ".runbook" / "one"
    answer(made / "bin" / "python", "3.11.2")
    (made / "lib" / "python3.11" / "site-packages" / "psycopg2_binary-2.9.10.dist-info").mkdir(
        parents=True
    )
    (made / host_python.ABOUT).write_text("python=/usr/bin/python3.11\nengine=\n")
    assert looked(tmp_path, shell=shell).link == ""
    (home / "runbook").symlink_to(".runbook/one")
    file = tmp_path / "file"
    file.write_text("a\n")
    file.chmod(0o640)
    host = looked(tmp_path, file, tmp_path / "none", tmp_path, shell=shell)
    assert (host.link, host.other) == (".runbook/one", False)
    assert host.packages == {"psycopg2-binary": "2.9.10"}
    assert host.about == {"python": "/usr/bin/python3.11", "engine": ""}
    assert host.python is not None
    assert host.python.version == "3.11.2"
    first, second = host.places.values()
    assert (first.there, first.writable) == (str(home), True)
    assert first.free
    assert second.there == str(home)
    digest = "87428fc522803d31065e7bce3cf03fe475096631e5e07bbd7a0fde60c4cf25c7"
    assert host.files[str(file)] == host_python.File(True, "640", digest)
    assert str(tmp_path / "none") not in host.files
    assert not host.files[str(tmp_path)].own


def test_this_python_says_what_it_is(tmp_path: Path) -> None:
    (found,) = looked(tmp_path, given=sys.executable).pythons
    assert found.version == ".".join(map(str, sys.version_info[:3]))
    assert found.problem == ""
    assert found.libc.startswith("glibc 2.")


def test_an_answer_that_is_cut_short_is_an_error() -> None:
    with pytest.raises(ModuleFailure, match="its shell printed: This account is closed"):
        host_python.parsed("This account is closed\n")
    with pytest.raises(ModuleFailure):
        host_python.parsed("\n@runbook\nhome\t/root\n")
