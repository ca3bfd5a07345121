"""The parts of an undo at a database and a bucket: put back, held to what the run left, forced."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import backup_support
import faulty
import pytest
import transaction_support as support
from ansible_collections.labeller.runbook.plugins.module_utils import fingerprint
from ansible_collections.labeller.runbook.plugins.module_utils.backup import make, restore
from ansible_collections.labeller.runbook.plugins.module_utils.errors import InvalidInput, Refused
from ansible_collections.labeller.runbook.plugins.module_utils.undo import places, record

if TYPE_CHECKING:
    from pathlib import Path

    from labeller_support import Labeller

RUN, UNDO = "20260114T093012-3f9a1c", "20260115T093012-3f9a1c"
TABLES = [name for name in support.TABLES if name not in ("master_grid", "users")]
ROWS = "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)), count(*) FROM {} t"


class Undo:
    """Run 92 on another area in the place of run 91, journaled, and what undoes it."""

    def __init__(self, labeller: Labeller, folder: Path) -> None:
        self.labeller, self.folder = labeller, folder
        support.apply(labeller, *support.regular(91))
        labeller.put(support.POOL, "the pool of run 91, but for a comment\n")
        labeller.sql("UPDATE incoming_names SET processed = true WHERE run = 91")
        self.before = self.state()
        self.backup = self.backed_up("host")
        support.apply(
            labeller, *support.regular(92, aoi_index=2, replaced_run="91"),
            backup=self.backup, journal=self.about(RUN, "pg_transaction"),
        )  # fmt: skip
        self.after = self.state()

    def backed_up(self, name: str) -> dict[str, Any]:
        params = self.given(tables=TABLES, prefix=f"backups/database/{name}")
        return dict(make.present(params, False)["manifest"])

    def given(self, **more: Any) -> dict[str, Any]:
        """The options of s3_table_backup."""
        found = self.labeller
        return backup_support.parameters(found.login, found.aws, found.bucket, **more)

    def about(self, run: str, module: str) -> dict[str, Any]:
        return {
            "run": run, "operator": "olli@laptop", "playbook": "regular.yml", "task": "a task",
            "host": "labeller3", "module": module, "folder": str(self.folder / "journal"),
        }  # fmt: skip

    def state(self) -> dict[str, Any]:
        tables = {name: self.labeller.sql(ROWS.format(name)) for name in support.TABLES}
        keys = (support.POOL, support.QS, support.CATALOG, support.TRAINING)
        objects = {key: self.labeller.get(key) for key in self.labeller.keys() & {*keys}}
        marker = self.labeller.sql(
            "SELECT mode, run_id, aoi_index, applied_at FROM runbook.run_marker"
            " ORDER BY id DESC LIMIT 1"
        )
        return {**tables, "objects": objects, "marker": marker}

    def record(self) -> record.Record:
        return record.of({"run": RUN, "journal": self.about(UNDO, "undo")})

    def grid(self, *force: str, check: bool = False) -> dict[str, Any]:
        step = support.step("grid_availability", state="undone", run=RUN, force=list(force))
        about = self.about(UNDO, "grid_availability")
        return support.run(self.labeller, [step], check=check, journal=about)

    def tables(self, *, check: bool = False, **more: Any) -> dict[str, Any]:
        found = self.record()
        options = {
            "tables": sorted(found.tables), "backup_id": self.backup["backup_id"],
            "left": found.tables, "journal": self.about(UNDO, "s3_table_backup"), **more,
        }  # fmt: skip
        journal = options.pop("journal")
        return dict(restore.restored({**self.given(**options), "journal": journal}, check))

    def files(self, *force: str, run: str = RUN, check: bool = False, **more: Any) -> Any:
        spec = {name: option.get("default") for name, option in places.ARGUMENTS.items()}
        params = {
            **spec, **self.labeller.aws, "state": "files", "run": run, "force": list(force),
            "home": str(self.folder), "journal": self.about(UNDO, "undo"), "planned": None, **more,
        }  # fmt: skip
        return places.run(params, check)


@pytest.fixture
def undo(labeller: Labeller, tmp_path: Path) -> Undo:
    return Undo(labeller, tmp_path)


def test_each_part_is_put_back_once_and_that_is_undone(undo: Undo) -> None:
    assert undo.before["master_grid"] != undo.after["master_grid"]
    assert undo.before["objects"] != undo.after["objects"]
    assert undo.record().left == []
    replaced = undo.backed_up("host-before-restore")
    for part, options in ((undo.grid, {}), (undo.tables, {"backup": replaced}),
                          (undo.files, {"backup": replaced})):  # fmt: skip
        planned = part(check=True, **options)
        done = part(**options)
        assert (planned["plan"], planned["diff"]) == (done["plan"], done["diff"])
        assert done["changed"]
        assert not part(**options)["changed"], "done already"
    assert undo.state() == undo.before
    # The undo has images of its own.
    undone = record.of({"run": UNDO, "journal": undo.about(UNDO, "undo")})
    assert undone.backup is not None
    assert undone.backup["backup_id"] == replaced["backup_id"]
    assert undone.left == []
    undo.files(run=UNDO)
    assert undo.state()["objects"] == undo.after["objects"]


def test_cells_of_another_code_are_named_unless_forced(undo: Undo) -> None:
    ((gid,),) = undo.labeller.sql(
        "SELECT min(g.gid) FROM master_grid g JOIN kml_data k USING (name) WHERE kml_type = 'F'"
    )
    undo.labeller.sql("UPDATE master_grid SET avail = 'N' WHERE gid = %s", gid)
    for check in (True, False):
        with pytest.raises(Refused, match=rf"1 cells of master_grid .*first gid {gid} to N"):
            undo.grid(check=check)
    assert undo.grid("grid")["changed"]
    assert undo.state()["master_grid"] == undo.before["master_grid"]


def test_tables_of_other_rows_are_named_unless_any_state_is_accepted(undo: Undo) -> None:
    undo.labeller.sql("UPDATE kml_data SET mapped_count = 3 WHERE kml_type = 'F'")
    undo.labeller.sql(
        "DELETE FROM incoming_names WHERE name = (SELECT max(name) FROM incoming_names)"
    )
    for check in (True, False):
        with pytest.raises(Refused) as refused:
            undo.tables(check=check)
        rows = r"table incoming_names has \d+ rows, not \d+ rows"
        assert refused.match(rows)
        assert refused.match(r"table kml_data has \d+ rows, with other content")
        assert refused.match("--force-step tables")
    # What is replaced must be in the backup that was made for it.
    stale = undo.backed_up("host-before-restore")
    undo.labeller.sql("UPDATE kml_data SET mapped_count = 4 WHERE kml_type = 'F'")
    with pytest.raises(Refused, match="rows were written after backup .*: kml_data"):
        undo.tables(left=None, backup=stale)
    assert undo.tables(left=None)["changed"]
    assert undo.state()["kml_data"] == undo.before["kml_data"]


def test_a_copy_of_the_configuration_is_encrypted_as_asked(labeller: Labeller) -> None:
    def put(encryption: str) -> Any:
        params = {**labeller.aws, "server_side_encryption": encryption}
        states = record.States("labeller: {}\n")
        place = places.ConfigObject(
            ("configuration on S3", labeller.bucket, "c.yaml"), states, params
        )
        place.put(None)
        head = labeller.s3.head_object(Bucket=labeller.bucket, Key="c.yaml")
        return head.get("ServerSideEncryption")

    assert put("AES256") == "AES256"
    assert put("none") is None
    with faulty.Proxy(labeller.aws["endpoint_url"]).running() as proxy:
        proxy.rule = lambda _: faulty.Fault("unencrypted")
        labeller.aws["endpoint_url"] = proxy.url
        with pytest.raises(Refused, match="c.yaml is not encrypted"):
            put("AES256")


def test_an_object_of_other_content_is_named_unless_forced(undo: Undo) -> None:
    undo.labeller.put(support.QS, "mine\n")
    for check in (True, False):
        with pytest.raises(Refused, match=f"changed after the run: .*{support.QS}"):
            undo.files(check=check)
    undo.files("files")
    assert undo.state()["objects"] == undo.before["objects"]


def test_a_run_whose_tables_no_backup_holds_is_refused(labeller: Labeller, tmp_path: Path) -> None:
    about = {
        "run": RUN, "operator": "", "playbook": "iterate.yml", "task": "", "host": "",
        "module": "pg_transaction", "folder": str(tmp_path),
    }  # fmt: skip
    support.apply(labeller, *support.regular(91), journal=about)
    with pytest.raises(
        Refused, match="made no backup of the tables that it wrote, .*incoming_names"
    ):
        record.of({"run": RUN, "journal": about})
    with pytest.raises(InvalidInput, match=f"did you mean {RUN}"):
        record.of({"run": RUN[:-1] + "d", "journal": about})


def test_no_secret_setting_is_in_the_journal(labeller: Labeller, tmp_path: Path) -> None:
    about = {
        "run": RUN, "operator": "", "playbook": "start.yml", "task": "", "host": "",
        "module": "configuration", "folder": str(tmp_path),
    }  # fmt: skip
    old, new = "0a0a0a0a-0000-4000-8000-00000000000a", "0b0b0b0b-0000-4000-8000-00000000000b"
    labeller.sql("DELETE FROM configuration WHERE key IN ('instanceF', 'Hit_MaxAssignmentsN')")
    labeller.sql("INSERT INTO configuration (key, value) VALUES ('instanceF', %s)", old)
    before = labeller.sql(ROWS.format("configuration"))
    step = support.step(
        "configuration", settings={"Hit_MaxAssignmentsN": 8}, secrets={"instanceF": new}
    )
    support.apply(labeller, step, journal=about)
    text = "".join(file.read_text() for file in tmp_path.iterdir())
    assert not [value for value in (old, new) if value in text]
    assert json.loads(text.splitlines()[0])["image"]["settings"]["secret"] == ["instanceF"]
    found = record.of({"run": RUN, "journal": about})
    assert found.left == ["the secret settings instanceF, which no journal holds"]
    step = support.step("configuration", state="undone", run=RUN, force=[])
    assert support.apply(labeller, step, journal={**about, "run": UNDO})["changed"]
    labeller.sql("UPDATE configuration SET value = %s WHERE key = 'instanceF'", old)
    assert labeller.sql(ROWS.format("configuration")) == before


def test_what_a_transaction_leaves_is_what_its_image_says(undo: Undo) -> None:
    found = undo.record()
    assert set(found.tables) >= {"kml_data", "incoming_names", "iteration_metrics", "user_maps"}
    assert not {"run_marker", "master_grid"} & set(found.tables)
    with undo.labeller.connect() as session, session.cursor() as cursor:
        for name, states in found.tables.items():
            assert fingerprint.of_table(cursor, "public", name)._asdict() in states, name
