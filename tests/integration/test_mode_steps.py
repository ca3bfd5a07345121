"""The steps beside those of regular production: settings, assertions, static sites, geography."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import transaction_support as support
from ansible_collections.labeller.runbook.plugins.module_utils import errors, transaction
from ansible_collections.labeller.runbook.plugins.module_utils.step import Transaction

if TYPE_CHECKING:
    from labeller_support import Labeller

SECRET = "0c7e4b1e-secret-instance"


def settings(**arguments: Any) -> Any:
    return support.step("configuration", **arguments)


def consistent(*refuse: str, **arguments: Any) -> Any:
    return support.step("database_consistent", refuse=list(refuse), **arguments)


def value(labeller: Labeller, key: str) -> Any:
    found = labeller.sql("SELECT value FROM configuration WHERE key = %s", key)
    return found[0][0] if found else None


# configuration


def test_settings_are_set_checked_and_set_once(labeller: Labeller) -> None:
    labeller.sql("DELETE FROM configuration WHERE key = 'Hit_NotificationEmailAddress'")
    step = {
        "settings": {
            "Hit_StandAlone": "yes", "Hit_MaxAssignmentsF": 4, "StoppingFunc_AccThres": "0.850",
            "Hit_NotificationEmailAddress": "ops@example.org",
        }
    }  # fmt: skip
    before = support.state(labeller)
    predicted = support.check(labeller, settings(**step))
    assert support.state(labeller) == before
    done = support.apply(labeller, settings(**step))
    assert done == predicted
    (diff,) = done["diff"]
    assert diff["before"] == "Hit_MaxAssignmentsF = 5\nHit_StandAlone = false\n"
    assert diff["after"] == (
        "Hit_MaxAssignmentsF = 4\nHit_NotificationEmailAddress = ops@example.org\n"
        "Hit_StandAlone = true\n"
    )
    assert value(labeller, "Hit_StandAlone") == "true"
    assert value(labeller, "Hit_NotificationEmailAddress") == "ops@example.org"
    assert value(labeller, "StoppingFunc_AccThres") == "0.85"
    again = support.apply(labeller, settings(**step))
    assert not again["changed"]
    assert not again["diff"]


def test_a_secret_setting_is_in_no_result(labeller: Labeller) -> None:
    labeller.sql("UPDATE configuration SET value = 'old-' || %s WHERE key = 'instanceF'", SECRET)
    done = support.apply(labeller, settings(secrets={"instanceF": SECRET}))
    assert done["changed"]
    assert SECRET not in json.dumps(done)
    assert "instanceF = ******** (new value)" in done["diff"][0]["after"]
    assert value(labeller, "instanceF") == SECRET
    assert not support.apply(labeller, settings(secrets={"instanceF": SECRET}))["changed"]
    with pytest.raises(errors.InvalidInput, match="give it in secrets") as caught:
        support.apply(labeller, settings(settings={"instanceF": SECRET}))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"settings": {"Hit_Standalone": True}}, "did you mean Hit_StandAlone"),
        ({"settings": {"Hit_StandAlone": "maybe"}}, "expected true or false, not 'maybe'"),
        ({"settings": {"Hit_MaxAssignmentsF": 0, "KMLdlat": "x"}}, "KMLdlat: expected a number"),
        (
            {"settings": {"Hit_PollingInterval": 36001, "Hit_AlertFrequency": 600}},
            "divides by zero",
        ),
        (
            {"settings": {"InitialFnum": 7, "ProportionHoldout": 1}, "state": "valid"},
            "InitialFnum has a parameter of its own: set initial_f_count instead; ProportionHold",
        ),
    ],
)
def test_settings_that_cannot_be_set_are_refused(
    labeller: Labeller, arguments: dict[str, Any], said: str
) -> None:
    before = support.state(labeller)
    for run in (support.check, support.apply):
        with pytest.raises(errors.InvalidInput, match=said):
            run(labeller, settings(**arguments))
    assert support.state(labeller) == before


def test_unknown_settings_when_allowed(labeller: Labeller) -> None:
    support.apply(labeller, settings(settings={"Hit_New": 7}, allow_unknown=True))
    assert value(labeller, "Hit_New") == "7"


def test_a_profile_has_what_it_needs_or_is_refused(labeller: Labeller) -> None:
    valid = {"state": "valid", "profile": "standalone_f"}
    with pytest.raises(errors.Refused, match="needs Hit_StandAlone=true, and it is false"):
        support.apply(labeller, settings(**valid))
    done = support.apply(labeller, settings(settings={"Hit_StandAlone": True}, **valid))
    assert not done["changed"]
    assert value(labeller, "Hit_StandAlone") == "false"
    with pytest.raises(errors.Refused, match="slack_url"):
        support.apply(labeller, settings(state="valid", profile="no_n_notifier"))
    support.apply(labeller, settings(state="valid", profile="no_n_notifier", slack=True))


# database_consistent

#: What breaks each invariant, and what names the row.
BROKEN = {
    "settings": [
        ("DELETE FROM configuration WHERE key = 'Hit_Duration'", "configuration has no key Hit_Duration"),
        ("UPDATE configuration SET value = '1.5' WHERE key = 'Hit_Reward'", "Hit_Reward = '1.5'"),
        (
            "UPDATE configuration SET value = 'No F sites are left.' WHERE key = 'Hit_NeedFKmlsAlert'",
            "Hit_NeedFKmlsAlert = 'No F sites are left.': labeller cannot use it; expected true or false",
        ),
        ("UPDATE configuration SET value = NULL WHERE key = 'IssueAlertAssignee'", "IssueAlertAssignee = NULL: labeller"),
    ],
    "system_data": [
        ("DELETE FROM system_data WHERE key = 'CurQaqcGid'", "system_data has no key CurQaqcGid"),
        ("UPDATE system_data SET value = '' WHERE key = 'CurQaqcGid'", "system_data CurQaqcGid = '': a daemon"),
    ],
    "static_cells": [
        ("UPDATE master_grid SET avail = 'T' WHERE name = {q}", "{q} (Q): avail is T in master_grid"),
        ("UPDATE kml_data_static SET name = 'XX0000001' WHERE name = {q}", "XX0000001 (Q): not in master_grid"),
        ("DELETE FROM kml_data WHERE name = {q}", "kml_data_static {q} (Q) is not in kml_data"),
        ("DELETE FROM kml_data_static WHERE name = {q}", "kml_data {q} (Q) is not in kml_data_static"),
    ],
    "queue_names": [
        ("INSERT INTO kml_data (kml_type, name) VALUES ('F', 'XX0000002')", "kml_data XX0000002 is not in master_grid"),
        (
            "ALTER TABLE hit_data DROP CONSTRAINT hit_data_name_fkey; ALTER TABLE kml_data DROP CONSTRAINT name_idx; INSERT INTO kml_data (kml_type, name) VALUES ('N', {q})", "kml_data {q} is there 2 times",
        ),
    ],
    "scenes": [
        (
            "DELETE FROM scenes_data WHERE season = 'GS' AND cell_id = (SELECT id FROM master_grid WHERE name = {f})",
            "kml_data {f} (F) has 0 GS and 1 OS scenes",
        ),
    ],
    "open_names": [
        ("UPDATE system_data SET value = '7' WHERE key = 'IterationCounter'", "iteration 0, and IterationCounter is 7"),
        ("DELETE FROM kml_data WHERE name = {f}", "incoming_names {f} is unprocessed and not in kml_data as F"),
        (
            "INSERT INTO iteration_metrics (run, iteration) VALUES (91, 1); UPDATE incoming_names SET iteration = 1 WHERE name = {f}", "run 91, iteration 1, and of others",
        ),
        (
            "ALTER TABLE incoming_names DROP CONSTRAINT incoming_names_run_iteration_fkey; DELETE FROM iteration_metrics WHERE run = 91", "names of run 91, iteration 0, and iteration_metrics does not",
        ),
    ],
    "hits": [
        ("INSERT INTO hit_data (name, create_time) VALUES ({f}, now()), ({f}, now())", "2 live HITs for {f}"),
        (
            "UPDATE kml_data SET mapped_count = 5, mappers_needed = 4 WHERE name = {f}",
            "kml_data {f}: mapped_count 5 is above mappers_needed 4",
        ),
    ],
    "metrics": [],
}  # fmt: skip


@pytest.fixture
def fresh(regular_run: Labeller) -> Labeller:
    return regular_run


def test_every_invariant_is_named_with_the_row_that_breaks_it(fresh: Labeller) -> None:
    quality = fresh.sql("SELECT name FROM kml_data WHERE kml_type = 'Q' ORDER BY gid LIMIT 1")[0][0]
    site = fresh.sql("SELECT name FROM kml_data WHERE kml_type = 'F' ORDER BY gid LIMIT 1")[0][0]
    support.apply(fresh, consistent(*(set(BROKEN) - {"metrics"})))
    for invariant, cases in BROKEN.items():
        for statement, said in cases:
            with broken(fresh, statement.format(q=f"'{quality}'", f=f"'{site}'")) as tx:
                with pytest.raises(errors.Refused) as caught:
                    consistent(invariant).run(tx)
                assert said.format(q=quality, f=site) in str(caught.value)
                others = consistent(
                    *[name for name in BROKEN if name not in (invariant, "metrics")]
                )
                others.params["refuse"] = []
                others.run(tx)


class broken:  # noqa: N801
    """A transaction in which a statement broke something; rolled back."""

    def __init__(self, labeller: Labeller, statement: str) -> None:
        self.session = labeller.connect()
        self.cursor = self.session.cursor()
        self.cursor.execute(statement)
        self.tx = Transaction(self.cursor, labeller.options, check=True)

    def __enter__(self) -> Any:
        return self.tx

    def __exit__(self, *_error: object) -> None:
        self.session.close()


def test_what_is_only_warned_of_is_in_the_warnings(fresh: Labeller) -> None:
    done = support.apply(fresh, consistent("hits", warn=["metrics"]))
    assert not done["changed"]
    (warning,) = done["warnings"]
    assert ": metrics: iteration_metrics has iteration 0 of the runs 90, 91; the" in warning
    assert "earlier_metrics=clear" in warning
    assert done["plan"][0]["counts"] == {"metrics": 1}


def test_an_assertion_waits_for_nobody_and_holds_nobody_up(fresh: Labeller) -> None:
    session = fresh.connect()
    with session.cursor() as cursor:
        cursor.execute("UPDATE master_grid SET avail = avail; UPDATE kml_data SET hint = hint")
        support.apply(fresh, consistent("queue_names", "scenes"), lock_timeout=1)
    session.close()


def test_secrets_that_no_daemon_can_read_are_not_shown(labeller: Labeller) -> None:
    labeller.sql("UPDATE configuration SET value = %s WHERE key = 'Hit_Duration'", "x")
    labeller.sql("UPDATE configuration SET value = NULL WHERE key = 'instanceF'")
    with pytest.raises(errors.Refused, match="Hit_Duration = 'x'"):
        support.apply(labeller, consistent("settings"))
    support.apply(labeller, consistent("settings", set_later=["Hit_Duration"]))


# static_sites, pg_clear, worker_qualifications, run_marker


def test_static_sites_twice_and_with_bad_names(labeller: Labeller) -> None:
    chain = lambda: [  # noqa: E731
        support.clear(),
        support.step("static_sites", run_id=3, aoi_index=1, static_names=support.STATIC),
    ]
    support.apply(labeller, *chain())
    step = support.step("static_sites", run_id=3, aoi_index=1, static_names=support.STATIC)
    assert not support.apply(labeller, step)["changed"]
    none = support.step("static_sites", run_id=3, aoi_index=1, static_names="")
    with pytest.raises(errors.InvalidInput, match="static_names is empty"):
        support.check(labeller, none)
    quality = labeller.sql("SELECT name FROM kml_data_static LIMIT 1")[0][0]
    before = support.state(labeller)
    for name, said in ((quality, "as other types"), ("XX1234567", "not in master_grid")):
        labeller.put("planet/bad.csv", f"name,run\n{name},0\n")
        with pytest.raises(errors.InvalidInput, match=said):
            support.apply(
                labeller, support.clear(),
                support.step("static_sites", run_id=4, aoi_index=1, static_names="planet/bad.csv"),
            )  # fmt: skip
    labeller.s3.delete_object(Bucket=labeller.bucket, Key="planet/bad.csv")
    assert support.state(labeller) == before


def test_earlier_metrics_are_kept_or_cleared_with_their_names(labeller: Labeller) -> None:
    support.apply(labeller, support.clear())
    assert labeller.sql("SELECT count(*) FROM iteration_metrics")[0][0] > 0
    assert labeller.sql("SELECT count(*) FROM incoming_names")[0][0] > 0
    with pytest.raises(errors.Refused, match="of iteration_metrics"):
        support.apply(labeller, support.clear(metrics="clear", unprotected=False))
    predicted = support.check(labeller, support.clear(metrics="clear"))
    assert support.apply(labeller, support.clear(metrics="clear")) == predicted
    assert labeller.sql("SELECT count(*) FROM iteration_metrics") == [(0,)]
    assert labeller.sql("SELECT count(*) FROM incoming_names") == [(0,)]


def test_codes_that_return_are_an_option(labeller: Labeller) -> None:
    count = "SELECT count(*) FROM master_grid WHERE avail = %s"
    labeller.sql("UPDATE master_grid SET avail = 'N' WHERE gid = 1")
    marked = {code: labeller.sql(count, code)[0][0] for code in "NF"}
    assert all(marked.values())
    support.apply(labeller, support.clear(reset_availability=["N"]))
    assert labeller.sql(count, "N") == [(0,)]
    assert labeller.sql(count, "F") == [(marked["F"],)]


def test_only_qualified_workers_start_anew(labeller: Labeller) -> None:
    others = "SELECT * FROM worker_data WHERE NOT qualified ORDER BY worker_id"
    before, unqualified = support.state(labeller), labeller.sql(others)
    assert unqualified
    unpaid = labeller.sql("SELECT count(*) FROM worker_data WHERE qualified AND NOT bonus_paid")[0][
        0
    ]
    assert unpaid
    assert not support.apply(labeller, support.step("worker_qualifications"))["changed"]
    assert support.state(labeller) == before
    chain = [support.clear(), support.step("worker_qualifications", state="reset")]
    predicted = support.check(labeller, *chain)
    assert support.apply(labeller, *chain) == predicted
    assert labeller.sql(others) == unqualified
    assert labeller.sql(
        "SELECT DISTINCT scores, returns, bonus_paid FROM worker_data WHERE qualified"
    ) == [([], [], True)]
    assert labeller.sql(
        "SELECT event_type, amount, count(*) FROM assignment_history GROUP BY 1, 2"
    ) == [("Training Bonus", 120, unpaid)]
    again = support.apply(labeller, support.step("worker_qualifications", state="reset"))
    assert not again["changed"]


def follows(run_id: int, **other: Any) -> Any:
    arguments = {"mode": "regular", "aoi_name": "ghana", "aoi_index": 1, "run_id": run_id, **other}
    return support.step("run_marker", follows=True, **arguments)


def test_a_reset_goes_to_the_next_run_only(labeller: Labeller) -> None:
    with pytest.raises(errors.Refused, match="no playbook has marked"):
        support.check(labeller, follows(1))
    support.apply(labeller, *support.regular(91))
    labeller.sql("UPDATE incoming_names SET processed = true WHERE run = 91")
    for wrong in (follows(93), follows(90), follows(92, aoi_index=2), follows(92, aoi_name="togo")):
        for run in (support.check, support.apply):
            with pytest.raises(errors.Refused, match="does not follow the run in place"):
                run(labeller, wrong)
    done = support.apply(labeller, follows(92), *support.regular(92)[1:])
    assert "50 of 50 validate names processed" in done["diff"][0]["before"]
    assert "last metrics: iteration 0, accuracy none" in done["diff"][0]["before"]
    assert not support.apply(labeller, follows(92), *support.regular(92)[1:])["changed"]


# geography

GRID = "id,x,y,name,fwts,avail,date\n"
OBJECTS = {
    "grid": GRID + "1,1.0025,9.9975,TG0000001,3,T,2020-01-01\n2,1.0075,9.9975,TG0000002,4,T,\n",
    "reference_grid": GRID + "3,1.0125,9.9975,TG0000003,5,Q,\n4,1.0175,9.9975,TG0000004,6,I,\n",
    "static_sites": "kml_type,name,hint\nI,TG0000004,look here\nQ,TG0000003,\n",
    "reference_fields": 'name,category,geom_clean\nTG0000003,field,"POLYGON((1 9,1 10,2 10,1 9))"\n',
}
LOADED = [
    (1, 1, "TG0000001", "T"), (2, 2, "TG0000002", "T"), (3, 3, "TG0000003", "Q"),
    (4, 4, "TG0000004", "I"),
]  # fmt: skip


def geography(labeller: Labeller, **changed: str) -> list[Any]:
    """The chain of geography.yml on these objects."""
    keys = {}
    for name, body in {**OBJECTS, **changed}.items():
        keys[name] = f"geo/{name}.csv"
        labeller.put(keys[name], body)
    return [
        support.step("geography", **keys), support.clear(reset_availability=[], restart_sequences=True),
    ]  # fmt: skip


@pytest.fixture
def unproven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backups are s3_table_backup's tests; here every row counts as proved."""
    from ansible_collections.labeller.runbook.plugins.module_utils import proof

    monkeypatch.setattr(proof, "require", lambda *_arguments: None)


def test_geography_without_a_backup_is_refused(labeller: Labeller) -> None:
    chain = geography(labeller)
    before = support.state(labeller)
    for run in (support.check, support.apply):
        with pytest.raises(errors.Refused, match="of master_grid"):
            run(labeller, *chain)
    assert support.state(labeller) == before


@pytest.mark.usefixtures("unproven")
def test_geography_takes_no_row_along(labeller: Labeller) -> None:
    """Neither by a cascade, nor of a table that is emptied only later in the transaction."""
    chain = geography(labeller)
    labeller.sql(
        "CREATE UNIQUE INDEX ON master_grid (name);"
        "CREATE TABLE notes (cell varchar(13) REFERENCES master_grid (name) ON DELETE CASCADE);"
        "INSERT INTO notes SELECT name FROM master_grid LIMIT 7"
    )
    before = support.state(labeller)
    for run in (support.check, support.apply):
        with pytest.raises(errors.Refused, match=r"7 rows of public\.notes .* public\.master_grid"):
            run(labeller, *chain)
    assert support.state(labeller) == before
    labeller.sql(
        "DROP TABLE notes; ALTER TABLE hit_data ADD COLUMN cell varchar(13)"
        " REFERENCES master_grid (name) ON DELETE CASCADE;"
        "UPDATE hit_data SET cell = (SELECT min(name) FROM master_grid)"
    )
    for run in (support.check, support.apply):
        with pytest.raises(errors.Refused, match=r"rows of public\.hit_data .* be deleted"):
            run(labeller, *chain)


@pytest.mark.usefixtures("unproven")
def test_geography_is_replaced_once(labeller: Labeller) -> None:
    support.apply(labeller, *support.regular())
    before = support.state(labeller)
    chain = geography(labeller)
    seen: dict[str, Any] = {}
    predicted = support.check(labeller, *chain, observe=lambda tx: seen.update(c=support.dump(tx)))
    assert {k: v for k, v in support.state(labeller).items() if k != "objects"} == {
        k: v for k, v in before.items() if k != "objects"
    }
    done = support.apply(
        labeller, *geography(labeller), observe=lambda tx: seen.update(a=support.dump(tx))
    )
    assert done == predicted
    assert seen["c"] == seen["a"]
    assert labeller.sql("SELECT gid, id, name, avail FROM master_grid ORDER BY gid") == LOADED
    assert labeller.sql("SELECT kml_type, name, hint, gid FROM kml_data ORDER BY gid") == [
        ("I", "TG0000004", "look here", 1), ("Q", "TG0000003", None, 2),
    ]  # fmt: skip
    assert labeller.sql("SELECT gid, name, category FROM qaqcfields") == [(1, "TG0000003", "field")]
    for table in ("incoming_names", "user_maps", "hit_data", "scenes_data"):
        assert labeller.sql(f"SELECT count(*) FROM {table}") == [(0,)], table
    for sequence in (
        "hit_data_hit_id_seq",
        "user_maps_gid_seq",
        "assignment_data_assignment_id_seq",
    ):
        assert labeller.sql(f"SELECT nextval('{sequence}')") == [(1,)], sequence
    assert labeller.sql("SELECT mode FROM runbook.run_marker ORDER BY id") == [
        ("regular",),
        ("geography",),
    ]

    labeller.sql("UPDATE master_grid SET avail = 'F' WHERE gid = 1")
    again = support.apply(labeller, *geography(labeller))
    assert again["in_place"]
    assert not again["changed"]
    read = transaction.read(geography(labeller)[0], labeller.options)
    assert read["in_place"]
    moved = geography(labeller, grid=OBJECTS["grid"].replace("9.9975", "9.9925"))
    assert not transaction.read(moved[0], labeller.options)["in_place"]


@pytest.mark.usefixtures("unproven")
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"grid": ""}, "grid.csv is empty"),
        ({"grid": GRID}, "has a header and no rows"),
        ({"grid": "id,x,y,name,fwts\n1,2,3,a,4\n"}, "column avail is missing"),
        ({"grid": GRID + "1,1,9,TG0000001,3,T,\nx,1,9,TG0000002,3,T,\n"}, "line 3, column id"),
        ({"grid": GRID + "1,1,9,TG00000012,3,T,\n"}, "too long"),
        ({"grid": GRID + "1,1,9,TG0000001,3,T,\n1,1,9,TG0000002,3,T,\n"}, "another cell's id"),
        ({"grid": GRID + "9,1,9,TG0000003,3,T,\n"}, "1 names are there twice: TG0000003"),
        ({"grid": GRID + "9,1,99,TG0000009,3,T,\n"}, "not on the earth: TG0000009"),
        ({"grid": GRID + "9,1,9,TG0000009,3,X,\n"}, "availability that labeller does not know"),
        ({"grid": GRID + "9,,9,TG0000009,3,T,\n"}, "have no id, x, y"),
        ({"static_sites": "kml_type,name\nQ,TG0000099\n"}, "not in the grid: TG0000099"),
        ({"static_sites": "kml_type,name\nF,TG0000003\n"}, "no type I or Q"),
        ({"static_sites": "kml_type,name\nI,TG0000003\nQ,TG0000003\n"}, "there twice"),
        ({"reference_fields": "name,category,geom_clean\nTG0000001,field,\n"}, "no static site"),
        ({"reference_fields": "\x00\x01"}, "is missing; the header has"),
    ],
)
def test_a_bad_csv_changes_nothing(labeller: Labeller, changed: dict[str, str], said: str) -> None:
    chain = geography(labeller, **changed)
    before = support.state(labeller)
    for run in (support.check, support.apply):
        with pytest.raises(errors.InvalidInput, match=said):
            run(labeller, *chain)
    assert support.state(labeller) == before
