"""The lease: one run changes a target at a time, and a holder that has died is replaced."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import backup_support
import pytest
import transaction_support as support
from ansible_collections.labeller.runbook.plugins.module_utils import (
    crontab,
    errors,
    held,
    lease,
    marker,
    server,
)
from ansible_collections.labeller.runbook.plugins.module_utils.backup import make, restore
from ansible_collections.labeller.runbook.plugins.plugin_utils import action, in_process

from runbook.execute import environment

if TYPE_CHECKING:
    from labeller_support import Labeller


def module(labeller: Labeller, state: str, *, check: bool = False, **params: Any) -> dict[str, Any]:
    defaults = {name: spec.get("default") for name, spec in lease.ARGUMENTS.items()}
    return lease.run({**defaults, **labeller.login, "state": state, **params}, check)


def take(labeller: Labeller, holder: str = "me", **params: Any) -> int:
    return int(module(labeller, "taken", holder=holder, **params)["number"])


def test_one_holds_it_and_the_others_are_told_who(labeller: Labeller) -> None:
    number = take(labeller)
    with pytest.raises(
        errors.Locked, match=r"me, who holds the target since .* was seen \d+ s ago"
    ):
        take(labeller, "you")
    (warning,) = module(labeller, "taken", check=True)["warnings"]
    assert "me, who holds the target" in warning
    module(labeller, "renewed", number=number)
    module(labeller, "released", number=number)
    assert module(labeller, "taken", check=True)["warnings"] == []
    with pytest.raises(errors.Locked, match="the lease that this run took is gone"):
        module(labeller, "renewed", number=number)
    other = take(labeller, "you")
    assert other > number
    module(labeller, "released", number=number)  # another's is left alone
    module(labeller, "renewed", number=other)


def test_a_check_takes_and_makes_nothing(labeller: Labeller) -> None:
    before = support.state(labeller)
    assert module(labeller, "taken", check=True)["number"] == 0
    assert support.state(labeller) == before
    assert labeller.sql("SELECT to_regclass('runbook.lease')") == [(None,)]


def test_a_role_that_may_create_nothing_has_the_schema_made_for_it(labeller: Labeller) -> None:
    """Once; a check refuses where the lease could not be taken."""
    name = labeller.login["login_db"]
    role = f"{name}_role"
    labeller.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'test'")
    plan = {"id": "0" * 64, "run": "20260114T093012-3f9a1c"}
    login = {"login_user": role, "plan": plan}
    try:
        with pytest.raises(
            errors.Refused, match="lacks CREATE on the database, to make the schema"
        ):
            module(labeller, "taken", check=True, **login)
        labeller.sql(f"CREATE SCHEMA runbook AUTHORIZATION {role}")
        module(labeller, "taken", check=True, **login)
        module(labeller, "released", number=take(labeller, **login), **login)
        labeller.sql(f"REVOKE CREATE ON SCHEMA runbook FROM {role}")
        module(labeller, "taken", check=True, **login)
        module(labeller, "released", number=take(labeller, **login), **login)
    finally:
        labeller.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_holder_that_is_not_seen_is_replaced_and_refused_when_it_comes_back(
    labeller: Labeller,
) -> None:
    old = take(labeller)
    labeller.sql("UPDATE runbook.lease SET seen = seen - interval '61 s'")
    new = take(labeller, "you")
    with pytest.raises(errors.Locked, match="you, who holds .* has taken the target over since"):
        module(labeller, "renewed", number=old)
    before = support.state(labeller)
    with pytest.raises(errors.Locked, match="you, who holds the target"):
        support.apply(labeller, *support.regular(91), lease=old)
    with pytest.raises(errors.Locked, match="you, who holds the target"):
        make.present({**options(labeller), "lease": old}, False)
    assert support.state(labeller) == before
    support.apply(labeller, *support.regular(91), lease=new)


def test_a_dead_process_of_this_machine_is_replaced_at_once(labeller: Labeller) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        take(labeller, process=environment.process_name(process.pid))
        with pytest.raises(errors.Locked):
            take(labeller, "you")
        process.kill()
        process.wait()
        number = take(labeller, "you", process=environment.process_name(os.getpid()))
    with pytest.raises(errors.Locked):
        take(labeller)
    # One of another machine is not known to have ended.
    module(labeller, "released", number=number)
    take(labeller, process="0-0/pid:[1]/1/1")
    with pytest.raises(errors.Locked):
        take(labeller, "you")


class Elsewhere(action.ActionModule):
    """The action plugin, of a target that is another machine than this one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def _executed(self, arguments: Any, *_: Any, **__: Any) -> dict[str, Any]:
        with self._monkeypatch.context() as there:
            there.setattr(lease, "place", lambda: "0-0/pid:[1]")
            called = import_module(f"{in_process.MODULES}.lease").MODULE.call
            return dict(called("lease", arguments, False))


def test_a_holder_that_ended_on_the_operators_machine_is_replaced_between_two_steps(
    labeller: Labeller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The module does not see that process; the action plugin, which runs there, does."""
    step = Elsewhere(monkeypatch)
    options = {**labeller.login, "state": "taken", "holder": "you"}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        take(labeller, process=environment.process_name(process.pid))
        refused = step._execute(options, {})
        assert refused["error_kind"] == "locked"
        assert "holder_process" not in refused
        process.kill()
        process.wait()
    session = labeller.connect()
    with contextlib.closing(session), session.cursor() as cursor:
        cursor.execute("SELECT 1 FROM runbook.lease FOR UPDATE")
        assert "is running" in step._execute(options, {})["msg"]
    assert step._execute(options, {})["number"] == 2


def test_it_is_taken_only_over_the_run_that_was_looked_at(labeller: Labeller) -> None:
    module(labeller, "released", number=take(labeller, expected={}))
    support.apply(labeller, *support.regular(91))
    with pytest.raises(errors.Stale, match="no run was in place .* regular run 91 on ghana"):
        take(labeller, expected={})
    session = labeller.connect()
    with session, session.cursor() as cursor:
        current = marker.current(cursor)
    session.close()
    take(labeller, expected=current)


def options(labeller: Labeller) -> dict[str, Any]:
    return backup_support.parameters(
        labeller.login, labeller.aws, labeller.bucket, tables=["kml_data", "incoming_names"]
    )


def test_who_works_keeps_it_and_who_fails_gives_it_back(
    labeller: Labeller, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = take(labeller)
    seen: list[str] = []

    def others(*_: Any, **__: Any) -> None:
        """Another run, long after the holder was seen last, finds it at work."""
        with pytest.raises(errors.Locked, match="me, who holds .* is running"):
            take(labeller, "you")
        seen.append("locked")

    def aged() -> None:
        labeller.sql("UPDATE runbook.lease SET seen = seen - interval '1 h'")

    aged()
    support.apply(labeller, *support.regular(91), lease=number, observe=others)
    aged()
    with monkeypatch.context() as patched:
        patched.setattr(make, "_present", others)
        make.present({**options(labeller), "lease": number}, False)
    assert seen == ["locked", "locked"]
    # Seen again at the end of the work.
    with pytest.raises(errors.Locked, match=r"was seen \d+ s ago"):
        take(labeller, "you")

    made = make.present({**options(labeller), "lease": number}, False)
    with pytest.raises(errors.InvalidInput):
        restore.restored(
            {**options(labeller), "lease": number, "tables": ["nix"], "state": "restored",
             "backup_id": made["backup_id"]}, False,
        )  # fmt: skip
    number = take(labeller, "you")
    with pytest.raises(errors.Refused):
        support.apply(labeller, *support.regular(90), lease=number)
    take(labeller)


@pytest.mark.parametrize("check", [True, False])
def test_it_is_refused_while_tags_leave_out_a_part(labeller: Labeller, check: bool) -> None:
    with pytest.raises(errors.Refused, match="leave out backup, database"):
        module(labeller, "taken", skipped_parts=["backup", "database"], check=check)
    assert labeller.sql("SELECT to_regclass('runbook.lease')") == [(None,)]


def test_a_run_that_lost_its_lease_changes_nothing_outside_the_database(
    labeller: Labeller, tmp_path: Path
) -> None:
    tab, login = tmp_path / "crontab", labeller.login
    home = tmp_path / "labeller"
    (home / "log").mkdir(parents=True)
    (home / "log" / "create_hit_daemon.pid").write_text("1\n")
    line = crontab.block(["create_hit_daemon"], str(home))
    tab.write_text("\n".join([*line, ""]))
    down = {**login, "state": "absent", "home": str(home), "crontab_file": str(tab)}
    stopped = {**login, "state": "stopped", "home": str(home)}
    old = take(labeller)
    labeller.sql("UPDATE runbook.lease SET seen = seen - interval '61 s'")
    new = take(labeller, "you")
    for name, options in (("crontab_profile", down), ("daemons", stopped)):
        assert call(name, {**options, "lease": old})["error_kind"] == "locked"
    # The configuration too: it is not even read.
    assert call("configuration", {**login, "lease": old, "settings": {"Hit_StandAlone": True}})[
        "error_kind"
    ] == ("locked")
    assert tab.read_text() == "\n".join([*line, ""])
    assert (home / "log" / "create_hit_daemon.pid").exists()
    for name, options in (("crontab_profile", down), ("daemons", stopped)):
        assert call(name, {**options, "lease": new})["changed"], name
    # One that fails gives the target back.
    broken = {**down, "state": "present", "home": str(tmp_path / "none"), "lease": new}
    assert "there is no folder" in call("crontab_profile", broken)["msg"]
    take(labeller, "they")


def call(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """A module's result, as its task gets it."""
    found = import_module(f"{in_process.MODULES}.{name}").MODULE.call(name, options, False)
    return dict(found)


@pytest.mark.campaign
def test_of_many_at_once_one_wins_and_the_others_change_nothing(labeller: Labeller) -> None:
    """Three runs of different areas and numbers, as their playbooks take them, 15 rounds."""
    run_id = 100
    for _ in range(15):
        labeller.sql("UPDATE incoming_names SET processed = true")
        current = current_run(labeller)
        barrier = threading.Barrier(3)
        with ThreadPoolExecutor(3) as executor:
            futures = [
                executor.submit(contender, labeller, barrier, current or {}, run_id + n)
                for n in range(3)
            ]
            ends = [future.result() for future in futures]
        (winner,) = [n for n, end in enumerate(ends) if end is None]
        assert all(end is None or isinstance(end, (errors.Locked, errors.Stale)) for end in ends), (
            ends
        )
        found = current_run(labeller)
        assert found is not None
        assert found["run_id"] == run_id + winner
        assert labeller.sql("SELECT DISTINCT run FROM incoming_names WHERE NOT processed") == [
            (run_id + winner,)
        ]
        run_id += 3


def current_run(labeller: Labeller) -> dict[str, Any] | None:
    session = labeller.connect()
    with session, session.cursor() as cursor:
        found = marker.current(cursor)
    session.close()
    return found


def contender(
    labeller: Labeller, barrier: threading.Barrier, current: dict[str, Any], run_id: int
) -> Exception | None:
    """The steps of a run mode from taking the lease to releasing it."""
    barrier.wait()
    try:
        number = take(labeller, f"operator {run_id}", expected=current)
        make.present({**options(labeller), "lease": number}, False)
        support.apply(labeller, *support.regular(run_id, 1 + run_id % 2), lease=number)
        module(labeller, "renewed", number=number)
        module(labeller, "released", number=number)
    except errors.ModuleFailure as error:
        return error
    return None


def test_the_engine_names_its_process() -> None:
    assert environment.process_name(os.getpid()).startswith(
        Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    )


def test_a_plan_is_applied_once_and_to_its_own_database(labeller: Labeller) -> None:
    def taken(run: str, **params: Any) -> dict[str, Any]:
        return module(labeller, "taken", plan={"id": "a" * 64, "run": run}, **params)

    planned = held.of_result(taken("one", check=True))
    assert labeller.sql("SELECT to_regclass('runbook.applied_plan')") == [(None,)]
    identity = planned[0]["before_fingerprint"]
    assert re.fullmatch(r"(system identifier \d+, )?oid \d+", identity)  # the first from 9.6 on
    elsewhere = [{**planned[0], "before_fingerprint": "system identifier 7, oid 8"}]
    with pytest.raises(
        errors.Stale, match="database .*: planned system identifier 7, oid 8, found"
    ):
        taken("one", planned=elsewhere)
    assert labeller.sql("SELECT to_regclass('runbook.lease')") == [(None,)]
    first = taken("one", planned=planned, holder="me")["number"]
    for check in (False, True):
        module(labeller, "released", number=first)
        with pytest.raises(
            errors.Stale, match="this plan was applied already, by me, .* .run one."
        ):
            taken("two", planned=planned, check=check)
    again = taken("one", planned=planned)["number"]  # as iterate.yml, twice in a run
    assert again == first + 1, "one that was refused took no lease"
    assert labeller.sql("SELECT run, holder FROM runbook.applied_plan") == [("one", "me")]


def test_a_plan_that_cannot_take_the_lease_is_not_recorded(labeller: Labeller) -> None:
    number = take(labeller)
    with pytest.raises(errors.Locked):
        module(labeller, "taken", plan={"id": "b" * 64, "run": "two"})
    module(labeller, "released", number=number)
    module(labeller, "taken", plan={"id": "b" * 64, "run": "three"})


def test_an_old_server_knows_a_database_by_name_and_oid(
    labeller: Labeller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "assumed", 90500)
    (change,) = module(labeller, "taken", check=True)["plan"]
    assert re.fullmatch(r"oid \d+", change["before_fingerprint"])
