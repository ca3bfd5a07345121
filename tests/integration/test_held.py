"""An apply that is held to its plan does what the check said, or nothing."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import transaction_support as support
from ansible_collections.labeller.runbook.plugins.module_utils import errors, held

if TYPE_CHECKING:
    from labeller_support import Labeller

FUNCTION = """
CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} END $$;
CREATE TRIGGER act BEFORE UPDATE ON master_grid FOR EACH ROW EXECUTE PROCEDURE act();
"""


def plan(labeller: Labeller, *steps: Any, **options: Any) -> list[dict[str, Any]]:
    return held.of_result(support.check(labeller, *steps, **options))


def stale(labeller: Labeller, *steps: Any, **options: Any) -> str:
    """The message with which an apply stops; it may leave nothing behind."""
    before = support.state(labeller)
    with pytest.raises(errors.Stale) as caught:
        support.apply(labeller, *steps, **options)
    assert support.state(labeller) == before
    assert support.uploads(labeller) == []
    return str(caught.value)


def test_an_apply_as_planned(labeller: Labeller) -> None:
    planned = plan(labeller, *support.regular())
    assert support.apply(labeller, *support.regular(), planned=planned)["changed"]
    assert plan(labeller, *support.regular()) == []
    assert not support.apply(labeller, *support.regular(), planned=[])["changed"]


@pytest.mark.parametrize(
    ("body", "found"),
    [("RETURN NULL;", "cells_changed 0"), ("NEW.avail = 'N'; RETURN NEW;", "[^;]*N .issued")],
)
def test_a_trigger_that_does_more_than_is_known(labeller: Labeller, body: str, found: str) -> None:
    """Named as harmless, and it is not."""
    labeller.sql(FUNCTION.format(body))
    allowed = {"allowed_triggers": ["public.master_grid.act"]}
    planned = plan(labeller, *support.regular(), **allowed)
    message = stale(labeller, *support.regular(), planned=planned, **allowed)
    assert re.search(r"pg_clear: master_grid \(\S+\): planned [^;]*, found " + found, message)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("INSERT INTO machine_maps DEFAULT VALUES", "pg_clear: machine_maps"),
        (
            "UPDATE user_maps SET category = 'x' WHERE gid = (SELECT min(gid) FROM user_maps)",
            "user_maps .*: its content is not what the check read",
        ),
        (
            (
                "UPDATE incoming_names SET processed = true"
                " WHERE ctid = (SELECT min(ctid) FROM incoming_names WHERE NOT processed)"
            ),
            "incoming_names .*: planned rows_deleted .*, found rows_deleted",
        ),
        (
            "UPDATE system_data SET value = '58' WHERE key = 'CurQaqcGid'",
            "planned CurQaqcGid = 57, found CurQaqcGid = 58",
        ),
        (
            (
                "UPDATE kml_data_static SET kml_type = 'I' WHERE gid = (SELECT max(gid) FROM"
                " kml_data_static WHERE kml_type = 'Q')"
            ),
            "kml_data .*: planned .*I: 8.* found .*I: 9",
        ),
    ],
)
def test_rows_that_moved_since_the_check(labeller: Labeller, statement: str, named: str) -> None:
    planned = plan(labeller, *support.regular())
    labeller.sql(statement)
    message = stale(labeller, *support.regular(), planned=planned)
    assert re.search(named, message), message


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE user_maps ALTER COLUMN category TYPE varchar(99)",
        "ALTER TABLE user_maps ALTER COLUMN category SET DEFAULT 'x'",
        "CREATE INDEX more ON user_maps (category)",
        "ALTER TABLE user_maps ADD CONSTRAINT more CHECK (category <> '') NOT VALID",
        FUNCTION.format("RETURN OLD;").replace("UPDATE ON master_grid", "DELETE ON user_maps"),
    ],
)
def test_a_table_that_was_altered_since_the_check(labeller: Labeller, statement: str) -> None:
    allowed = {"allowed_triggers": ["public.user_maps.act"]}
    planned = plan(labeller, *support.regular(), **allowed)
    labeller.sql(statement)
    message = stale(labeller, *support.regular(), planned=planned, **allowed)
    assert re.search(r"pg_clear: user_maps \(\S+\): its definition is not", message), message


@pytest.mark.parametrize("key", [support.STATIC, support.AOI])
def test_an_object_that_was_replaced_since_the_check(labeller: Labeller, key: str) -> None:
    planned = plan(labeller, *support.regular())
    text = labeller.get(key)
    if key == support.AOI:
        moved = json.loads(text)
        for point in moved["features"][0]["geometry"]["coordinates"][0]:
            point[0] += 0.02
        labeller.put(key, json.dumps(moved))
    else:
        labeller.put(key, "".join(text.splitlines(keepends=True)[:-1]))
    assert "scene_catalog" in stale(labeller, *support.regular(), planned=planned)


def test_rows_of_tables_that_the_plan_does_not_touch(labeller: Labeller) -> None:
    planned = plan(labeller, *support.regular())
    labeller.sql(
        "UPDATE users SET city = 'x'; UPDATE worker_data SET last_time = now();"
        "UPDATE configuration SET value = '7' WHERE key = 'Hit_MaxAssignmentsF';"
        "INSERT INTO categories (category) VALUES ('more')"
    )
    assert support.apply(labeller, *support.regular(), planned=planned)["changed"]


def test_a_run_that_another_operator_has_applied_meanwhile(labeller: Labeller) -> None:
    planned = plan(labeller, *support.regular())
    support.apply(labeller, *support.regular())
    message = stale(labeller, *support.regular(), planned=planned)
    assert "planned run_marker: run marker" in message
    assert "found nothing" in message


def test_a_plan_in_which_a_secret_is_masked(labeller: Labeller) -> None:
    """Ansible masks the value of db_pwd in results, also where it is part of another word."""
    planned = plan(labeller, support.marker())
    masked = [
        {key: value.replace("regular", "********") if isinstance(value, str) else value
         for key, value in entry.items()}
        for entry in planned
    ]  # fmt: skip
    assert masked != planned
    assert support.apply(labeller, support.marker(), planned=masked)["changed"]
