"""Crontab, config.yaml and modes of scripts are put back from the target's journal."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import crontab, journal
from ansible_collections.labeller.runbook.plugins.module_utils.change import Change
from ansible_collections.labeller.runbook.plugins.module_utils.errors import InvalidInput, Refused
from ansible_collections.labeller.runbook.plugins.module_utils.undo import places, record

RUN, UNDO = "20260114T093012-3f9a1c", "20260115T093012-3f9a1c"
CHANGE = Change("something", "write", "before\n", "after\n")
OLD = "labeller:\n  SECRET_KEY: the-old-secret\n  DEBUG: true\n"
NEW = "labeller:\n  SECRET_KEY: the-new-secret\n  DEBUG: false\n"


class Target:
    """A host that a run has changed: crontab, config.yaml, a script."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "labeller"
        common = self.home / "common"
        common.mkdir(parents=True)
        self.tab, self.config = folder / "crontab", common / "config.yaml"
        self.script = common / "daemonNanny.sh"
        lines = crontab.block(crontab.PROFILES["full"], str(self.home))
        self.before = "1 2 * * * mine\n"
        self.after = crontab.edit(self.before, lines, str(self.home))
        self.tab.write_text(self.after)
        self.config.write_text(NEW)
        self.config.chmod(0o640)
        self.script.touch(0o755)
        self.journal(
            {"kind": "crontab", "crontab_file": str(self.tab), "user": None,
             "before": self.before, "after": self.after,
             "modes": [{"path": str(self.script), "before": 0o644, "after": 0o755}]},
            {"kind": "configuration",
             "file": {"path": str(self.config), "before": [OLD, 0o600], "after": [NEW, 0o640]}},
        )  # fmt: skip

    def about(self, run: str, **more: str) -> dict[str, Any]:
        return {
            "run": run, "operator": "olli@laptop", "playbook": "start.yml", "task": "a task",
            "host": "one", "module": "a_module", "folder": str(self.folder / "journal"), **more,
        }  # fmt: skip

    def journal(self, *images: Any, run: str = RUN, **more: str) -> None:
        for image in images:
            with journal.begun({"journal": self.about(run, **more)}, [CHANGE], image):
                pass

    def params(self, state: str, **more: Any) -> dict[str, Any]:
        spec = {name: option.get("default") for name, option in places.ARGUMENTS.items()}
        return {**spec, "state": state, "run": RUN, "home": str(self.home), "force": [],
                "journal": self.about(UNDO), "crontab_file": str(self.tab), **more}  # fmt: skip

    def call(self, state: str, *, check: bool = False, **more: Any) -> dict[str, Any]:
        return dict(places.run(self.params(state, **more), check))


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(tmp_path)


def test_files_are_put_back_and_no_secret_is_shown(target: Target) -> None:
    planned, done = target.call("files", check=True), target.call("files")
    assert (planned["diff"], planned["plan"]) == (done["diff"], done["plan"])
    assert done["web_changed"]
    assert target.config.read_text() == OLD
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (target.config, target.script)]
    assert modes == [0o600, 0o644]
    assert "secret" not in str(done).replace("(secret", "")
    again = target.call("files")
    assert not again["changed"]
    assert not again["web_changed"]


def test_the_crontab_is_put_back_also_when_its_lines_are_out(target: Target) -> None:
    assert target.call("read")["in_place"] is False
    planned = target.call("crontab", check=True, stopped_in_check=True)
    target.tab.write_text(crontab.edit(target.after, [], str(target.home)))
    done = target.call("crontab")
    assert planned["plan"] == done["plan"]
    assert target.tab.read_text() == target.before
    assert target.call("read")["in_place"] is True


def test_what_was_changed_since_is_refused_by_name_and_forced(target: Target) -> None:
    target.config.write_text(NEW + "# mine\n")
    target.tab.write_text(target.after + "3 4 * * * mine too\n")
    for state, path in (("files", target.config), ("crontab", target.tab)):
        was = path.read_text()
        for check in (True, False):
            with pytest.raises(Refused, match=f"{path}.*--force-step {state}"):
                target.call(state, check=check)
        assert path.read_text() == was
        assert target.call(state, force=[state])["changed"]
    assert (target.config.read_text(), target.tab.read_text()) == (OLD, target.before)


def test_a_file_that_the_run_made_is_removed(target: Target) -> None:
    made = target.home / "common" / "made.yaml"
    made.write_text(NEW)
    made.chmod(0o640)
    image = {"path": str(made), "before": [None, None], "after": [NEW, 0o640]}
    target.journal({"kind": "configuration", "file": image}, run="20260114T100000-3f9a1c")
    target.call("files", run="20260114T10")
    assert not made.exists()


def test_the_first_state_counts_and_any_of_the_run_is_accepted(target: Target) -> None:
    """A run that was killed may have left any of them."""
    stopped = crontab.edit(target.after, [], str(target.home))
    run = "20260114T110000-3f9a1c"
    for before, after in ((target.before, stopped), (stopped, target.after)):
        target.journal({"kind": "crontab", "crontab_file": str(target.tab), "user": None,
                        "before": before, "after": after}, run=run)  # fmt: skip
    states = record.of({"run": run, "journal": target.about(UNDO)}).places[
        ("crontab", str(target.tab), "")
    ]
    assert (states.before, states.given) == (target.before, [stopped, target.after])


def test_what_cannot_be_undone_is_said(target: Target) -> None:
    run = "20260114T120000-3f9a1c"
    target.journal(None, run=run, module="emr_learner", task="Start the learner")
    said = target.call("read", run=run)["headline"]
    assert "messages that were sent" in said
    assert "the learner's cluster and what it cost (Start the learner)" in said


def test_that_labeller_stays_out_of_service_is_said(target: Target) -> None:
    """As of a run that finished one which had removed the crontab before it was cut off."""
    found = record.of(target.params("read"))
    found.tables["kml_data"] = {}
    said = "Labeller is left out of service"
    assert said in places._headline(found, target.params("read"))
    (states,) = found.of_kind("crontab").values()
    states.before = target.after
    assert said not in places._headline(found, target.params("read"))


def test_a_record_of_an_early_version_is_refused(target: Target) -> None:
    file = {"path": str(target.config), "mode": 0o600, "before": OLD, "after": NEW}
    images = (
        {"kind": "database", "run": None, "backup": None},
        {"kind": "restore", "run": None},
        {"kind": "configuration", "file": file},
    )
    for number, image in enumerate(images):
        run = f"20260114T12000{number}-3f9a1c"
        target.journal(image, run=run)
        with pytest.raises(Refused, match="journaled by another version"):
            target.call("read", run=run)


def test_of_many_later_runs_five_are_named(target: Target) -> None:
    for number in range(7):
        target.journal({"kind": "places", "places": []}, run=f"20260114T20000{number}-3f9a1c")
    said = target.call("read")["warnings"]
    assert len(said) == 6
    assert said[-1] == "2 other runs have, too"


def test_newest_is_the_last_run_of_the_host_that_is_no_undo(target: Target) -> None:
    target.journal({"kind": "places", "places": []}, run=UNDO, playbook="undo.yml")
    target.journal({"kind": "places", "places": []}, run="20260114T130000-3f9a1c", host="two")
    found = target.call("read", run="newest")
    assert found["run"] == RUN
    assert [warning.split(" has")[0] for warning in found["warnings"]] == [
        f"undo.yml by olli@laptop (run {UNDO})"
    ]
    for wrong, message in (("", "which run"), ("20260114T093012-3f9a1d", f"did you mean {RUN}")):
        with pytest.raises(InvalidInput, match=message):
            target.call("read", run=wrong)


def test_other_daemons_than_before_mean_that_it_must_be_stopped(target: Target) -> None:
    run = "20260114T140000-3f9a1c"
    image = {"kind": "daemons", "home": str(target.home), "before": [], "after": []}
    target.journal(image, run=run)
    assert target.call("read", run=run)["in_place"] is True
    target.journal({**image, "before": ["create_hit_daemon"]}, run=run[:-1] + "d")
    found = target.call("read", run=run[:-1] + "d")
    assert (found["in_place"], found["daemons"]) == (False, ["create_hit_daemon"])
    # Of a run that changed neither crontab nor tables, only what it started is stopped.
    target.journal({**image, "after": ["select_n_sites"]}, run=run[:-1] + "e")
    found = target.call("read", run=run[:-1] + "e")
    assert (found["stops"], found["started"]) == (False, ["select_n_sites"])
    assert target.call("read")["stops"] is True
