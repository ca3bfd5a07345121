"""Run marker and tables: what a restore marks, when they disagree, what may be replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import backup_support
import pytest
import transaction_support as support
from ansible_collections.labeller.runbook.plugins.module_utils import errors, marker, transaction
from ansible_collections.labeller.runbook.plugins.module_utils.backup import make, restore

from runbook.load import schemas

if TYPE_CHECKING:
    from labeller_support import Labeller

TABLES = ["incoming_names", "iteration_metrics", "kml_data", "system_data"]
RUN = {"mode": "regular", "aoi_name": "ghana", "aoi_index": 1}


def given(labeller: Labeller, **more: Any) -> dict[str, Any]:
    """The options of s3_table_backup."""
    options = {"tables": TABLES, **more}
    return backup_support.parameters(labeller.login, labeller.aws, labeller.bucket, **options)


def looked(labeller: Labeller, state: str, **options: Any) -> dict[str, Any]:
    """The result of a state of run_marker that only reads; run 91 unless ``options`` name another."""
    step = support.step("run_marker", **{"state": state, **RUN, "run_id": 91, **options})
    return transaction.read(step, labeller.options)


def marked(labeller: Labeller) -> list[tuple[Any, ...]]:
    return labeller.sql("SELECT mode, run_id, applied_at FROM runbook.run_marker ORDER BY id")


def restored(labeller: Labeller, **options: Any) -> dict[str, Any]:
    """The result of a restore, which its check has predicted; the second one changes nothing."""
    before = support.state(labeller)
    predicted = restore.restored(given(labeller, **options), True)
    assert support.state(labeller) == before
    done = restore.restored(given(labeller, **options), False)
    assert {**done, "in_place": None} == {**predicted, "in_place": None}
    again = restore.restored(given(labeller, **options), False)
    assert (again["changed"], again["in_place"]) == (False, True)
    return dict(done)


def two_runs(labeller: Labeller) -> dict[str, Any]:
    """Run 91 and its backup, half mapped; then run 92 in its place."""
    support.apply(labeller, *support.regular(91))
    labeller.sql(
        "UPDATE incoming_names SET processed = true WHERE name IN"
        " (SELECT name FROM incoming_names WHERE run = 91 ORDER BY name LIMIT 20)"
    )
    made = dict(make.present(given(labeller), False))
    support.apply(labeller, *support.regular(92, replaced_run="91"))
    return made


def test_a_restore_marks_the_run_of_the_backup(labeller: Labeller) -> None:
    made = two_runs(labeller)
    schemas.validator("backup_manifest").validate(made["manifest"])
    first, second = marked(labeller)
    assert not looked(labeller, "checked", run_id=92)["inconsistencies"]
    done = restored(labeller, backup_id=made["backup_id"])
    # The same application of the same run: the learner's clusters are known by its time.
    assert marked(labeller) == [first, second, first]
    assert "regular run 92 on ghana, AOI 1" in done["diff"][-1]["before"]
    assert "regular run 91 on ghana, AOI 1" in done["diff"][-1]["after"]
    found = looked(labeller, "checked")
    assert (found["in_place"], found["inconsistencies"]) == (True, [])
    assert looked(labeller, "resumable")["in_place"]
    # A run in place is not reset, and what is in its place no more is not taken for it.
    assert not support.apply(labeller, *support.regular(91))["changed"]
    with pytest.raises(errors.Refused, match=r"the run in place is regular run 91.*regular\.yml"):
        looked(labeller, "resumable", run_id=92)


def test_a_restore_that_fails_marks_nothing(
    labeller: Labeller, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = two_runs(labeller)
    before = support.state(labeller)

    def fails(*_: Any, **__: Any) -> int:
        raise errors.ModuleFailure("no")

    monkeypatch.setattr(marker, "insert", fails)
    with pytest.raises(errors.ModuleFailure, match="no"):
        restore.restored(given(labeller, backup_id=made["backup_id"]), False)
    assert support.state(labeller) == before


@pytest.mark.parametrize("how", ["another instance's", "older", "some tables"])
def test_tables_of_an_unknown_run_are_marked_as_such(
    labeller: Labeller, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "older":
        with monkeypatch.context() as patched:
            patched.setattr(marker, "saved", lambda _cursor: None)
            made = two_runs(labeller)
    else:
        made = two_runs(labeller)
    options: dict[str, Any] = {"backup_id": made["backup_id"]}
    if how == "another instance's":
        options["same_instance"] = False
    if how == "some tables":
        options["tables"] = ["kml_data"]
    done = restored(labeller, **options)
    assert "restored tables of an unknown run" in done["diff"][-1]["after"]
    assert [mode for mode, _, _ in marked(labeller)] == ["regular", "regular", "restored"]
    found = looked(labeller, "read")
    assert (found["in_place"], found["inconsistencies"]) == (False, [])
    assert found["label"] == "restored tables of an unknown run"
    with pytest.raises(errors.Refused, match="restored_run"):
        looked(labeller, "resumable")
    with pytest.raises(errors.Refused, match="replaced_run=unknown"):
        looked(labeller, "checked", run_id=93)
    assert looked(labeller, "checked", run_id=93, replaced_run="unknown")["headline"]


def test_the_operator_may_say_which_run_the_tables_are(labeller: Labeller) -> None:
    made = two_runs(labeller)
    options = {"backup_id": made["backup_id"], "same_instance": False}
    before = support.state(labeller)
    for check in (True, False):
        wrong = given(labeller, **options, run={**RUN, "run_id": 92})
        with pytest.raises(errors.Refused, match="are not regular run 92.*has no names of run 92"):
            restore.restored(wrong, check)
    assert support.state(labeller) == before
    restored(labeller, **options, run={**RUN, "run_id": 91})
    assert [run for _, run, _ in marked(labeller)] == [91, 92, 91]
    assert looked(labeller, "resumable")["in_place"]
    # Also of tables that are there already.
    labeller.sql("TRUNCATE runbook.run_marker")
    restored(labeller, **options, run={**RUN, "run_id": 91})
    assert [run for _, run, _ in marked(labeller)] == [91]


def test_tables_that_make_no_run_leave_the_marker(labeller: Labeller) -> None:
    support.apply(labeller, *support.regular(91))
    made = make.present(given(labeller, tables=["hit_data", "kml_data"]), False)
    labeller.sql("UPDATE hit_data SET reward = reward + 1; UPDATE kml_data SET hint = 'x'")
    restored(labeller, tables=["hit_data"], backup_id=made["backup_id"], same_instance=False)
    restored(labeller, tables=["kml_data"], backup_id=made["backup_id"])  # of the same run
    assert [run for _, run, _ in marked(labeller)] == [91]


def test_a_backup_of_equal_tables_of_another_run_is_made(labeller: Labeller) -> None:
    first = make.present(given(labeller), False)["backup_id"]
    assert make.present(given(labeller), False)["backup_id"] == first
    support.apply(labeller, support.marker(91))
    again = make.present(given(labeller), False)
    assert again["backup_id"] != first
    assert again["manifest"]["run"]["run_id"] == 91


#: Statements that make the tables disagree with the marker of run 91, and what is said.
DISAGREEMENTS = {
    "UPDATE incoming_names SET run = 92 WHERE run = 91": "no names of run 91",
    "UPDATE incoming_names SET run = 92 WHERE name = (SELECT min(name) FROM incoming_names"
    " WHERE run = 91)": "1 unprocessed names of run 92",
    "UPDATE iteration_metrics SET aoi = '2' WHERE run = 91": "run 91 on AOI 2",
    "UPDATE iteration_metrics SET run = 92 WHERE run = 91": "no iteration 0 of run 91",
    "INSERT INTO kml_data (kml_type, name) SELECT 'F', max(name) FROM master_grid"
    " WHERE avail = 'T'": "1 sites of type F that are not names of run 91",
    "DROP TABLE iteration_metrics CASCADE": "no table iteration_metrics",
}


def test_tables_that_disagree_are_named_and_refused(labeller: Labeller) -> None:
    support.apply(labeller, *support.regular(91))
    labeller.sql(
        "ALTER TABLE incoming_names DROP CONSTRAINT IF EXISTS incoming_names_run_iteration_fkey"
    )
    session = labeller.connect()
    with session, session.cursor() as cursor:
        run = marker.current(cursor)
        assert marker.inconsistencies(cursor, run) == []
        for statement, said in DISAGREEMENTS.items():
            cursor.execute("SAVEPOINT agreed")
            cursor.execute(statement)
            assert said in "; ".join(marker.inconsistencies(cursor, run)), statement
            cursor.execute("ROLLBACK TO agreed")
    session.close()
    labeller.sql(next(iter(DISAGREEMENTS)))
    (line,) = [x for x in looked(labeller, "read")["inconsistencies"] if "no names of run 91" in x]
    for state in ("checked", "resumable"):
        with pytest.raises(errors.Refused, match="the tables disagree") as refused:
            looked(labeller, state)
        assert line in str(refused.value)
    # The way out: the run is recreated, and is not taken to be in place.
    assert not looked(labeller, "checked", replaced_run="91")["in_place"]
    assert not support.check(labeller, *support.regular(91, replaced_run="91"))["in_place"]


def test_a_later_or_a_live_run_is_replaced_only_when_named(labeller: Labeller) -> None:
    support.apply(labeller, *support.regular(91))
    live = r"run 92 .* would replace regular run 91 .*of which 50 names are unprocessed.*=91"
    for run in (support.check, support.apply):
        with pytest.raises(errors.Refused, match=live):
            run(labeller, *support.regular(92))
        with pytest.raises(errors.Refused, match=live):
            run(labeller, *support.regular(92, replaced_run="90"))
    with pytest.raises(errors.Refused, match="unprocessed"):
        looked(labeller, "checked", run_id=92)
    found = looked(labeller, "checked", run_id=92, replaced_run="91")
    assert found["headline"] == (
        "Another run: regular run 92 on ghana, AOI 1 replaces regular run 91 on ghana, AOI 1"
        " (0 of 50 names processed)"
    )
    assert not looked(labeller, "checked", replaced_run="91")["headline"]  # it is in place

    # A finished run makes way for the next one, and for one of another area; not for an earlier.
    labeller.sql("UPDATE incoming_names SET processed = true WHERE run = 91")
    assert support.check(labeller, *support.regular(92))["changed"]
    assert looked(labeller, "checked", run_id=89, aoi_index=2)["headline"]
    for state in ({"run_id": 89}, {"run_id": 89, "mode": "single"}):
        with pytest.raises(errors.Refused, match="a later run on the same AOI"):
            looked(labeller, "checked", **state)
    assert looked(labeller, "checked", run_id=89, replaced_run="91")["headline"]


def test_parameters_that_a_run_in_place_ignores_are_said(labeller: Labeller) -> None:
    made_with = {"initial_f_count": 50, "reset_availability": ["I", "F"]}
    chain = [support.step("run_marker", **RUN, run_id=91, made_with=made_with)]
    support.apply(labeller, *chain, *support.regular(91)[1:])
    same = {"initial_f_count": "50", "reset_availability": ["F", "I"], "draw_seed": 3}
    assert looked(labeller, "checked", made_with=same)["warnings"] == []
    other = {"initial_f_count": 1000000, "reset_availability": []}
    (warning,) = looked(labeller, "checked", made_with=other)["warnings"]
    assert "take effect with a new run_id only: initial_f_count is 1000000, the run was" in warning
    assert "made with 50; reset_availability is empty, the run was made with F, I" in warning
    assert looked(labeller, "read")["current"]["made_with"] == made_with


def test_a_marker_table_of_an_older_version_is_read_and_completed(labeller: Labeller) -> None:
    support.apply(labeller, *support.regular(91))
    labeller.sql("ALTER TABLE runbook.run_marker DROP COLUMN made_with")
    assert looked(labeller, "checked", made_with={"initial_f_count": 1})["warnings"] == []
    chain = support.regular(92, replaced_run="91")
    assert support.check(labeller, *chain)["changed"]
    support.apply(labeller, *chain)
    assert labeller.sql("SELECT made_with FROM runbook.run_marker ORDER BY id") == [
        (None,), ("{}",),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "run", [{}, {"mode": 1}, [], {**RUN, "run_id": 1, "applied_at": "soon", "made_with": {}}]
)
def test_a_manifest_whose_run_cannot_be_used(run: Any) -> None:
    from ansible_collections.labeller.runbook.plugins.module_utils.backup import manifest

    body = {
        "format_version": 1, "backup_id": "x", "bucket": "b", "prefix": "p/", "compression": "zstd",
        "tables": {}, "run": run,
    }  # fmt: skip
    with pytest.raises(errors.InvalidInput, match="cannot be used"):
        manifest.parse(manifest.dumps(body), "s3://b/p/manifest.json")  # type: ignore[arg-type]
