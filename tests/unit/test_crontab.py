"""Editing a crontab: runbook's lines come and go, those of others stay where they are."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import crontab
from ansible_collections.labeller.runbook.plugins.module_utils.errors import InvalidInput
from hypothesis import example, given
from hypothesis import strategies as st

HOME = "/home/mapper/labeller"
USER_HOME = "/home/mapper"

OLD = """SHELL=/bin/bash
# labeller
0,5,10,15,20,25,30,35,40,45,50,55 * * * * /home/mapper/labeller/common/daemonNanny.sh /home/mapper/labeller/common/create_hit_daemon.py >>/home/mapper/labeller/log/daemonNanny.log
*/5 * * * * (source ~/labeller/common/bashrc_mapper.sh;$HOME/labeller/common/daemonNanny.sh ~/labeller/common/generate_consensus_daemon.py) >>~/labeller/log/daemonNanny.log
#*/5 * * * * /home/mapper/labeller/common/daemonNanny.sh /home/mapper/labeller/common/select_n_sites.py
0 3 * * * /home/mapper/bin/tidy
*/5 * * * * /home/mapper/labeller2/common/daemonNanny.sh /home/mapper/labeller2/common/create_hit_daemon.py
"""


def block(profile: str, learner_command: str = "") -> list[str]:
    return crontab.block(crontab.daemons(profile, {}), HOME, learner_command)


def test_profile_with_consensus_reads_its_environment_by_bash() -> None:
    assert block("no_n") == [
        "# BEGIN labeller.runbook no_n",
        (
            "0,5,10,15,20,25,30,35,40,45,50,55 * * * * /home/mapper/labeller/common/daemonNanny.sh"
            " /home/mapper/labeller/common/cleanup_absent_worker.py >>/home/mapper/labeller/log/daemonNanny.log"
        ),
        (
            "0,5,10,15,20,25,30,35,40,45,50,55 * * * * /home/mapper/labeller/common/daemonNanny.sh"
            " /home/mapper/labeller/common/create_hit_daemon.py >>/home/mapper/labeller/log/daemonNanny.log"
        ),
        (
            "0,5,10,15,20,25,30,35,40,45,50,55 * * * * /bin/bash -c 'source"
            " /home/mapper/labeller/common/bashrc_mapper.sh; /home/mapper/labeller/common/daemonNanny.sh"
            " /home/mapper/labeller/common/generate_consensus_daemon.py' >>/home/mapper/labeller/log/daemonNanny.log"
        ),
        "# END labeller.runbook",
    ]


def test_profiles_are_those_of_the_reference() -> None:
    consensus, hits, notify, n_sites = (
        "generate_consensus_daemon", "create_hit_daemon", "worker_notification_daemon", "select_n_sites",
    )  # fmt: skip
    assert {
        name: set(daemons) - {"cleanup_absent_worker"} for name, daemons in crontab.PROFILES.items()
    } == {
        "full": {hits, consensus, n_sites},
        "no_n": {hits, consensus},
        "no_n_notifier": {hits, consensus, notify},
        "standalone_f": {hits},
        "maintenance": set(),
    }
    assert all("cleanup_absent_worker" in daemons for daemons in crontab.PROFILES.values())


def old_runner(
    user: str, home: str, *, cleanup: bool, hits: bool, consensus: bool, notify: bool, nsites: bool
) -> list[str]:
    """The entries that crontab_runner.py writes for its five switches, by its own rules.

    From the facts of docs/labeller.md 4.1: one entry a switch in this order, every five minutes; the
    Nanny and the script below /home/USER/labeller; only the consensus daemon's is a subshell, which
    first sources bashrc_mapper.sh below $HOME. Nothing is quoted.
    """
    minutes = ",".join(str(minute) for minute in range(0, 60, 5))
    entries = []
    for wanted, script in [
        (cleanup, "cleanup_absent_worker.py"),
        (hits, "create_hit_daemon.py"),
        (consensus, "generate_consensus_daemon.py"),
        (notify, "worker_notification_daemon.py"),
        (nsites, "select_n_sites.py"),
    ]:
        if not wanted:
            continue
        call = f"/home/{user}/labeller/common/daemonNanny.sh /home/{user}/labeller/common/{script}"
        if script.startswith("generate_consensus"):
            call = f"(source {home}/labeller/common/bashrc_mapper.sh;{call})"
        entries.append(f"{minutes} * * * * {call} >>/home/{user}/labeller/log/daemonNanny.log")
    return entries


@pytest.mark.parametrize("values", list(itertools.product([True, False], repeat=5)))
@pytest.mark.parametrize("profile", sorted(crontab.PROFILES))
def test_the_five_switches_give_the_lines_of_the_old_runner(
    profile: str, values: tuple[bool, ...]
) -> None:
    """All 32, whatever the profile; the consensus daemon's by bash, in whatever shell cron has."""
    switches: dict[str, Any] = dict(zip(crontab.SWITCHES, values, strict=True))
    old = old_runner("mapper", USER_HOME, **switches)
    begin, *lines, end = crontab.block(crontab.daemons(profile, switches), HOME)
    assert begin.startswith("# BEGIN labeller.runbook ")
    assert end == "# END labeller.runbook"
    as_bash = [re.sub(r"\((source \S+?;)(.*)\)", r"/bin/bash -c '\1 \2'", line) for line in old]
    assert lines == as_bash
    # What the old runner has put up is replaced, entry by entry.
    header = ["# Any email generated by this crontab script", "SHELL=/bin/bash", ""]
    up = crontab.edit("\n".join([*header, *old, ""]), [begin, *lines, end], HOME)
    assert up.splitlines() == [*header, begin, *lines, end]
    assert not crontab.kept(up, HOME, USER_HOME)


def test_without_switches_the_profile_decides() -> None:
    assert crontab.daemons("full", dict.fromkeys(crontab.SWITCHES)) == crontab.PROFILES["full"]
    switched = crontab.daemons("standalone_f", {"notify": True, "hits": None})
    assert switched == (*crontab.PROFILES["standalone_f"], "worker_notification_daemon")
    assert crontab.title(switched) == "cleanup=T hits=T consensus=F notify=T nsites=F"
    assert crontab.title(crontab.daemons("full", {"nsites": False})) == "no_n"
    assert crontab.block((), HOME)[0].endswith("cleanup=F hits=F consensus=F notify=F nsites=F")


def test_exact_old_lines_are_replaced_where_they_were_and_the_rest_stays() -> None:
    own = block("maintenance")
    lines = OLD.splitlines()
    assert crontab.edit(OLD, own, HOME).splitlines() == [*lines[:2], *own, *lines[3:]]
    assert crontab.edit(OLD, [], HOME).splitlines() == [*lines[:2], *lines[3:]]


def test_a_nanny_line_that_the_user_added_is_kept_and_named() -> None:
    """The consensus daemon's has another schedule than crontab_runner.py's; another checkout."""
    (found,) = crontab.kept(OLD, HOME, USER_HOME)
    assert found == (OLD.splitlines()[3], "generate_consensus_daemon")
    up = crontab.edit(OLD, block("full"), HOME)
    assert crontab.kept(up, HOME, USER_HOME) == [found]
    own = f"*/7 * * * * {HOME}/common/daemonNanny.sh {HOME}/common/create_hit_daemon.py"
    assert [kept.daemon for kept in crontab.kept(own, HOME, USER_HOME)] == ["create_hit_daemon"]
    assert crontab.edit(own + "\n", [], HOME) == own + "\n"


def test_markers_without_their_pair_take_no_other_line() -> None:
    begin, entry, end = block("maintenance")
    assert crontab.edit(f"{begin}\na\n{entry}\nb\n", [], HOME) == "a\nb\n"
    assert crontab.edit(f"a\n{end}\nb\n", [], HOME) == "a\nb\n"
    assert crontab.edit(f"{begin}\na\n{begin}\nb\n{end}\nc\n", [], HOME) == "a\nc\n"


def test_no_line_of_ours_changes_the_environment_of_lines_that_follow() -> None:
    for profile in crontab.PROFILES:
        assert all(line.startswith(("#", crontab.SCHEDULE)) for line in block(profile))


OURS = [line for profile in crontab.PROFILES for line in block(profile, "runbook apply")]
FOREIGN = st.one_of(
    st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])),
    st.sampled_from(
        [
            "",
            "SHELL=/bin/sh",
            "# END labeller.runbook-like",
            "#" + OURS[1],
            OURS[1].replace("0,5", "1,6"),
            OURS[1] + " 2>&1",
            "X=/home/mapper/labeller/common/daemonNanny.sh",
            "* * * * * /srv/home/mapper/labeller/common/daemonNanny.sh x",
            "* * * * * true\r",
        ]
    ),
).filter(lambda line: not crontab.managed([line], HOME)[0])
PROFILE = st.sampled_from(sorted(crontab.PROFILES))


@given(st.lists(FOREIGN), PROFILE, PROFILE)
@example(["a", "SHELL=/bin/sh"], "full", "no_n")
def test_up_and_down_gives_the_crontab_back(lines: list[str], first: str, second: str) -> None:
    text = "".join(line + "\n" for line in lines)
    up = crontab.edit(text, block(first), HOME)
    assert up != text
    assert crontab.edit(up, block(first), HOME) == up
    other = crontab.edit(up, block(second), HOME)
    assert other == crontab.edit(text, block(second), HOME)
    assert crontab.edit(other, [], HOME) == text


@given(st.lists(st.one_of(FOREIGN, st.sampled_from(OURS))), PROFILE)
def test_any_mixture_keeps_foreign_lines_in_order(lines: list[str], profile: str) -> None:
    text = "".join(line + "\n" for line in lines)
    own = block(profile)
    after = crontab.edit(text, own, HOME)
    assert "\n".join(own) + "\n" in after
    assert crontab.edit(after, own, HOME) == after
    flags = crontab.managed(lines, HOME)
    foreign = [line + "\n" for line, ours in zip(lines, flags, strict=True) if not ours]
    assert crontab.edit(text, [], HOME) == crontab.edit(after, [], HOME) == "".join(foreign)


def test_a_last_line_without_its_end_stays_a_line_of_its_own() -> None:
    up = crontab.edit("0 3 * * * tidy", block("full"), HOME)
    assert up.startswith("0 3 * * * tidy\n# BEGIN")
    assert crontab.edit("0 3 * * * tidy", [], HOME) == "0 3 * * * tidy"


@pytest.mark.parametrize(
    "home", ["labeller", "/home/my maps", "/home/100%", "/home/$x", "/home/a;b", "/a\n/b"]
)
def test_a_home_that_cron_would_misread_is_refused(home: str) -> None:
    with pytest.raises(InvalidInput, match="absolute path without spaces"):
        crontab.plain_home(home)
