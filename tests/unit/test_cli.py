"""The command line's own part: help at once, wrong usage, errors in one place."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from runbook import cli
from runbook.commands import options
from runbook.errors import ExitCode, InvalidInputError, RefusedError
from runbook.events import journal
from runbook.events.redaction import Redactor

HEAVY = ("ansible", "ansible_runner", "boto3", "jinja2", "jsonschema", "psycopg2", "rich", "yaml")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from runbook.cli import cli; cli.main(['--help'], standalone_mode=False); "
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    for name in cli.COMMANDS:
        assert f"  {name} " in done.stdout


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("90m", 5400), ("1d12h", 129_600), ("30d", 2_592_000), ("1s", 1), ("30d1s", 0), ("0h", 0),
     ("", 0), ("5", 0), ("m", 0), ("1h ", 0), ("-1h", 0), ("1.5h", 0), ("12345678s", 0)],
)  # fmt: skip
def test_a_time_that_an_option_takes(given: str, seconds: int) -> None:
    command = click.Command("x", params=[click.Option(["--for"], callback=options.duration)],
                            callback=lambda **found: found["for"])  # fmt: skip
    if seconds:
        found = command.main(["--for", given], standalone_mode=False)
        assert found.total_seconds() == seconds
        return
    with pytest.raises(click.BadParameter, match="is no time up to 30 days, such as 90m"):
        command.main(["--for", given], standalone_mode=False)


def test_an_output_that_is_full_is_no_bug() -> None:
    program = Path(sys.executable).parent / "runbook"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([program, "list"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "Cannot write the output: No space left on device.\n"


@pytest.mark.parametrize(
    ("closed", "code"), [("<&-", ExitCode.INVALID), (">&-", ExitCode.INVALID), ("2>&-", 3)]
)
def test_a_standard_stream_that_is_closed_is_no_bug(closed: str, code: int, tmp_path: Path) -> None:
    """As of a job of a scheduler: there is no terminal then to ask on."""
    program = Path(sys.executable).parent / "runbook"
    script = (
        f"exec {program} init {tmp_path}/made {'' if closed == '<&-' else '</dev/null'} {closed}"
    )
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, "")
    assert closed == "2>&-" or "there is no terminal to ask on" in done.stderr


def test_a_working_directory_that_was_removed_is_no_bug(tmp_path: Path) -> None:
    """As by another terminal's `git checkout`."""
    program = Path(sys.executable).parent / "runbook"
    script = f"cd {tmp_path} && mkdir gone && cd gone && rmdir ../gone && exec {program} list"
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True)
    assert done.returncode == ExitCode.INVALID
    assert done.stderr.startswith(
        "the working directory cannot be used (No such file or directory)"
    )


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_its_help_and_its_line(name: str) -> None:
    command = cli.cli.get_command(click.Context(cli.cli), name)
    assert command is not None
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{name} {option.name}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["aply"], "Did you mean apply?"),
        (["sandbox", "satus"], "There is no command 'satus'. Did you mean status?"),
        (["backups", "verfy"], "Did you mean verify?"),
        (["apply", "x.yml", "-i", "y", "--chekc"], "--check"),
        (["apply", "x.yml", "-i", "y", "--dry-run"], "Did you mean --check?"),
        (["status", "-i", "y", "--dry-run"], "No such option '--dry-run'.\n"),
        (["apply", "x.yml"], "--inventory"),
        (["apply"], "PLAYBOOK"),
        (["apply", "x.yml", "-i", "y", "--forks", "0"], "forks"),
    ],
)
def test_wrong_usage_exits_64_and_says_what_was_meant(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.run(lambda: cli.cli.main(arguments, prog_name="runbook", standalone_mode=False))
    assert code == ExitCode.USAGE
    assert said in capsys.readouterr().err


def fail(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InvalidInputError("a\nb"), ExitCode.INVALID, "a\nb\n"),
        (RefusedError("no"), ExitCode.REFUSED, "no\n"),
        (
            PermissionError(errno.EACCES, "Permission denied", "inventories"),
            ExitCode.FAILED,
            "Cannot use inventories: Permission denied.\n",
        ),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, "Interrupted.\n"),
        (click.Abort(), ExitCode.INTERRUPTED, "Interrupted.\n"),
    ],
)
def test_errors_become_messages(
    error: BaseException, code: ExitCode, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(lambda: fail(error)) == code
    assert capsys.readouterr().err == said


def test_a_full_disk_of_the_state_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUNBOOK_HOME", str(tmp_path))
    room = os.statvfs(tmp_path)
    full = os.statvfs_result((*room[:4], 0, *room[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    monkeypatch.setattr(cli, "silence", lambda: None)
    assert cli.run(lambda: fail(OSError(errno.ENOSPC, "No space left"))) == ExitCode.FAILED
    assert capfd.readouterr().err == f"Cannot write below {tmp_path}: No space left.\n"


def test_a_bug_is_said_to_be_one_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUNBOOK_HOME", str(tmp_path))
    monkeypatch.delenv("RUNBOOK_DEBUG", raising=False)
    assert cli.run(lambda: fail(ZeroDivisionError("boom"))) == ExitCode.FAILED
    said = capsys.readouterr().err
    [kept] = (tmp_path / "crashes").iterdir()
    assert str(kept) in said
    assert "Traceback" not in said
    assert "ZeroDivisionError: boom" in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("RUNBOOK_DEBUG", "1")
    cli.run(lambda: fail(ZeroDivisionError("boom")))
    assert "Traceback" in capsys.readouterr().err


def test_only_the_newest_reports_of_bugs_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNBOOK_HOME", str(tmp_path))
    monkeypatch.setattr(journal, "CRASHES", 2)
    (tmp_path / "crashes").mkdir()
    for name in ("20260101T000000-aaaaaa.txt", "20260102T000000-aaaaaa.txt", "notes.txt"):
        (tmp_path / "crashes" / name).touch()
    kept = journal.keep_crash("boom")
    assert {each.name for each in kept.parent.iterdir()} == {
        "20260102T000000-aaaaaa.txt", "notes.txt", kept.name,
    }  # fmt: skip


def test_a_bug_is_told_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUNBOOK_HOME", str(tmp_path))
    monkeypatch.setenv("RUNBOOK_DEBUG", "1")

    def faulty() -> None:
        redactor = Redactor(["hunter22"])
        raise KeyError("hunter22", redactor)

    assert cli.run(faulty) == ExitCode.FAILED
    [kept] = (tmp_path / "crashes").iterdir()
    for text in (capsys.readouterr().err, kept.read_text()):
        assert "hunter22" not in text
        assert "KeyError: ('********', " in text


def test_a_bug_is_shown_where_it_cannot_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RUNBOOK_HOME", str(tmp_path / "file"))
    monkeypatch.delenv("RUNBOOK_DEBUG", raising=False)
    assert cli.run(lambda: fail(ZeroDivisionError("boom"))) == ExitCode.FAILED
    said = capsys.readouterr().err
    assert "ZeroDivisionError: boom" in said
    assert f"could not be kept: cannot write to {tmp_path}/file/crashes (Not a directory)" in said


def test_run_ids_sort_by_time_and_differ() -> None:
    ids = [journal.new_run_id() for _ in range(3)]
    assert len(set(ids)) == 3
    assert [name[:15] for name in ids] == sorted(name[:15] for name in ids)
