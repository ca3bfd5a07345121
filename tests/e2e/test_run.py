"""The run itself, on small playbooks of its own: events, exit codes, secrets, interruption."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import resource
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from waiting import until

from runbook import processes
from runbook.collection import root

PROGRAM = Path(sys.executable).parent / "runbook"
LOCAL = {
    "ansible_connection": "local",
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
}


@dataclass(frozen=True)
class Repository:
    """An operations repository: inventories/here.yml, playbooks, a RUNBOOK_HOME and a TMPDIR."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("ANSIBLE_", "RUNBOOK_", "COLUMNS"))
        }
        return {
            **kept,
            "RUNBOOK_HOME": str(self.home),
            "TMPDIR": str(self.folder / "tmp"),
            "TERM": "xterm",
        }

    def inventory(self, hosts: dict[str, Any] | None = None, **variables: Any) -> None:
        everything = {"all": {"hosts": hosts or {"here": LOCAL}, "vars": variables}}
        (self.folder / "inventories" / "here.yml").write_text(yaml.safe_dump(everything))

    def playbook(self, *tasks: dict[str, Any], **play: Any) -> None:
        body = {"name": "Test", "hosts": "all", "gather_facts": False, "tasks": list(tasks), **play}
        (self.folder / "playbooks" / "p.yml").write_text(yaml.safe_dump([body], sort_keys=False))

    def command(self, *arguments: str, target: str = "here") -> list[str]:
        return [str(PROGRAM), "apply", "p.yml", "-i", target, *arguments]

    def apply(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, **options.pop("env", {})}
        command = self.command(*arguments, target=options.pop("target", "here"))
        return subprocess.run(
            command, env=environment, cwd=self.folder, text=True, capture_output=True,
            stdin=subprocess.DEVNULL, timeout=60, **options,
        )  # fmt: skip

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments), env=self.environment, cwd=self.folder, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def files_with(self, *secrets: str) -> list[Path]:
        """The files below the home and the temporary folder that contain one of ``secrets``.

        While a run goes on files vanish between two looks, and folders with them.
        """
        found = []
        for place in (self.home, self.folder / "tmp"):
            for folder, _, names in os.walk(place):
                for path in (Path(folder) / name for name in names):
                    with contextlib.suppress(FileNotFoundError):
                        if path.is_file():  # no pipe, which one would wait for
                            text = path.read_text(errors="replace")
                            found += [path for secret in secrets if secret in text]
        return found


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    for name in ("inventories", "playbooks", "tmp"):
        (tmp_path / name).mkdir()
    made = Repository(tmp_path)
    made.inventory()
    return made


def touch(path: Path, name: str = "Write a file") -> dict[str, Any]:
    """A step that writes a file: by one module, where copy needs two and a file to send."""
    line = {"path": str(path), "line": "new", "create": True, "mode": "0600"}
    return {"name": name, "ansible.builtin.lineinfile": line}


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_check_changes_nothing_apply_makes_it_so_and_a_second_time_changes_nothing(
    repository: Repository,
) -> None:
    old = repository.home / "runs" / "20010203T040506-00000a"
    old.mkdir(parents=True)
    file = repository.folder / "file"
    repository.playbook(touch(file))
    check = repository.apply("--check", "--diff", "--detailed-exitcode")
    assert check.returncode == 2, check.stderr
    assert "+new" in check.stdout
    assert "Nothing was changed" in check.stdout
    assert not file.exists()
    assert " changed=1 " in repository.apply("--yes").stdout
    assert file.read_text() == "new\n"
    assert old.exists()
    # Nothing to change: nothing to ask.
    second = repository.apply("--detailed-exitcode", env={"RUNBOOK_KEEP_RUNS": "1"})
    assert second.returncode == 0, second.stderr
    assert " changed=0 " in second.stdout
    assert "Nothing to change" in second.stdout
    assert not old.exists()


def test_json_is_one_event_a_line_and_the_result_last(repository: Repository) -> None:
    repository.playbook(
        touch(repository.folder / "file"),
        {"name": "Loop", "ansible.builtin.debug": {"msg": "{{ item }}"}, "loop": ["a", "b"]},
        {"name": "Never", "ansible.builtin.debug": {"msg": "x"}, "when": False},
        {"name": "Tolerated", "ansible.builtin.fail": {"msg": "so what"}, "ignore_errors": True},
    )
    done = repository.apply("--yes", "--json")
    assert done.returncode == 0, done.stderr
    events = lines(done)
    schemas = {
        name: jsonschema.Draft202012Validator(
            json.loads((root() / "schemas" / f"{name}.schema.json").read_text())
        )
        for name in ("event", "result")
    }
    for event in events[:-1]:
        schemas["event"].validate(event)
    schemas["result"].validate(events[-1])
    check, real = runs(events)
    for run in (check, real):
        assert [event["status"] for event in run] == ["changed", "ok", "skipped", "ignored"]
    journal = repository.home / "runs" / events[-1]["run_id"]
    assert [
        json.loads(line) for line in (journal / "events.jsonl").read_text().splitlines()
    ] == events[:-1]
    assert json.loads((journal / "result.json").read_text()) == events[-1]


def runs(events: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The results of steps, of each run: the check and the real one."""
    found: list[list[dict[str, Any]]] = []
    for event in events:
        if event["event"] == "run_started":
            found.append([])
        elif event["event"] == "task_result":
            found[-1].append(event)
    return found


def test_hosts_of_later_plays_and_batches(repository: Repository) -> None:
    """Their parameters are known when their play begins; who is not come to in a check is named."""
    repository.inventory(dict.fromkeys("abcd", LOCAL), bucket="{{ inventory_hostname }}-b")
    said = {"name": "Say", "ansible.builtin.debug": {"msg": "{{ bucket }}"}}
    fail = {"name": "Fail", "ansible.builtin.fail": {}, "when": "inventory_hostname > 'a'"}
    plays = [
        {"name": name, "hosts": name, "gather_facts": False, "serial": 1, "tasks": [said, fail]}
        for name in ("a", "b,c", "d")
    ]
    (repository.folder / "playbooks" / "p.yml").write_text(yaml.safe_dump(plays))
    done = repository.apply("--check", "--json", "--report", "r.md")
    assert done.returncode == 1, done.stderr
    named = {event["event"]: event for event in lines(done)}
    assert named["run_started"]["parameters"] == {"bucket": "a-b"}
    assert named["parameters_read"]["parameters"] == {f"bucket [{x}]": f"{x}-b" for x in "abc"}
    assert named["run_finished"]["not_checked"] == ["c", "d"]
    assert "--limit 'all:!b'" in done.stderr
    report = (repository.folder / "r.md").read_text()
    assert "Not checked, as the check ended before it came to them: c, d." in report
    assert "`bucket [b]`" in report


@pytest.mark.campaign
def test_a_run_outlives_the_reader_of_its_output(repository: Repository) -> None:
    file = repository.folder / "file"
    repository.playbook(touch(file))
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        repository.command("--yes"), stdout=writer, stderr=subprocess.PIPE, cwd=repository.folder,
        env=repository.environment, text=True,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
    assert file.exists()


def test_two_targets_are_refused(repository: Repository) -> None:
    repository.playbook(touch(repository.folder / "file"))
    done = repository.apply("-i", "other")
    assert done.returncode == 64
    assert "a run has one target" in done.stderr


def test_json_does_not_mean_yes(repository: Repository) -> None:
    file = repository.folder / "file"
    repository.playbook(touch(file))
    done = repository.apply("--json")
    assert done.returncode == 7
    assert lines(done)[-1]["exit_code"] == 7
    assert not file.exists()


@pytest.fixture
def asking(repository: Repository) -> tuple[Repository, Path, list[str]]:
    """A repository whose playbook changes something, its file, and the summary that it shows."""
    file = repository.folder / "file"
    repository.inventory(bucket="{{ inventory_hostname }}-b", place=str(file))
    line = {"path": "{{ place }}", "line": "{{ bucket }}", "create": True, "mode": "0600"}
    repository.playbook({"name": "Write a file", "ansible.builtin.lineinfile": line})
    check = repository.apply("--check")
    assert check.returncode == 0, check.stderr
    _, *summary = check.stdout.splitlines()
    summary = summary[: next(n for n, line in enumerate(summary) if line.startswith("here "))]
    assert "  bucket=here-b" in summary
    assert "new, 1 line" in " ".join(" ".join(summary).split())
    return repository, file, summary


def test_at_a_terminal_it_asks(asking: tuple[Repository, Path, list[str]]) -> None:
    repository, file, summary = asking
    code, shown = at_terminal(repository, repository.command(), "y\n")
    assert code == 0, shown
    assert "Make these changes on here?" in shown
    assert "{{" not in shown
    assert "\n".join(summary) in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", shown)
    assert "\x1b[32m" in shown
    assert file.exists()


def test_the_process_of_the_real_run_waits_for_the_answer(repository: Repository) -> None:
    repository.playbook(touch(repository.folder / "file"))
    waiting: list[processes.Process] = []

    def no(engine: int) -> str:
        waiting.extend(
            child
            for child in processes.descendants(engine)
            if b"child.launch" in Path(f"/proc/{child.pid}/cmdline").read_bytes()
        )
        return "n\n"

    code, shown = at_terminal(repository, repository.command(), no)
    assert code == 7, shown
    assert len(waiting) == 1
    assert processes.Process.of(waiting[0].pid) != waiting[0]
    assert not (repository.folder / "file").exists()


def test_losses_are_directly_above_the_question_and_shown_once(repository: Repository) -> None:
    crontab, file = repository.folder / "crontab", repository.folder / "file"
    crontab.write_text("# BEGIN labeller.runbook\n0 0 * * * true\n# END labeller.runbook\n")
    remove = {
        "name": "Remove the crontab",
        "labeller.runbook.crontab_profile": {
            "state": "absent",
            "home": str(repository.folder),
            "crontab_file": str(crontab),
        },
    }
    repository.playbook(remove, touch(file))
    command = shlex.join(repository.command())
    piped = ["/bin/bash", "-o", "pipefail", "-c", f"{command} | tee out"]
    for each in (repository.command(), piped):
        code, shown = at_terminal(repository, each, "n\r")
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", shown)
        assert code == 7, shown
        losses = r"\nDeleted, replaced or stopped:\n  /\S+/crontab:\s+3\s+lines\s+removed\n"
        assert re.search(losses + r"Make these changes on here\? \(y/N\): ", shown), shown
        assert shown.count("Made or changed") == shown.count("Deleted, replaced") == 1, shown
        assert "true" in crontab.read_text()
        assert not file.exists()
    assert "Made or changed" not in (repository.folder / "out").read_text()


@pytest.mark.campaign
@pytest.mark.parametrize("silent", ["--json", "--quiet", ""])
def test_it_shows_and_asks_the_same_where_stdout_does_not_show_it(
    asking: tuple[Repository, Path, list[str]], silent: str
) -> None:
    repository, file, summary = asking
    command = shlex.join(repository.command(*[silent] * bool(silent)))
    shell = ["/bin/sh", "-c", f"exec {command} >{repository.folder}/out"]
    code, shown = at_terminal(repository, shell, "n\n")
    assert code == 7
    assert shown.replace("\r", "").startswith("\n".join(summary) + "\nMake these changes on here?")
    assert not file.exists()


def at_terminal(
    repository: Repository, command: list[str], *typed: str | Callable[[int], str]
) -> tuple[int, str]:
    """Run at a terminal of its own; each of ``typed`` answers a question on the screen.

    Some answers are given by what is called with the id of the process that asks.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(repository.folder)
        os.execve(command[0], command, repository.environment)
    answers = iter(typed)
    shown, fresh, deadline = b"", b"", time.monotonic() + 120
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 0.2)[0]:
            continue
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # the other side is closed: it has ended
            break
        shown, fresh = shown + chunk, fresh + chunk
        if fresh.rstrip(b" ").endswith(b":"):
            answer = next(answers)
            os.write(terminal, (answer if isinstance(answer, str) else answer(pid)).encode())
            fresh = b""
    else:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), shown.decode(errors="replace")


@pytest.mark.campaign
def test_a_run_needs_no_locale_and_no_terminal_of_utf_8(repository: Repository) -> None:
    """Cron gives no locale; ssh may bring one that is not installed, and a terminal of latin-1."""
    file = repository.folder / "file"
    repository.playbook(touch(file, "Write 5 € — ✓"))
    environment = {"LC_ALL": "xx_XX.ISO-8859-1", "PYTHONIOENCODING": "latin-1"}
    done = repository.apply("--yes", "--quiet", env=environment)
    assert (done.returncode, file.read_text()) == (0, "new\n"), done.stderr
    assert "changed: Write 5 ? ? ? [here]" in done.stdout
    target = os.fsdecode(b"b\xe9")
    refused = repository.apply(target=target, env={"LC_ALL": "C.UTF-8"})
    assert (refused.returncode, refused.stderr) == (
        3, "'b\\udce9' is not UTF-8; rename that file or folder\n",
    )  # fmt: skip


def test_a_typo_is_found_before_anything_is_contacted(repository: Repository) -> None:
    file = repository.folder / "file"
    repository.playbook(touch(file), {"name": "Typo", "ansible.builtin.comand": "true"})
    done = repository.apply("--yes", "--json")
    assert done.returncode == 3
    [result] = lines(done)
    [problem] = [problem for problem in result["problems"] if "comand" in problem["message"]]
    assert problem["suggestion"] == "ansible.builtin.command"
    assert problem["line"] > 0
    assert f"p.yml:{problem['line']}:" in done.stderr
    assert not file.exists()
    assert not (repository.home / "runs").exists()


def test_unknown_names_say_what_exists(repository: Repository) -> None:
    repository.playbook(touch(repository.folder / "file"))
    done = repository.apply(target="hree")
    assert done.returncode == 3
    assert "did you mean here" in done.stderr


def test_what_a_check_cannot_check_is_said_and_done(repository: Repository) -> None:
    file = repository.folder / "file"
    repository.playbook({"name": "Run", "ansible.builtin.command": f"touch {file}"})
    refused = repository.apply()
    assert refused.returncode == 7
    assert "--yes" in refused.stderr
    assert "a check cannot show what these do: Run" in refused.stdout
    assert not file.exists()
    assert repository.apply("--yes").returncode == 0
    assert file.exists()


def test_a_failed_step_exits_1_and_says_why(repository: Repository) -> None:
    repository.playbook(
        touch(repository.folder / "file"),
        {"name": "Break", "ansible.builtin.command": "sh -c 'echo out; echo broken >&2; exit 3'"},
    )
    done = repository.apply("--yes")
    assert done.returncode == 1
    for said in ("failed: Break [here]", "broken", "Done before that: Write a file"):
        assert said in done.stdout


def test_a_rescued_failure_is_none(repository: Repository) -> None:
    repository.playbook(
        {
            "name": "Try",
            "block": [{"name": "Break", "ansible.builtin.fail": {"msg": "no"}}],
            "rescue": [{"name": "Recover", "ansible.builtin.debug": {"msg": "recovered"}}],
        }
    )
    done = repository.apply("--yes")
    assert done.returncode == 0
    assert " rescued=1 " in done.stdout


def test_an_unreachable_host_exits_4(repository: Repository) -> None:
    port = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_connection": "ssh"}
    repository.inventory({"here": port})
    repository.playbook(touch(repository.folder / "file"))
    for fast in ("1", "0"):
        done = repository.apply("--yes", env={"RUNBOOK_FAST": fast})
        assert done.returncode == 4, done.stdout
        assert " unreachable=1 " in done.stdout
        assert "here (address 127.0.0.1, port 1, user of ssh's configuration) can" in done.stdout
        assert "Nothing answers there: check that the host is running" in done.stdout
        assert "This must work without a question: ssh -p 1 127.0.0.1\n" in done.stdout


@pytest.mark.campaign
def test_output_is_the_same_each_time_whatever_the_operators_ansible_settings(
    repository: Repository,
) -> None:
    repository.playbook(touch(repository.folder / "file"))
    (repository.folder / "ansible.cfg").write_text(
        "[defaults]\nstdout_callback = nonsense\ninventory = /none\n"
    )
    foreign = {"ANSIBLE_STDOUT_CALLBACK": "nonsense", "ANSIBLE_CHECK_MODE_MARKERS": "1", "JOB_ID": "abc",
               "ANSIBLE_STRATEGY": "nonsense", "ANSIBLE_FORCE_COLOR": "1"}  # fmt: skip
    plain = repository.apply("--check")
    done = repository.apply("--check", env=foreign)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == plain.stdout


def test_tags_limit_and_start(repository: Repository) -> None:
    repository.inventory({"here": LOCAL, "there": LOCAL})
    tagged = {"name": "Tagged", "ansible.builtin.debug": {"msg": "t"}, "tags": ["some"]}
    other = {"name": "Other", "ansible.builtin.debug": {"msg": "o"}}
    repository.playbook(tagged, other)

    def ran(*arguments: str) -> list[tuple[str, str]]:
        results = [line for line in lines(repository.apply("--check", "--json", *arguments))
                   if line["event"] == "task_result"]  # fmt: skip
        return [(line["task"], line["host"]) for line in results]

    assert sorted(ran("-t", "some")) == [("Tagged", "here"), ("Tagged", "there")]
    assert ran("--skip-tags", "some", "-l", "there") == [("Other", "there")]
    assert ran("--start-at-task", "Other", "-l", "here") == [("Other", "here")]


@pytest.mark.campaign
def test_step_asks_before_each_step(repository: Repository) -> None:
    first, second = repository.folder / "first", repository.folder / "second"
    repository.playbook(touch(first, "First"), touch(second, "Second"))
    code, shown = at_terminal(repository, repository.command("--yes", "--step"), "n\n", "y\n")
    assert code == 0, shown
    for name in ("First", "Second"):
        assert f"\nPerform task: TASK: {name} (N)o/(y)es/(c)ontinue: " in shown.replace("\r", "")
    assert not first.exists()
    assert second.exists()


SECRETS = {
    "inventory": "plain-inventory-pw",
    "template": "templated-inventory-pw",
    "vault": "vaulted-inventory-pw",
    "command": "command-line-pw",
    "environment": "environment-pw",
    "unknown": "vaulted-unknown-name-pw",
}


def encrypted(text: str, password: Path) -> str:
    """``text`` as a vault."""
    from ansible.constants import DEFAULT_VAULT_ID_MATCH
    from ansible.parsing.vault import VaultLib, VaultSecret

    secret = VaultSecret(password.read_bytes().strip())
    encrypted: bytes = VaultLib([(DEFAULT_VAULT_ID_MATCH, secret)]).encrypt(text)
    return encrypted.decode()


def with_secrets(repository: Repository) -> tuple[str, ...]:
    """An inventory with a secret of every origin, a playbook that shows them all; the options."""
    password = repository.folder / "vault-password"
    password.write_text("open sesame\n")
    group_vars = repository.folder / "inventories" / "group_vars"
    group_vars.mkdir()
    (group_vars / "all.yml").write_text(
        f"db_pwd: {SECRETS['inventory']}\n"
        f"github_api_url: https://u:{SECRETS['vault']}@h\n"  # what holds a secret is shown masked
        f"slack_url: \"{{{{ '{SECRETS['template'][:9]}' ~ '{SECRETS['template'][9:]}' }}}}\"\n"
        + "".join(
            f"{name}: !vault |\n  "
            + "\n  ".join(encrypted(SECRETS[key], password).splitlines())
            + "\n"
            for name, key in (("github_token", "vault"), ("my_own", "unknown"))
        )
    )
    shown = "{{ github_api_url }} {{ db_pwd }} {{ slack_url }} {{ github_token }} {{ my_own }} {{ api_key }} {{ environment }}"
    shown = shown.replace(
        "{{ environment }}", "{{ lookup('ansible.builtin.env', 'MY_SECRET') | length }}"
    )
    repository.playbook(
        {"name": "Say", "ansible.builtin.debug": {"msg": shown}},
        {
            "name": "Run",
            "ansible.builtin.command": f"echo {shown}",
            "register": "out",
            "changed_when": True,
        },
        {
            "name": "Write",
            "ansible.builtin.copy": {
                "content": shown + "\n",
                "dest": str(repository.folder / "file"),
                "mode": "0600",
            },
        },
        {
            "name": "Fail",
            "ansible.builtin.fail": {"msg": "{{ out.stdout }}"},
            "when": "not ansible_check_mode",
        },
    )
    return ("--vault-password-file", str(password), "-e", f"api_key={SECRETS['command']}")


@pytest.mark.parametrize(
    "more",
    [
        pytest.param((), marks=pytest.mark.campaign),
        pytest.param(("--json",), marks=pytest.mark.campaign),
        ("-vvv", "--diff"),
    ],
)
def test_no_secret_is_shown_or_stays_on_disk(repository: Repository, more: tuple[str, ...]) -> None:
    options = with_secrets(repository)
    environment = {"MY_SECRET": SECRETS["environment"]}
    done = repository.apply("--yes", *options, *more, env=environment)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "********" in done.stdout
    assert (repository.folder / "file").exists(), done.stdout
    written = (repository.folder / "file").read_text()
    for origin, secret in SECRETS.items():
        assert secret not in done.stdout + done.stderr, origin
        assert secret in written or origin == "environment"
    assert repository.files_with(*SECRETS.values()) == []


def test_a_vault_opens_by_a_prompt_or_nothing_is_done(repository: Repository) -> None:
    _, password, *_ = with_secrets(repository)
    wrong = repository.folder / "wrong"
    wrong.write_text("wrong\n")
    done = repository.apply("--yes", "--vault-password-file", str(wrong), "-e", "api_key=kkkkkkkk")
    assert done.returncode == 3
    assert (
        f"my_own: encrypted, and not with the password given by --vault-password-file {wrong}"
        in done.stderr
    )
    assert "Check" not in done.stdout
    command = repository.command("--check", "--vault-id", "dev@prompt", "-e", "api_key=kkkkkkkk")
    code, shown = at_terminal(repository, command, Path(password).read_text())
    assert code == 0, shown
    assert "Vault password (dev)" in shown


def test_no_secret_is_on_disk_while_it_runs_nor_in_the_process_table(
    repository: Repository,
) -> None:
    options = with_secrets(repository)
    repository.playbook({"name": "Wait", "ansible.builtin.command": "sleep 30"},
                        {"name": "Say", "ansible.builtin.debug": {"msg": "{{ api_key }} {{ my_own }}"}})  # fmt: skip
    process = repository.start("--yes", "--json", *options)
    try:
        wait_for(process, "Wait")
        commands = [
            line for line in processes_of(repository) if "runbook.execute.child.launch" in line
        ]
        assert commands
        assert not [line for line in commands if SECRETS["command"] in line]
        assert repository.files_with(SECRETS["command"]) == []
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def wait_for(process: subprocess.Popen[str], task: str) -> None:
    """Until ``--json`` says that the real run has begun ``task``."""
    assert process.stdout is not None
    real = False
    for line in process.stdout:
        event = json.loads(line)
        real = real or (event["event"] == "run_started" and not event["check"])
        if real and event["event"] == "task_started" and event["name"] == task:
            return
    pytest.fail(f"{task} never began")


def processes_of(repository: Repository) -> list[str]:
    """Command lines of the processes that run in the repository's environment."""
    return list(numbered(repository).values())


def numbered(repository: Repository) -> dict[int, str]:
    """Their command lines by process id."""
    mark = f"RUNBOOK_HOME={repository.home}".encode()
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                command = (entry / "cmdline").read_bytes()
                found[int(entry.name)] = command.replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.campaign), signal.SIGTERM]
)
def test_an_interruption_stops_cleanly_and_says_what_was_done(
    repository: Repository, number: signal.Signals
) -> None:
    file = repository.folder / "file"
    repository.playbook(touch(file, "First"), {"name": "Wait", "ansible.builtin.command": "sleep 60"},
                        touch(repository.folder / "never", "Never"))  # fmt: skip
    process = repository.start("--yes", "--json")
    wait_for(process, "Wait")
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    result = json.loads(out.splitlines()[-1])
    finished = json.loads(out.splitlines()[-2])
    assert (result["exit_code"], finished["unfinished"]) == (130, "Wait")
    assert processes_of(repository) == []
    assert not (repository.folder / "never").exists()
    assert not list((repository.home / "private").iterdir())
    repository.playbook(touch(file, "First"))
    assert " changed=0 " in repository.apply("--yes").stdout


@pytest.mark.campaign
@pytest.mark.parametrize("loop", [[1, 2, 3], None])
def test_a_run_that_cannot_be_followed_is_cut_off(
    repository: Repository, loop: list[int] | None
) -> None:
    """Files may be of 400 kB at most, in place of a full disk; the event of a step is larger."""
    large = {"name": "Large", "ansible.builtin.debug": {"msg": "{{ 'x' * 600000 }}"}}
    repository.playbook({**large, **({"loop": loop} if loop else {})},
                        touch(repository.folder / "never", "Never"))  # fmt: skip
    done = subprocess.run(
        [PROGRAM, "apply", "p.yml", "-i", "here", "--yes"],
        cwd=repository.folder, env=repository.environment, text=True, timeout=60,
        capture_output=True, stdin=subprocess.DEVNULL,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000)),
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    said = f"cannot write below {repository.home} (File too large)"
    assert said in done.stdout + done.stderr
    assert "run the same command again" in done.stdout + done.stderr
    assert not (repository.folder / "never").exists()
    assert processes_of(repository) == []


@pytest.mark.campaign
def test_an_interruption_leaves_what_a_done_step_started_and_ends_what_starts_late(
    repository: Repository,
) -> None:
    late = "trap 'setsid -f sleep 62; exit' TERM; while :; do sleep 0.1; done"
    repository.playbook({"name": "Daemon", "ansible.builtin.command": "setsid -f sleep 61"},
                        {"name": "Wait", "ansible.builtin.command": {"argv": ["sh", "-c", late]}})  # fmt: skip
    process = repository.start("--yes", "--json")
    wait_for(process, "Wait")
    until(lambda: any("trap" in line for line in processes_of(repository)))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    try:
        assert processes_of(repository) == ["sleep 61 "]
    finally:
        for pid in numbered(repository):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.campaign
def test_an_interruption_tells_people_what_was_done(repository: Repository) -> None:
    repository.playbook(touch(repository.folder / "file", "First"),
                        {"name": "Wait", "ansible.builtin.command": "sleep 60"})  # fmt: skip
    process = repository.start("--yes")
    assert process.stdout is not None
    real = False
    for line in process.stdout:
        real = real or line.startswith("Apply ")
        if real and line.startswith("changed: First"):
            break
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    for said in ("Interrupted.", "Done before that: First.", "Finish with runbook resume"):
        assert said in out


def test_a_killed_run_leaves_no_ansible_behind_and_no_lock(repository: Repository) -> None:
    file = repository.folder / "file"
    repository.playbook({"name": "Wait", "ansible.builtin.wait_for": {"timeout": 60}})
    process = repository.start("--yes", "--json")
    wait_for(process, "Wait")
    process.kill()
    process.communicate(timeout=30)
    until(lambda: processes_of(repository) == [], 10)
    repository.playbook(touch(file))
    assert repository.apply("--yes").returncode == 0
    assert not list((repository.home / "private").iterdir())


@pytest.mark.campaign
def test_an_interruption_while_a_sandbox_is_made_leaves_none_of_it(repository: Repository) -> None:
    arguments = [PROGRAM, "apply", "regular.yml", "-i", "sandbox", "--check"]
    process = subprocess.Popen(arguments, env=repository.environment, stdin=subprocess.DEVNULL)
    sandbox = repository.home / "sandbox"
    try:
        until(lambda: any("postgres" in line for line in processes_of(repository)), 120)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
        assert processes_of(repository) == []
    finally:
        for pid in numbered(repository):
            os.kill(pid, signal.SIGKILL)
    assert not sandbox.exists()
