"""``runbook backups``: what it prints and asks, and its exit codes; the target's answers are given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from runbook.commands import backups
from runbook.errors import ExitCode, InvalidInputError, RefusedError, RunbookError

ROW = {
    "backup_id": "20260114T093012123Z-3f9a1c-07ab", "finished": True, "created": "2026-01-14T09:30:12Z", "database": "Africa",
    "tables": 2, "rows": 340, "bytes": 1234, "intact": True, "problems": [],
}  # fmt: skip
UNFINISHED = {
    **ROW,
    "backup_id": "20260115T000000000Z-3f9a1c-0000",
    "finished": False,
    "created": "",
    "intact": False,
    "problems": ["it was never finished: it has no manifest"],
}
MANIFEST = {
    "bucket": "b", "prefix": "p/ID/", "created": "2023-07-20T09:30:12Z", "database": "Africa", "server_version": "16.1", "snapshot_lsn": "0/1",
    "tables": {"hit_data": {"rows": 300, "fingerprint": "md5sum:00", "objects": [{"size": 5}, {"size": 6}],
                            "sequences": {"hit_seq": {"last_value": 300}}}},
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    monkeypatch.setenv("RUNBOOK_HOME", str(tmp_path))
    questions: list[dict[str, Any]] = []
    answer = {
        "backups": [UNFINISHED, ROW],
        "location": "s3://b/p/",
        "manifest": MANIFEST,
        "removed": ["OLD"],
        "kept": {"NEW": "the newest good backup"},
    }

    def ask(_options: Any, **question: Any) -> tuple[dict[str, Any], ExitCode]:
        questions.append(question)
        return {"host1": answer}, ExitCode.OK

    monkeypatch.setattr(backups, "_ask", ask)
    return questions


def call(*arguments: str, target: str = "t,") -> tuple[Any, str]:
    runner = CliRunner()
    result = runner.invoke(backups.group, ["-i", target, *arguments], standalone_mode=False)
    if isinstance(result.exception, RunbookError):
        raise result.exception
    return result.return_value, result.output


def test_list_shows_a_table(asked: list[dict[str, Any]]) -> None:
    code, output = call("list")
    assert code == 0
    assert output.splitlines() == [
        "host1: s3://b/p/",
        "  backup_id                        created (UTC)     database  tables  rows    size",
        "  20260115T000000000Z-3f9a1c-0000",
        "    it was never finished: it has no manifest",
        "  20260114T093012123Z-3f9a1c-07ab  2026-01-14 09:30  Africa         2   340  1.2 kB",
    ]
    assert asked == [{}]


def test_only_verify_shows_whether_a_backup_is_intact(asked: list[dict[str, Any]]) -> None:
    assert "intact" not in call("list")[1]
    assert call("verify", "--all")[1].splitlines()[-1].endswith("1.2 kB  yes")


def test_a_narrow_terminal_gets_no_time_beside_the_id(
    asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runbook.events.render.people.is_terminal", lambda _stream: True)
    for width, columns in (("80", 6), ("100", 7)):
        monkeypatch.setenv("COLUMNS", width)
        lines = call("verify", "--all")[1].splitlines()
        assert len(lines[1].replace(" (UTC)", "").split()) == columns
        assert max(map(len, lines)) <= int(width)


def test_list_names_hosts_without_a_backup(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"host1": {"backups": [ROW], "location": "s3://b/1/"}, "host2": {"backups": [], "location": "s3://b/2/"}}  # fmt: skip
    monkeypatch.setattr(backups, "_ask", lambda _options, **_: (answers, ExitCode.OK))
    assert call("list")[1].splitlines()[-1] == "host2: no backup below s3://b/2/"


def test_verify_fails_on_damage_only(
    asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("verify", "--all")[0] == 0
    monkeypatch.setitem(ROW, "problems", ["s3://b/k is missing"])
    code, output = call("verify", "X", "--deep")
    assert (code, asked[-1]) == (1, {"backup_id": "X", "verify": "deep"})
    assert "\n    s3://b/k is missing\n" in output
    assert call("list")[0] == 0
    # Nothing of its manifest can be read.
    monkeypatch.setitem(ROW, "created", "")
    assert call("verify", "--all")[0] == 1


def test_verify_fails_when_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for found in ([], [UNFINISHED]):
        answer = {"backups": found, "location": "s3://b/p/"}
        monkeypatch.setattr(backups, "_ask", lambda _options, **_: ({"host1": answer}, ExitCode.OK))  # noqa: B023
        code, output = call("verify", "--all")
        assert code == ExitCode.INVALID
        assert output.splitlines()[-1] == "host1: there is no backup below s3://b/p/"


def test_show(asked: list[dict[str, Any]]) -> None:
    code, output = call("show")
    assert code == 0
    assert output.splitlines()[2:] == [
        "  table     rows      size  objects  fingerprint",
        "  hit_data   300  11 bytes        2  md5sum:00",
        "  sequence  last value",
        "  hit_seq          300",
    ]
    assert json.loads(call("--json", "show")[1]) == {"host1": MANIFEST}


def test_prune_asks_before_it_removes(
    asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {"backup_id": "", "keep": "2", "keep_days": ""}
    assert "OLD would be removed" in call("prune", "--keep", "2", "--check")[1]
    free = {"needed": [], "planned": {}}
    assert asked == [{"check": True, "prune": {**wanted, **free}}]
    with pytest.raises(RefusedError):  # there is no terminal
        call("prune", "--keep", "2")
    assert all(question["check"] for question in asked)
    monkeypatch.setattr("runbook.flow.confirm.ask", lambda _question: "another")
    with pytest.raises(RefusedError, match="Not confirmed"):
        call("prune", "--keep", "2")
    monkeypatch.setattr("runbook.flow.confirm.ask", lambda _question: "t")
    assert "OLD removed" in call("prune", "--keep", "2")[1]
    agreed = {"needed": [], "planned": {"host1": ["NEW"]}}
    assert asked[-1] == {"check": False, "prune": {**wanted, **agreed}}
    assert "NEW kept: the newest good backup" in call("prune", "--keep", "2", "--yes")[1]


def test_prune_keeps_what_a_run_that_failed_points_to(
    asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runbook.events.journal.needed_backups", lambda: {"NEW": "RUN", "X": "RUN"})
    output = call("prune", "--keep", "2", "--check")[1]
    assert "NEW kept: the run RUN did not end well and points to it" in output
    assert asked[-1]["prune"]["needed"] == ["NEW", "X"]
    with pytest.raises(RefusedError, match="X is not removed: the run RUN did not end well"):
        call("prune", "X")


@pytest.mark.parametrize(
    "arguments", [(), ("X", "--keep", "0"), ("X", "--keep-days", "3"), ("--keep-days", "1000000")]
)
def test_prune_wants_to_know_what(arguments: tuple[str, ...], asked: list[dict[str, Any]]) -> None:
    result = CliRunner().invoke(backups.group, ["-i", "t", "prune", *arguments])
    assert result.exit_code == 2
    assert asked == []


@pytest.mark.parametrize(
    "arguments", [("-i", "t", "--json", "list"), ("list", "-i", "t", "--json"), ("-i", "t", "list", "--json")]
)  # fmt: skip
def test_options_stand_before_the_command_or_behind_it(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, Any]] = []

    def ask(_playbook: Any, options: dict[str, Any], *_: Any, **__: Any) -> tuple[Any, ExitCode]:
        given.append(options)
        return {"host1": {"backups": [ROW], "location": "s3://b/p/"}}, ExitCode.OK

    monkeypatch.setattr("runbook.flow.query.ask_each", ask)
    result = CliRunner().invoke(backups.group, arguments)
    assert result.exit_code == 0, result.output
    assert (given[0]["target"], given[0]["as_json"]) == ("t", True)


def test_a_commands_help_needs_no_target() -> None:
    for command in backups.group.commands:
        result = CliRunner().invoke(backups.group, [command, "--help"])
        assert result.exit_code == 0
        assert "--inventory" in result.output
    result = CliRunner().invoke(backups.group, ["list"])
    assert result.exit_code == 2
    assert "Missing option '-i'" in result.output


def test_prune_of_an_unknown_backup_names_the_one_that_was_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def ask(_options: Any, **question: Any) -> tuple[dict[str, Any], ExitCode]:
        asked.append(question)
        answer = {"removed": [], "kept": {ROW["backup_id"]: "not named"}, "location": "s3://b/p/"}
        return {"host1": answer}, ExitCode.OK

    monkeypatch.setattr(backups, "_ask", ask)
    typed = ROW["backup_id"].replace("a1c", "alc")
    with pytest.raises(InvalidInputError) as raised:
        call("prune", typed, "--yes")
    assert str(raised.value) == (
        f"host1: there is no finished backup {typed} below s3://b/p/ (did you mean {ROW['backup_id']}?);"
        f" the newest there: {ROW['backup_id']}"
    )
    assert [question.get("check") for question in asked] == [True]


def test_prune_says_when_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"removed": [], "kept": {}, "location": "s3://b/p/"}
    monkeypatch.setattr(backups, "_ask", lambda _options, **_: ({"host1": answer}, ExitCode.OK))
    assert call("prune", "--keep", "2") == (0, "host1: no backup below s3://b/p/\n")


def test_prune_of_one_does_not_list_the_others(asked: list[dict[str, Any]]) -> None:
    assert call("prune", "OLD", "--check")[1] == "host1: OLD would be removed\n"


def test_prune_asks_for_the_name_of_a_target_that_is_given_as_a_path(
    asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    inventory = tmp_path / "labeller9.yml"
    inventory.touch()
    monkeypatch.setattr("runbook.flow.confirm.ask", lambda _question: "labeller9")
    assert "OLD removed" in call("prune", "--keep", "2", target=str(inventory))[1]


def test_folders_of_the_old_scripts_are_listed_and_shown(
    asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their rows are unknown, and so is the database they are from."""
    old = {**ROW, "backup_id": "2023-07-20", "database": "", "rows": None, "intact": None}
    table = {"rows": None, "fingerprint": "", "objects": [{"size": 5}], "sequences": {}}
    manifest = {"bucket": "b", "prefix": "labeller0/2023-07-20/", "created": "2023-07-20T09:30:12Z"}
    answer = {
        "backups": [old], "location": "s3://b/labeller0/", "old_location": "",
        "manifest": {**manifest, "tables": {"hit_data": table}},
    }  # fmt: skip
    monkeypatch.setattr(backups, "_ask", lambda _options, **_: ({"host1": answer}, ExitCode.OK))
    listed = call("list")[1].splitlines()
    assert listed[2].split() == ["2023-07-20", "2026-01-14", "09:30", "2", "1.2", "kB"]
    assert call("show")[1].splitlines()[:2] == [
        "host1: s3://b/labeller0/2023-07-20/", "  2023-07-20 09:30 UTC, TABLE.sql files of the old scripts"
    ]  # fmt: skip
    nothing = {"backups": [], "location": "s3://b/x/", "old_location": "s3://b/labeller0"}
    monkeypatch.setattr(backups, "_ask", lambda _options, **_: ({"host1": nothing}, ExitCode.OK))
    assert call("list")[1].splitlines()[1] == (
        "  files of the old scripts are below s3://b/labeller0: -e restore_from=s3://b/labeller0"
    )
