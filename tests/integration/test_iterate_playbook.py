"""iterate.yml by stock ansible-playbook and by the engine, turn by turn, from start to end."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import iterate_support as support
import pytest
from iterate_support import Instance, Mailbox
from labeller_support import Labeller, client
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with support.mailbox() as box:
        yield box


@pytest.fixture
def instance(labeller: Labeller, tmp_path: Path, mailbox: Mailbox) -> Iterator[Instance]:
    with support.moto() as url:
        here = Labeller(labeller.login, {**labeller.aws, "endpoint_url": url}, "iterate")
        client(here.aws).create_bucket(Bucket=here.bucket)
        for key in sorted(labeller.keys()):
            here.put(key, labeller.get(key))
        support.apply_regular(here)
        made = support.target(here, tmp_path, mailbox.url)
        made.learner.start()
        try:
            yield made
        finally:
            made.learner.stop()


@pytest.mark.campaign
def test_the_loop_from_open_sites_to_its_end(instance: Instance, mailbox: Mailbox) -> None:
    # Sites are open: nothing changes, nothing is asked of EMR.
    idle = instance.stock_turn()
    assert (idle["rc"], idle["changed"], idle["failed"]) == (0, "0", "0"), idle["text"]
    assert instance.learner.seen == []

    # Another call is starting the cluster: no failure to tell people of.
    instance.map_everything()
    claim = instance.claim()
    instance.labeller.put(claim, json.dumps({"attempt": 1, "by": "another host"}))
    code, text = instance.turn()
    assert code == 6, text
    assert "another host is starting its cluster" in text
    assert mailbox.messages == []

    # Another run is changing the target, or a person holds it: not even an exit code.
    instance.labeller.sql(
        "UPDATE runbook.lease SET holder = 'olli@laptop', process = NULL, seen = clock_timestamp()"
    )
    for arguments in ([], ["--check"]):
        code, text = instance.turn(*arguments)
        assert (code, "Export the labelled names" in text) == (0, False), text
    stock = instance.stock_turn()
    assert (stock["rc"], stock["changed"], stock["failed"]) == (0, "0", "0"), stock["text"]
    assert "olli@laptop, who holds the target" in stock["text"]
    assert mailbox.messages == []
    instance.labeller.sql("UPDATE runbook.lease SET holder = NULL")
    instance.labeller.s3.delete_object(Bucket=instance.labeller.bucket, Key=claim)

    # The consensus daemon would start a cluster too, or has another run's names: neither does.
    config = instance.home / "common" / "config.yaml"
    own = config.read_text()
    for changed, said in (
        (
            own.replace("labeller:\n", "labeller:\n  initial: 3\n"),
            "labeller.initial is 3, not None",
        ),
        (
            own.replace(f"runid: {support.RUN}", "runid: 0"),
            f"learner.runid is 0, not {support.RUN}",
        ),
    ):
        config.write_text(changed)
        code, text = instance.turn("--check")
        assert (code, said in text, "Apply the run mode again" in text) == (7, True, True), text
    config.write_text(own)
    assert instance.learner.seen == []

    # All mapped: a check starts nothing, a turn goes to the next iteration, the next one is idle.
    checked = instance.stock_turn("--check")
    assert (checked["rc"], checked["changed"]) == (0, "1"), checked["text"]
    assert instance.learner.seen == []

    # Killed while the cluster works: the check of the next call says that it does not see the end.
    instance.learner.may_work.clear()
    killed = instance.begin()
    until(lambda: instance.learner.seen, 60)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    code, text = instance.turn("--check")
    assert code == 0, text
    assert "unchecked Follow the learner to its end" in text
    assert "Clone Learner RUNNING" in text, "what it waits for"
    instance.learner.may_work.set()
    done = instance.stock_turn()
    assert (done["rc"], done["failed"]) == (0, "0"), done["text"]
    assert len(instance.learner.seen) == 1
    assert instance.labeller.sql(
        "SELECT count(*) FROM incoming_names JOIN kml_data USING (name) WHERE run = %s AND iteration = 1"
        " AND mapped_count = 0", support.RUN,
    ) == [(10,)]  # fmt: skip
    paths = [path for path, _ in mailbox.messages]
    assert paths == ["/slack", "/repos/agroimpacts/issues/issues"]
    assert mailbox.messages[1][1]["title"] == "labeller3: ghana 1, run 91: iteration 1 began"
    code, text = instance.turn()
    assert (code, "changed " in text) == (0, False), text

    # The learner fails: reported once, no second cluster; once fixed, it is started again by hand.
    mailbox.messages.clear()
    instance.map_everything()
    instance.learner.fails = True
    for _ in range(2):
        code, text = instance.turn()
        assert code == 1
        assert "step Clone Learner failed" in text
    assert len(instance.learner.seen) == 2
    assert [path for path, _ in mailbox.messages] == ["/slack", "/repos/agroimpacts/issues/issues"]
    assert "iteration 1 failed" in mailbox.messages[0][1]["text"]

    # Criterion 1 ends the loop; a message that cannot be sent fails nothing.
    mailbox.messages.clear()
    instance.learner.fails = False
    instance.labeller.sql(
        "UPDATE configuration SET value = '2' WHERE key = 'StoppingFunc_MaxIterations'"
    )
    code, text = instance.turn(learner_retry=True, slack_url="http://127.0.0.1:1/slack")
    assert code == 0, text
    assert instance.crontab.read_text() == "0 3 * * * tidy\n"
    assert [body["title"] for _, body in mailbox.messages] == [
        "labeller3: ghana 1, run 91: the loop ended"
    ]
    assert mailbox.messages[0][1]["body"] == "criterion 1: iteration 2 of at most 2"
    code, text = instance.turn()
    assert (code, "changed " in text) == (0, False), text
