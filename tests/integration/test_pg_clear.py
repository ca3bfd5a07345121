"""pg_clear: what it deletes and keeps, and that it deletes nothing that no backup proves."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import fault_support as faults
import pytest
import transaction_support as support
from ansible_collections.labeller.runbook.plugins.module_utils import errors
from ansible_collections.labeller.runbook.plugins.module_utils.backup import make
from ansible_collections.labeller.runbook.plugins.module_utils.steps import pg_clear
from ansible_collections.labeller.runbook.plugins.modules import s3_table_backup
from labeller_support import admin
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from labeller_support import Labeller

    from runbook.sandbox import postgres

BACKED_UP = [*pg_clear.TABLES, "incoming_names"]


def make_backup(labeller: Labeller, *, check: bool = False) -> dict[str, Any]:
    defaults = {name: spec.get("default") for name, spec in s3_table_backup.ARGUMENTS.items()}
    given = {"state": "present", "prefix": "backups/database/host", "tables": BACKED_UP}
    options = {**labeller.options, **given}
    params = {**defaults, **{k: v for k, v in options.items() if k in defaults}}
    manifest: dict[str, Any] = make.present(params, check)["manifest"]
    return manifest


def guarded(**arguments: Any) -> Any:
    return support.clear(unprotected=False, **arguments)


def one_n_cell(labeller: Labeller) -> None:
    labeller.sql(
        "UPDATE master_grid SET avail = 'N'"
        " WHERE gid = (SELECT min(gid) FROM master_grid WHERE avail = 'T')"
    )


def rows(labeller: Labeller, table: str) -> int:
    return int(labeller.sql(f"SELECT count(*) FROM {table}")[0][0])


def test_with_a_backup_the_run_is_gone_and_the_rest_is_kept(labeller: Labeller) -> None:
    kept = ("worker_data", "users", "configuration", "iteration_metrics", "kml_data_static",
            "qaqcfields", "master_grid", "categories")  # fmt: skip
    one_n_cell(labeller)
    before = {table: rows(labeller, table) for table in kept}
    processed = labeller.sql("SELECT * FROM incoming_names WHERE processed ORDER BY name")
    manifest = make_backup(labeller)
    predicted = support.check(labeller, guarded(backup=manifest))
    assert support.apply(labeller, guarded(backup=manifest)) == predicted
    for table in pg_clear.TABLES:
        assert rows(labeller, table) == (106 if table == "kml_data" else 0), table
    assert {table: rows(labeller, table) for table in kept} == before
    assert labeller.sql("SELECT * FROM incoming_names ORDER BY name") == processed
    assert labeller.sql(
        "SELECT gid, kml_type, name, hint, mapped_count FROM kml_data ORDER BY 1"
    ) == [
        (n, *row, 0)
        for n, row in enumerate(
            labeller.sql("SELECT kml_type, name, hint FROM kml_data_static ORDER BY gid"), 1
        )
    ]
    assert dict(labeller.sql("SELECT key, value FROM system_data")) == {
        "CurQaqcGid": "0", "IterationCounter": "0", "firstAvailLine": "1",
    }  # fmt: skip
    assert labeller.sql("SELECT DISTINCT avail FROM master_grid ORDER BY 1") == [("N",), ("T",)]
    assert labeller.sql("SELECT nextval('machine_maps_gid_seq'), nextval('kml_data_gid_seq')") == [
        (1, 107)
    ]


def test_a_second_time_nothing_changes(labeller: Labeller) -> None:
    support.apply(labeller, support.clear())
    before = support.state(labeller)
    result = support.apply(labeller, support.clear())
    assert not result["changed"], result["diff"]
    assert support.state(labeller) == before


def test_the_diff_names_every_table_with_its_rows(labeller: Labeller) -> None:
    result = support.check(labeller, support.clear())
    shown = {d["before_header"].split()[1]: (d["before"], d["after"]) for d in result["diff"]}
    maps = rows(labeller, "user_maps")
    assert shown["user_maps"] == (f"{maps:,} rows\n", "0 rows\n")
    assert shown["kml_data"][0] == "F: 160 sites\nI: 8 sites\nQ: 98 sites\nnext gid 267\n"
    assert shown["kml_data"][1] == "I: 8 sites\nQ: 98 sites\nnext gid 107\n"
    assert shown["system_data"][0] == (
        "CurQaqcGid = 57\nIterationCounter = 3\nfirstAvailLine = 501\n"
    )
    assert "F (pool or chosen F cell): " in shown["master_grid"][0]
    plan = {item["resource"].split()[1]: item for item in result["plan"]}
    assert plan["user_maps"]["counts"] == {"rows_deleted": maps}
    assert plan["user_maps"]["before_fingerprint"].startswith(("hash64:", "md5sum:"))


# The backup must prove every row


@pytest.mark.parametrize("moment", ["check", "apply"])
def test_without_a_backup_it_is_refused(labeller: Labeller, moment: str) -> None:
    before = support.state(labeller)
    with pytest.raises(errors.Refused, match=r"no backup is given.*of user_maps"):
        getattr(support, moment)(labeller, guarded())
    assert support.state(labeller) == before


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (
            "INSERT INTO user_maps (name, assignment_id) SELECT 'x', max(assignment_id) FROM user_maps",
            "table user_maps has .* rows, the backup",
        ),
        (
            "UPDATE user_maps SET category = 'tree' WHERE gid = (SELECT min(gid) FROM user_maps)",
            "table user_maps has .* other content",
        ),
        (
            "DELETE FROM user_maps WHERE gid = (SELECT min(gid) FROM user_maps)",
            "table user_maps has .* rows, the backup",
        ),
        (
            "UPDATE incoming_names SET label = NOT label WHERE NOT processed",
            "table incoming_names has .* other content",
        ),
    ],
)
def test_one_row_that_moved_since_the_backup_refuses_it(
    labeller: Labeller, statement: str, problem: str
) -> None:
    manifest = make_backup(labeller)
    labeller.sql(statement)
    before = support.state(labeller)
    for run in (support.check, support.apply):
        with pytest.raises(errors.Refused, match=problem):
            run(labeller, guarded(backup=manifest))
        assert support.state(labeller) == before


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_a_row_that_is_written_while_its_table_is_waited_for_refuses_it(
    labeller: Labeller, postgres_server: postgres.PostgresServer, level: str
) -> None:
    """Whatever isolation the database or the role has by default."""
    name = labeller.login["login_db"]
    manifest = make_backup(labeller)
    setting = f"default_transaction_isolation = '{level}'"
    admin(postgres_server, f"ALTER DATABASE {name} SET {setting}")
    writer = faults.Held(
        labeller,
        "INSERT INTO scenes_data (provider, scene_id, cell_id, season, date_time)"
        " VALUES ('x', 'x', 1, 'GS', now())",
    )
    step = guarded(backup=manifest)
    run = faults.Background(lambda: support.apply(labeller, step, lock_timeout=60))
    until(lambda: faults.waiting(labeller, "scenes_data"))
    writer.execute("COMMIT")
    with pytest.raises(errors.Refused, match=r"table scenes_data has .* rows, the backup"):
        run.result()
    writer.let_go()


def test_the_transactions_backup_serves_the_step(labeller: Labeller) -> None:
    assert support.apply(labeller, guarded(), backup=make_backup(labeller))["changed"]


def test_a_planned_backup_serves_a_check_only(labeller: Labeller) -> None:
    planned = make_backup(labeller, check=True)
    assert planned["planned"]
    assert support.check(labeller, guarded(backup=planned))["changed"]
    with pytest.raises(errors.Refused, match="only planned"):
        support.apply(labeller, guarded(backup=planned))


def _without_a_table(manifest: dict[str, Any]) -> None:
    del manifest["tables"]["hit_data"]


def _with_live_numbers(manifest: dict[str, Any]) -> None:
    manifest["tables"]["hit_data"]["objects"] = []


def _another_prefix(manifest: dict[str, Any]) -> None:
    manifest["prefix"] = "backups/elsewhere/"


@pytest.mark.parametrize(
    ("forge", "problem"),
    [
        (_without_a_table, "table hit_data is not in it"),
        (_with_live_numbers, "is not the manifest that was given"),
        (_another_prefix, "its manifest cannot be read"),
        (lambda manifest: manifest.pop("tables"), "is no manifest"),
        (lambda manifest: manifest.update(tables=[]), "is no manifest"),
    ],
)
def test_a_manifest_that_is_not_the_one_on_s3_is_refused(
    labeller: Labeller, forge: Callable[[dict[str, Any]], None], problem: str
) -> None:
    manifest = copy.deepcopy(make_backup(labeller))
    forge(manifest)
    before = support.state(labeller)
    with pytest.raises(errors.Refused, match=problem):
        support.apply(labeller, guarded(backup=manifest))
    assert support.state(labeller) == before


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_backup_whose_object_is_gone_or_cut_is_refused(labeller: Labeller, damage: str) -> None:
    manifest = make_backup(labeller)
    key = manifest["tables"]["user_maps"]["objects"][0]["key"]
    if damage == "gone":
        labeller.s3.delete_object(Bucket=labeller.bucket, Key=key)
    else:
        labeller.put(key, b"x")
    with pytest.raises(errors.Refused, match=f"{key} has (no|1) bytes"):
        support.apply(labeller, guarded(backup=manifest))


def test_empty_tables_need_no_backup(labeller: Labeller) -> None:
    support.apply(labeller, support.clear())
    labeller.sql("DELETE FROM kml_data")
    support.apply(labeller, guarded())
    assert rows(labeller, "kml_data") == 106


# Tables


def test_rows_that_refer_to_an_emptied_table_refuse_it(labeller: Labeller) -> None:
    """assignment_review would go by ON DELETE CASCADE, without a backup having proved it."""
    tables = [name for name in pg_clear.TABLES if name != "assignment_review"]
    before = support.state(labeller)
    for run in (support.check, support.apply):
        with pytest.raises(
            errors.Refused,
            match="rows of public.assignment_review that refer to public.assignment_data",
        ):
            run(labeller, support.clear(tables=tables))
    assert support.state(labeller) == before


def test_a_missing_table_is_named_unless_optional(labeller: Labeller) -> None:
    labeller.sql("DROP TABLE machine_maps, assignment_review")
    predicted = support.check(labeller, support.clear())
    assert support.apply(labeller, support.clear()) == predicted
    labeller.sql("DROP TABLE qual_user_maps")
    for run in (support.check, support.apply):
        with pytest.raises(errors.InvalidInput, match="has no table qual_user_maps"):
            run(labeller, support.clear())


def test_only_some_tables_and_codes(labeller: Labeller) -> None:
    one_n_cell(labeller)
    before = rows(labeller, "kml_data")
    step = support.clear(tables=["machine_maps"], reset_availability=["N"])
    predicted = support.check(labeller, step)
    assert support.apply(labeller, step) == predicted
    assert rows(labeller, "kml_data") == before
    assert rows(labeller, "machine_maps") == 0
    codes = [code for (code,) in labeller.sql("SELECT DISTINCT avail FROM master_grid ORDER BY 1")]
    assert codes == ["F", "I", "Q", "T"]


@pytest.mark.parametrize("table", ["incoming_names", "master_grid", "run_marker"])
def test_tables_that_are_not_work_are_not_emptied(labeller: Labeller, table: str) -> None:
    with pytest.raises(errors.InvalidInput, match=f"does not empty {table}"):
        support.apply(labeller, support.clear(tables=[table]))


def test_a_missing_counter_is_made(labeller: Labeller) -> None:
    labeller.sql("DELETE FROM system_data WHERE key = 'IterationCounter'")
    support.apply(labeller, support.clear())
    assert labeller.sql("SELECT value FROM system_data WHERE key = 'IterationCounter'") == [("0",)]


def test_geometry_and_large_texts_pass_unread(labeller: Labeller) -> None:
    labeller.sql("UPDATE user_maps SET categ_comment = repeat('x', 2000)")
    manifest = make_backup(labeller)
    assert support.apply(labeller, guarded(backup=manifest))["changed"]
