"""crontab_profile on real files and on the real crontab(1)."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import crontab, held
from ansible_collections.labeller.runbook.plugins.module_utils.errors import (
    InvalidInput,
    ModuleFailure,
    Refused,
    Stale,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPTS = ["daemonNanny.sh", *(f"{name}.py" for name in crontab.PROFILES["no_n_notifier"])]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A labeller checkout with the modes that git gives its scripts."""
    return checkout(tmp_path)


def checkout(folder: Path) -> Path:
    common = folder / "labeller" / "common"
    common.mkdir(parents=True)
    for name in SCRIPTS:
        (common / name).write_text("#!/bin/sh\n")
        (common / name).chmod(0o644 if name == "worker_notification_daemon.py" else 0o755)
    return common.parent


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's privileges, so that permissions count."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def profile(home: Path, file: Path | None, *, check: bool = False, **params: Any) -> dict[str, Any]:
    defaults = {
        "state": "present",
        "profile": "no_n_notifier",
        "home": str(home),
        "user": None,
        "stopped_in_check": False,
        "learner": False,
        "learner_command": "",
        "learner_inventory": "",
        "learner_vault_password_file": "",
        "learner_run": {},
    }
    return crontab.run({**defaults, "crontab_file": str(file) if file else None, **params}, check)


def test_present_then_again_then_absent(home: Path) -> None:
    file = home / "crontab"
    file.write_bytes(b"MAILTO=maps\n0 3 * * * caf\xe9 \xff\n")
    file.chmod(0o640)
    before = file.read_bytes()

    checked = profile(home, file, check=True)
    assert file.read_bytes() == before
    done = profile(home, file)
    assert checked == done
    assert done["changed"]
    assert file.read_bytes().startswith(before)
    assert file.stat().st_mode & 0o777 == 0o640
    assert [each["after_header"] for each in done["diff"]] == [
        str(home / "common" / "worker_notification_daemon.py"),
        str(file),
    ]
    assert (home / "common" / "worker_notification_daemon.py").stat().st_mode & 0o777 == 0o755
    assert "caf\\xe9" in done["diff"][1]["before"]

    assert not profile(home, file)["changed"]
    assert profile(home, file, state="absent")["changed"]
    assert file.read_bytes() == before
    again = profile(home, file, state="absent")
    assert not again["changed"]
    assert again["diff"] == []


def test_a_check_of_down_and_up_shows_what_both_do(home: Path) -> None:
    """In check mode the lines are still there when the second step looks."""
    file = home / "crontab"
    profile(home, file)
    file.write_text(file.read_text() + "0 3 * * * tidy\n")
    steps: list[dict[str, Any]] = [{"state": "absent"}, {"stopped_in_check": True}]
    checked = [profile(home, file, check=True, **step) for step in steps]
    assert [profile(home, file, **step) for step in steps] == checked
    assert file.read_text().startswith("0 3 * * * tidy\n# BEGIN")
    assert not profile(home, file, stopped_in_check=True)["changed"]


def test_a_file_that_is_not_there_yet_is_made(home: Path) -> None:
    assert profile(home, home / "crontab", profile="maintenance")["changed"]
    assert (home / "crontab").read_text().splitlines()[0] == "# BEGIN labeller.runbook maintenance"
    assert not profile(home, home / "no_crontab", state="absent")["changed"]
    assert not (home / "no_crontab").exists()


def test_the_loop_has_a_line_of_its_own(home: Path) -> None:
    """Two calls at once: the second does nothing. A percent sign reaches the shell as it is."""
    file = home / "crontab"
    (home / "log").mkdir()
    held = home / "held"
    os.mkfifo(held)
    command = f"sh -c 'date +%s; cat {held}'"
    profile(home, file, learner=True, learner_command=command)
    (line,) = (text for text in file.read_text().splitlines() if "iterate" in text)
    assert line.startswith("2,7,12")
    shell = line.split("* * * * ", 1)[1].replace("\\%", "%")
    calls = [subprocess.Popen(["/bin/sh", "-c", shell]) for _ in range(2)]
    while all(call.poll() is None for call in calls):
        time.sleep(0.01)
    held.write_text("")  # once the other has given up, the one that works may end
    assert sorted(call.wait(10) for call in calls) == [0, 1]
    (said,) = (home / "log" / "iterate.log").read_text().splitlines()
    assert said.isdigit()
    assert not profile(home, file, learner=True, learner_command=command)["changed"]
    assert profile(home, file)["changed"]
    assert "iterate" not in file.read_text()
    with pytest.raises(InvalidInput, match="learner_inventory is empty"):
        profile(home, file, learner=True)
    done = profile(home, file, profile="maintenance", learner=True, learner_command=command)
    assert "does not run generate_consensus_daemon" in done["warnings"][0]


def test_a_line_that_the_user_added_stays_and_is_named(home: Path) -> None:
    """Its daemon is started by cron whatever the profile says, and also while the block is down."""
    file = home / "crontab"
    own = f"*/7 * * * * {home}/common/daemonNanny.sh {home}/common/select_n_sites.py"
    file.write_text(own + "\n")
    for params, means in [
        ({"profile": "maintenance"}, "the profile does not start it"),
        ({"profile": "maintenance", "nsites": True}, "the profile starts it too"),
        ({"state": "absent"}, "comment the line out"),
    ]:
        checked, done = profile(home, file, check=True, **params), profile(home, file, **params)
        assert checked == done
        (said,) = [text for text in done["warnings"] if "missing" not in text]
        assert own in said
        assert "starts select_n_sites by a line that runbook did not write" in said
        assert means in said
        assert own in file.read_text().splitlines()
    assert file.read_text() == own + "\n"


@pytest.fixture
def own_home() -> Iterator[tuple[str, Path]]:
    """A user made for the test, with a home that the user may enter."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a user")
    with tempfile.TemporaryDirectory(prefix="runbook-") as folder:
        Path(folder).chmod(0o755)
        user, user_home = f"runbookl{os.getpid()}", Path(folder, "home")
        subprocess.run(
            ["useradd", "--create-home", "--home-dir", user_home, "--shell", "/bin/bash", user],
            check=True,
        )
        yield user, user_home
        subprocess.run(["userdel", user], check=True)


def test_the_call_of_the_loop_is_tried_as_cron_would_make_it(
    home: Path, own_home: tuple[str, Path]
) -> None:
    """The user's folder, few variables; refused with what runbook said, also in a check."""
    user, user_home = own_home
    file = home / "crontab"
    inventory, password = user_home / "in ventory 9%", user_home / "password"
    params = {
        "user": user, "learner": True, "learner_inventory": str(inventory),
        "learner_vault_password_file": str(password),
        "learner_run": {"run_id": 3, "aoi_name": "ghana", "aoi_index": 2},
    }  # fmt: skip

    def refused(reason: str) -> None:
        for check in (True, False):
            with pytest.raises(Refused, match=reason):
                profile(home, file, check=check, **params)
        assert not file.exists()

    refused(r"\$HOME/runbook/bin/runbook is not there for cron: install runbook")
    program = user_home / "runbook" / "bin" / "runbook"
    program.parent.mkdir(parents=True)
    said = user_home / "said"
    program.write_text(
        f"#!/bin/sh\n{{ env | sort; pwd; printf '%s|' \"$@\"; echo; }} >> '{said}'\n"
        "case $1 in $FAILS) echo the password is wrong >&2; exit 3;; esac\n"
    )
    program.chmod(0o755)
    subprocess.run(["chown", "-R", user, user_home], check=True)
    refused(rf"learner_inventory is {inventory}: it does not exist")
    inventory.mkdir()
    password.touch()
    password.chmod(0o600)
    refused(rf"learner_vault_password_file is {password}: .* its user may not read it")
    shutil.chown(password, user)
    original = program.read_text()
    for command, reason in [("apply", "would be rejected"), ("status", "would not reach the")]:
        program.write_text(original.replace("$FAILS", command))
        refused(rf"(?s)iterate.yml {reason}.*the password is wrong")
    program.write_text(original)
    said.unlink()
    assert profile(home, file, **params)["changed"]
    run = "-e|aoi_index=2 aoi_name=ghana run_id=3"
    access = f"-i|{inventory}|--vault-password-file|{password}"
    lines = said.read_text().splitlines()
    variables = ["HOME", "LOGNAME", "PATH", "PWD", "SHELL", "USER"]
    for call in (f"apply|iterate.yml|{run}|{access}|--validate|", f"status|{access}|"):
        shown, lines = lines[: lines.index(call) + 1], lines[lines.index(call) + 1 :]
        assert [line.split("=")[0] for line in shown[:6]] == variables
        assert shown[6:] == [str(user_home), call]
    # What cron itself calls.
    (line,) = (text for text in file.read_text().splitlines() if "iterate" in text)
    (home / "log").mkdir(mode=0o777)
    said.unlink()
    shell = line.split("* * * * ", 1)[1].replace("\\%", "%")
    subprocess.run(["/bin/sh", "-c", shell], check=True, env={"HOME": str(user_home)})
    assert said.read_text().splitlines()[-1] == f"apply|iterate.yml|{run}|{access}|--yes|--quiet|"

    own = {**params, "learner_command": "A=1 /nowhere/iterate --now"}
    with pytest.raises(Refused, match="/nowhere/iterate is not there for cron"):
        profile(home, file, **own)
    said.unlink()
    assert profile(home, file, **{**own, "learner_command": f"A=1 '{program}' x"})["changed"]
    assert not said.exists()
    with pytest.raises(InvalidInput, match="must be an absolute path"):
        profile(home, file, **{**params, "learner_inventory": "labeller3"})


def test_a_missing_script_is_a_warning(home: Path) -> None:
    done = profile(home, home / "crontab", profile="full")
    assert done["warnings"] == [f"{home}/common/select_n_sites.py is missing: cron cannot start it"]


def test_a_home_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="must be labeller's checkout"):
        profile(tmp_path, tmp_path / "crontab")


@pytest.mark.parametrize("check", [True, False])
def test_a_file_that_may_not_be_written_stops_it_before_any_change(home: Path, check: bool) -> None:
    # Root may write everything, but not where there is no folder.
    file = home / ("nowhere" if os.geteuid() == 0 else "locked") / "crontab"
    if os.geteuid() != 0:
        file.parent.mkdir()
        file.write_text("0 3 * * * tidy\n")
        file.chmod(0o444)
    with pytest.raises(ModuleFailure, match=r"cannot write .*crontab"):
        profile(home, file, check=check)
    assert not file.exists() or file.read_text() == "0 3 * * * tidy\n"
    assert not os.access(home / "common" / "worker_notification_daemon.py", os.X_OK)


def test_permission_is_looked_at_with_the_rights_of_the_user() -> None:
    with as_nobody(), pytest.raises(ModuleFailure, match="may not write /etc"):
        crontab.CrontabFile("/etc/crontab").read()


@pytest.fixture
def public() -> Iterator[Path]:
    """A checkout that everybody reaches and may write to."""
    with tempfile.TemporaryDirectory(prefix="runbook-") as folder:
        home = checkout(Path(folder))
        for path in (Path(folder), home, home / "common"):
            path.chmod(0o777)
        yield home


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change a file's owner")
def test_what_belongs_to_somebody_else_is_refused_before_it_is_changed(public: Path) -> None:
    """A group may write it, but replaced by a member it would change hands."""
    file, script = public / "crontab", public / "common" / "worker_notification_daemon.py"
    file.write_text("0 3 * * * tidy\n")
    file.chmod(0o666)
    told = r"belongs to root:root, and would not any more; run the step as that user or as root"
    with as_nobody(), pytest.raises(ModuleFailure, match=told):
        profile(public, file)
    os.chown(file, 65534, 1)
    with as_nobody(), pytest.raises(ModuleFailure, match=r"crontab: it belongs to \w+:\w+, and"):
        profile(public, file)
    os.chown(file, 65534, 65534)
    for check in (True, False):
        with (
            as_nobody(),
            pytest.raises(ModuleFailure, match=r"executable: it belongs to root:root"),
        ):
            profile(public, file, check=check)
    assert file.read_text() == "0 3 * * * tidy\n"
    os.chown(script, 65534, 65534)
    with as_nobody():
        assert profile(public, file)["changed"]
    assert os.access(script, os.X_OK)


def test_the_lines_run_under_a_real_shell(home: Path) -> None:
    """The commands that cron passes to /bin/sh start the Nanny with the script and its environment."""
    common = home / "common"
    (home / "log").mkdir()
    (common / "bashrc_mapper.sh").write_text(
        "export [ 2>/dev/null; [[ -n x ]] && export WHO=mapper\n"
    )
    (common / "daemonNanny.sh").write_text('#!/bin/sh\necho "$WHO $1"\n')
    for line in crontab.block(crontab.PROFILES["no_n"], str(home))[1:-1]:
        command = line[len(crontab.SCHEDULE) + 1 :]
        assert "%" not in command
        subprocess.run(["/bin/sh", "-c", command], check=True, env={"PATH": "/usr/bin:/bin"})
    assert (home / "log" / "daemonNanny.log").read_text().splitlines() == [
        f" {common}/cleanup_absent_worker.py",
        f" {common}/create_hit_daemon.py",
        f"mapper {common}/generate_consensus_daemon.py",
    ]


@pytest.fixture
def crontab_user() -> Iterator[str]:
    """A user made for the test, whose real crontab it may use."""
    if os.geteuid() != 0 or not shutil.which("crontab"):
        pytest.skip("needs root and cron: .ci/apt installs what CI has")
    user = f"runbook{os.getpid()}"
    subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/sh", user], check=True)
    yield user
    subprocess.run(["crontab", "-u", user, "-r"], capture_output=True)
    subprocess.run(["userdel", user], check=True)


def test_real_crontab(home: Path, crontab_user: str) -> None:
    def listing() -> bytes:
        return subprocess.run(["crontab", "-u", crontab_user, "-l"], capture_output=True).stdout

    before = b"0 3 * * * tidy\n"
    subprocess.run(["crontab", "-u", crontab_user, "-"], input=before, check=True)
    checked = profile(home, None, user=crontab_user, check=True)
    assert listing() == before
    assert profile(home, None, user=crontab_user)["diff"] == checked["diff"]
    assert (
        listing().decode()
        == before.decode()
        + "\n".join(crontab.block(crontab.PROFILES["no_n_notifier"], str(home)))
        + "\n"
    )
    assert not profile(home, None, user=crontab_user)["changed"]
    profile(home, None, user=crontab_user, state="absent")
    assert listing() == before

    subprocess.run(["crontab", "-u", crontab_user, "-r"], check=True)
    profile(home, None, user=crontab_user)
    profile(home, None, user=crontab_user, state="absent")
    assert (
        subprocess.run(["crontab", "-u", crontab_user, "-l"], capture_output=True).returncode == 1
    )
    assert not profile(home, None, user=crontab_user, state="absent")["changed"]


def test_a_denied_crontab_names_the_user(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The words are those of Debian's crontab(1) for a user in cron.deny."""
    stub = tmp_path / "bin" / "crontab"
    stub.parent.mkdir()
    stub.write_text(
        "#!/bin/sh\necho 'You (x) are not allowed to use this program (crontab)' >&2\nexit 1\n"
    )
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stub.parent}:{os.environ['PATH']}")
    me = pwd.getpwuid(os.geteuid()).pw_name
    with pytest.raises(ModuleFailure, match=f"crontab of {me}: You .* not allowed"):
        profile(home, None)


def test_an_unknown_user_is_named(home: Path) -> None:
    with pytest.raises(ModuleFailure, match="nosuchuser"):
        profile(home, None, user="nosuchuser")


@pytest.mark.parametrize("moved", ["crontab", "worker_notification_daemon.py"])
def test_what_moved_since_the_check_is_stale(home: Path, moved: str) -> None:
    file = home / "crontab"
    file.write_text("0 3 * * * nightly\n")
    planned = held.of_result(profile(home, file, check=True))
    if moved == "crontab":
        file.write_text("0 4 * * * nightly\n")
    else:
        (home / "common" / moved).chmod(0o755)
    before = file.read_bytes()
    with pytest.raises(Stale, match=moved):
        profile(home, file, planned=planned)
    assert file.read_bytes() == before
    planned = held.of_result(profile(home, file, check=True))
    assert profile(home, file, planned=planned)["changed"]


def test_a_line_that_is_added_while_the_loop_is_tried_is_not_lost(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = home / "crontab"
    file.write_text("0 3 * * * nightly\n")
    with monkeypatch.context() as patched:
        patched.setattr(
            crontab.loop_call, "verify", lambda _: file.write_text("0 4 * * * nightly\n")
        )
        with pytest.raises(Stale, match="crontab: another process changed it"):
            profile(home, file)
    assert file.read_text() == "0 4 * * * nightly\n"
