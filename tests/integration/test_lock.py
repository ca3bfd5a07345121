"""A person's lock on a target: who is refused, who gives it back, who takes it away."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
import transaction_support as support
from ansible_collections.labeller.runbook.plugins.module_utils import errors, lease, lock, postgres

if TYPE_CHECKING:
    from labeller_support import Labeller


def call(labeller: Labeller, state: str, *, check: bool = False, **params: Any) -> dict[str, Any]:
    defaults = {name: spec.get("default") for name, spec in lock.ARGUMENTS.items()}
    given = {**defaults, **labeller.login, "state": state, "holder": "olli@laptop", **params}
    return lock.run(given, check)


def hold(labeller: Labeller, **params: Any) -> dict[str, Any]:
    return call(labeller, "present", **{"reason": "moving the grid", **params})


def take(labeller: Labeller, *, check: bool = False, **params: Any) -> dict[str, Any]:
    defaults = {name: spec.get("default") for name, spec in lease.ARGUMENTS.items()}
    given = {**defaults, **labeller.login, "state": "taken", "holder": "olli@laptop, process 7"}
    return lease.run({**given, "target": "labeller3", **params}, check)


def test_a_lock_refuses_every_run_and_says_who_why_how_long_and_what_to_do(
    labeller: Labeller,
) -> None:
    assert call(labeller, "read")["lease"] is None
    held = hold(labeller)
    assert held["changed"]
    assert {name: held["lease"][name] for name in ("holder", "state", "reason")} == {
        "holder": "olli@laptop", "state": "locked", "reason": "moving the grid",
    }  # fmt: skip
    times = (datetime.fromisoformat(held["lease"][name]) for name in ("since", "until"))
    since, until = (f"{each.astimezone(UTC):%Y-%m-%d %H:%M} UTC" for each in times)
    with pytest.raises(errors.Locked) as caught:
        take(labeller)
    for said in (
        f"olli@laptop, who holds the target since {since}, has locked it until {until}: moving",
        "nothing was changed",
        "runbook unlock -i labeller3",
    ):
        assert said in str(caught.value)
    # A check goes on, as it changes nothing; the engine ends one of an apply with that message.
    checked = take(labeller, check=True)
    (warning,) = checked["warnings"]
    assert "has locked it until" in warning
    assert "runbook unlock -i labeller3" in warning
    assert (checked["error_kind"], checked["msg"]) == ("locked", str(caught.value).replace(
        "nothing was changed by this step", "nothing was changed"))  # fmt: skip
    # A play that ends quietly gets a headline instead of an error.
    for check in (False, True):
        told = take(labeller, check=check, when_held="report")
        assert (told["held"], told["number"]) == (True, 0)
        assert "moving the grid" in told["headline"]
    assert call(labeller, "absent")["lease"] is None
    take(labeller)


def test_only_its_holder_gives_it_back_or_extends_it_unless_forced(labeller: Labeller) -> None:
    first = hold(labeller)["lease"]
    again = hold(labeller, reason="still", seconds=60)["lease"]
    assert again["number"] == first["number"] + 1
    assert (again["reason"], again["until"] < first["until"]) == ("still", True)
    other = {"holder": "eva@desk"}
    for check in (False, True):
        with pytest.raises(
            errors.Locked, match="olli@laptop, who holds .* with --force also for another person"
        ):
            call(labeller, "absent", check=check, **other)
        with pytest.raises(errors.Locked, match="olli@laptop, who holds"):
            hold(labeller, check=check, **other)
    with pytest.raises(errors.Stale, match="not the holder that was shown"):
        call(labeller, "absent", force=True, number=first["number"], **other)
    assert call(labeller, "read")["lease"] == again
    forced = {"force": True, "number": again["number"], **other}
    checked = call(labeller, "absent", check=True, **forced)
    (change,) = checked["diff"]
    assert (change["before"], change["after"]) == ("olli@laptop: still\n", "")
    assert checked["changed"]
    assert call(labeller, "read")["lease"] == again
    assert call(labeller, "absent", **forced)["changed"]
    assert not call(labeller, "absent", **forced)["changed"]
    hold(labeller, **other)


@pytest.mark.parametrize("missing", ["holder", "reason"])
def test_a_lock_without_a_name_or_a_reason_is_refused(labeller: Labeller, missing: str) -> None:
    with pytest.raises(errors.InvalidInput, match=missing):
        hold(labeller, **{missing: " "})


def test_its_time_ends_it(labeller: Labeller) -> None:
    hold(labeller)
    # Longer unseen than a run may be: a person's lock needs no process that is seen.
    labeller.sql("UPDATE runbook.lease SET seen = seen - interval '2 h'")
    with pytest.raises(errors.Locked):
        take(labeller)
    labeller.sql("UPDATE runbook.lease SET expires = clock_timestamp()")
    assert call(labeller, "read")["lease"] is None
    assert take(labeller, check=True)["warnings"] == []
    assert not take(labeller)["held"]
    # The run has no end, and is not its holder's lock.
    assert call(labeller, "read")["lease"]["until"] is None
    with pytest.raises(errors.Locked, match="process 7"):
        call(labeller, "absent", holder="olli@laptop, process 7")


def test_a_run_at_work_is_seen_without_waiting_and_taken_its_lease_by_force(
    labeller: Labeller,
) -> None:
    number = take(labeller)["number"]
    assert call(labeller, "read")["lease"]["state"] == "seen"
    with pytest.raises(errors.Locked, match="process 7, who holds"):
        hold(labeller)
    seen: list[str] = []

    def meanwhile(*_: Any, **__: Any) -> None:
        """The transaction keeps the row locked until its commit."""
        labeller_now = {**labeller.login, "lock_timeout": 1}
        found = call(labeller, "read", **labeller_now)["lease"]
        seen.append(found["state"])
        (warning,) = take(labeller, check=True)["warnings"]
        assert "is running" in warning
        with pytest.raises(errors.Locked, match="is running"):
            hold(labeller)
        call(labeller, "absent", force=True, number=number, holder="eva@desk")
        seen.append("forced")

    before = tables(labeller)
    with pytest.raises((errors.ModuleFailure, psycopg2.Error), match="terminat|closed"):
        support.apply(labeller, *support.regular(91), lease=number, observe=meanwhile)
    assert seen == ["working", "forced"]
    assert tables(labeller) == before
    assert call(labeller, "read")["lease"] is None
    with pytest.raises(errors.Locked, match="the lease that this run took is gone"):
        take(labeller, state="renewed", number=number)


def test_the_server_notices_within_a_minute_that_a_machine_is_gone(labeller: Labeller) -> None:
    """Else it would keep the row locked, for hours, for a step that ran there."""
    options = {**labeller.login, "connect_timeout": 10, "lock_timeout": 5}
    with postgres.connect(options) as session, session.cursor() as cursor:
        seconds = []
        for name in ("idle", "interval", "count"):
            cursor.execute(f"SHOW tcp_keepalives_{name}")
            seconds.append(int(cursor.fetchone()[0]))
    idle, interval, count = seconds
    assert 0 < idle + interval * count <= lease.EXPIRY


def tables(labeller: Labeller) -> dict[str, Any]:
    return {
        name: found for name, found in support.state(labeller).items() if name != "runbook.lease"
    }


def test_the_table_of_an_older_version_gets_what_it_lacks(labeller: Labeller) -> None:
    labeller.sql("CREATE SCHEMA runbook")
    labeller.sql(
        "CREATE TABLE runbook.lease (one boolean PRIMARY KEY DEFAULT true CHECK (one),"
        " number bigint NOT NULL, holder text, process text, since timestamptz NOT NULL,"
        " seen timestamptz NOT NULL)"
    )
    labeller.sql("INSERT INTO runbook.lease VALUES (true, 7, 'me', '', now(), now())")
    assert call(labeller, "read")["lease"]["holder"] == "me"
    labeller.sql("UPDATE runbook.lease SET holder = NULL")
    assert hold(labeller)["lease"]["number"] == 8
