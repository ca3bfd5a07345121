"""Editing a crontab: our lines come and go, nobody else's move."""

from __future__ import annotations

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


def test_profile_with_consensus_reads_its_environment_by_bash() -> None:
    assert crontab.block("no_n", HOME) == [
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


def test_old_lines_are_replaced_where_they_were_and_the_rest_stays() -> None:
    block = crontab.block("maintenance", HOME)
    lines = OLD.splitlines()
    assert crontab.edit(OLD, block, HOME, USER_HOME).splitlines() == [
        *lines[:2],
        *block,
        *lines[4:],
    ]
    assert crontab.edit(OLD, [], HOME, USER_HOME).splitlines() == [*lines[:2], *lines[4:]]


def test_no_line_of_ours_changes_the_environment_of_lines_that_follow() -> None:
    for profile in crontab.PROFILES:
        assert all(
            line.startswith(("#", crontab.SCHEDULE)) for line in crontab.block(profile, HOME)
        )


OURS = [
    line for profile in crontab.PROFILES for line in crontab.block(profile, HOME, "runbook apply")
]
FOREIGN = st.one_of(
    st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])),
    st.sampled_from(
        [
            "",
            "SHELL=/bin/sh",
            "# END labeller.runbook-like",
            "#" + OURS[1],
            "X=/home/mapper/labeller/common/daemonNanny.sh",
            "* * * * * /srv/home/mapper/labeller/common/daemonNanny.sh x",
            "* * * * * true\r",
        ]
    ),
).filter(lambda line: not crontab.is_ours(line, HOME, USER_HOME))
PROFILE = st.sampled_from(sorted(crontab.PROFILES))


@given(st.lists(FOREIGN), PROFILE, PROFILE)
@example(["a", "SHELL=/bin/sh"], "full", "no_n")
def test_up_and_down_gives_the_crontab_back(lines: list[str], first: str, second: str) -> None:
    text = "".join(line + "\n" for line in lines)
    up = crontab.edit(text, crontab.block(first, HOME), HOME, USER_HOME)
    assert up != text
    assert crontab.edit(up, crontab.block(first, HOME), HOME, USER_HOME) == up
    other = crontab.edit(up, crontab.block(second, HOME), HOME, USER_HOME)
    assert other == crontab.edit(text, crontab.block(second, HOME), HOME, USER_HOME)
    assert crontab.edit(other, [], HOME, USER_HOME) == text


@given(st.lists(st.one_of(FOREIGN, st.sampled_from(OURS))), PROFILE)
def test_any_mixture_keeps_foreign_lines_in_order(lines: list[str], profile: str) -> None:
    text = "".join(line + "\n" for line in lines)
    block = crontab.block(profile, HOME)
    after = crontab.edit(text, block, HOME, USER_HOME)
    assert "\n".join(block) + "\n" in after
    assert crontab.edit(after, block, HOME, USER_HOME) == after
    foreign = [line + "\n" for line in lines if not crontab.is_ours(line, HOME, USER_HOME)]
    assert (
        crontab.edit(text, [], HOME, USER_HOME)
        == crontab.edit(after, [], HOME, USER_HOME)
        == "".join(foreign)
    )


def test_a_last_line_without_its_end_stays_a_line_of_its_own() -> None:
    up = crontab.edit("0 3 * * * tidy", crontab.block("full", HOME), HOME, USER_HOME)
    assert up.startswith("0 3 * * * tidy\n# BEGIN")
    assert crontab.edit("0 3 * * * tidy", [], HOME, USER_HOME) == "0 3 * * * tidy"


@pytest.mark.parametrize(
    "home", ["labeller", "/home/my maps", "/home/100%", "/home/$x", "/home/a;b", "/a\n/b"]
)
def test_a_home_that_cron_would_misread_is_refused(home: str) -> None:
    with pytest.raises(InvalidInput, match="absolute path without spaces"):
        crontab.plain_home(home)
