"""A transaction refuses some databases as they are, in check as in apply, and names the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import transaction_support as support
from ansible_collections.labeller.runbook.plugins.module_utils import errors

if TYPE_CHECKING:
    from labeller_support import Labeller


def refused(labeller: Labeller, *steps: Any, **options: Any) -> str:
    """The message with which check and apply refuse alike; nothing may have changed."""
    before = support.state(labeller)
    messages = []
    for run in (support.check, support.apply):
        with pytest.raises(errors.Refused) as caught:
            run(labeller, *steps, **options)
        messages.append(str(caught.value))
        assert support.state(labeller) == before
    assert messages[0] == messages[1]
    return messages[0]


# Rows elsewhere that a deletion would take along


@pytest.mark.parametrize(
    ("action", "fate"),
    [
        ("CASCADE", r"would be deleted \(ON DELETE CASCADE\)"),
        ("SET NULL", r"would lose what they refer to \(ON DELETE SET NULL\)"),
        ("SET DEFAULT", r"would refer to something else \(ON DELETE SET DEFAULT\)"),
        ("RESTRICT", "would refer to nothing"),
        ("NO ACTION", "would refer to nothing"),
    ],
)
def test_rows_of_another_schema_that_refer_to_deleted_ones(
    labeller: Labeller, action: str, fate: str
) -> None:
    """Of the same name as a table that is emptied, and proved by no backup."""
    labeller.sql(
        "CREATE SCHEMA archive; CREATE TABLE archive.user_maps (kml text REFERENCES"
        f" public.kml_data (name) ON DELETE {action});"
        "INSERT INTO archive.user_maps SELECT name FROM kml_data ORDER BY gid LIMIT 50"
    )
    message = refused(labeller, *support.regular())
    assert "50 rows of archive.user_maps that refer to public.kml_data" in message
    assert fate.replace("\\", "") in message
    assert labeller.sql("SELECT count(*) FROM archive.user_maps") == [(50,)]


def test_cascades_are_followed(labeller: Labeller) -> None:
    labeller.sql(
        "CREATE SCHEMA archive;"
        "CREATE TABLE archive.a (id int PRIMARY KEY, kml text REFERENCES public.kml_data (name)"
        " ON DELETE CASCADE);"
        "CREATE TABLE archive.b (id int PRIMARY KEY, a int REFERENCES archive.a ON DELETE CASCADE);"
        "CREATE TABLE archive.c (b int REFERENCES archive.b ON DELETE SET NULL);"
        "INSERT INTO archive.a SELECT 1, min(name) FROM kml_data;"
        "INSERT INTO archive.b VALUES (1, 1), (2, 1); INSERT INTO archive.c VALUES (1), (1), (NULL)"
    )
    message = refused(labeller, support.clear())
    for named in (
        "1 rows of archive.a that refer to public.kml_data",
        "2 rows of archive.b that refer to archive.a, from which rows are deleted, would be del",
        "2 rows of archive.c that refer to archive.b, from which rows are deleted, would lose",
    ):
        assert named in message


def test_a_cascade_from_metrics_that_are_cleared(labeller: Labeller) -> None:
    labeller.sql(
        "CREATE TABLE notes (run int, iteration int, note text, FOREIGN KEY (run, iteration)"
        " REFERENCES iteration_metrics (run, iteration) ON DELETE CASCADE);"
        "INSERT INTO notes SELECT run, iteration, 'x' FROM iteration_metrics"
    )
    count = labeller.sql("SELECT count(*) FROM notes")[0][0]
    message = refused(labeller, support.clear(metrics="clear"))
    assert f"{count} rows of public.notes that refer to public.iteration_metrics" in message
    predicted = support.check(labeller, support.clear())
    assert support.apply(labeller, support.clear()) == predicted


def test_rows_that_refer_to_what_stays_do_not_matter(labeller: Labeller) -> None:
    """Of incoming_names only the unprocessed names are deleted; NULL refers to nothing."""
    labeller.sql(
        "UPDATE incoming_names SET processed = true"
        " WHERE ctid = (SELECT min(ctid) FROM incoming_names);"
        "ALTER TABLE incoming_names ADD COLUMN id serial PRIMARY KEY;"
        "CREATE TABLE notes (name int REFERENCES incoming_names ON DELETE CASCADE, map int"
        " REFERENCES user_maps (gid) ON DELETE CASCADE);"
        "INSERT INTO notes SELECT id FROM incoming_names WHERE processed"
    )
    predicted = support.check(labeller, support.clear())
    assert support.apply(labeller, support.clear()) == predicted
    assert labeller.sql("SELECT count(*) > 0 FROM notes") == [(True,)]
    labeller.sql(
        "INSERT INTO incoming_names (name, run, iteration, processed, usage, label)"
        " SELECT name, run, iteration, false, usage, label FROM incoming_names LIMIT 1;"
        "INSERT INTO notes SELECT id FROM incoming_names WHERE NOT processed"
    )
    message = refused(labeller, support.clear())
    assert "1 rows of public.notes that refer to public.incoming_names" in message


# Triggers

AUDIT = """
CREATE TABLE audit (what text);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO audit VALUES (TG_OP); RETURN NULL; END $$;
CREATE TRIGGER audit AFTER DELETE ON kml_data FOR EACH STATEMENT EXECUTE PROCEDURE audit();
CREATE RULE log AS ON INSERT TO kml_data DO ALSO INSERT INTO audit VALUES ('rule');
"""


def test_triggers_and_rules_are_named_unless_known_to_be_harmless(labeller: Labeller) -> None:
    labeller.sql(AUDIT)
    message = refused(labeller, *support.regular(), allowed_triggers=["public.kml_data.other"])
    assert "trigger public.kml_data.audit; rule public.kml_data.log; nothing was changed" in message
    assert "allowed_triggers" in message
    message = refused(labeller, *support.regular(), allowed_triggers=["public.kml_data.audit"])
    assert "public.kml_data.audit" not in message
    allowed = ["public.kml_data.audit", "public.kml_data.log"]
    predicted = support.check(labeller, *support.regular(), allowed_triggers=allowed)
    assert support.apply(labeller, *support.regular(), allowed_triggers=allowed) == predicted
    assert labeller.sql("SELECT DISTINCT what FROM audit ORDER BY 1") == [("DELETE",), ("rule",)]
    assert support.check(labeller, support.step("grid_availability"))


def test_the_marker_needs_its_schema_only_once(labeller: Labeller) -> None:
    """A role that may create nothing goes on where the marker's table is there."""
    name = labeller.login["login_db"]
    support.apply(labeller, support.marker(91))
    labeller.sql(
        f"CREATE ROLE {name}_role LOGIN PASSWORD 'test'; GRANT USAGE ON SCHEMA runbook TO {name}_role;"
        f"GRANT ALL ON ALL TABLES IN SCHEMA public, runbook TO {name}_role;"
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public, runbook TO {name}_role"
    )
    login = {"login_user": f"{name}_role"}
    predicted = support.check(labeller, support.marker(92), **login)
    assert support.apply(labeller, support.marker(92), **login) == predicted
    labeller.sql(f"DROP OWNED BY {name}_role; DROP ROLE {name}_role")
