"""-e by type, and where each parameter's value comes from."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook.cli import cli
from runbook.events.redaction import MASK
from runbook.load import modes, targets
from runbook.load.extra_vars import ExtraVars, parse_extra_vars
from runbook.load.parameters import LATER, Parameter, differing
from runbook.load.paths import check_paths
from runbook.load.run_input import examined
from runbook.load.source import Source

PLAYBOOK = """\
---
# What it is for.
- name: Play
  hosts: all
  roles: [labeller.runbook.parameters]
  tags: whole
  tasks:
    - name: Say
      ansible.builtin.debug:
        msg: "{{ run_id }} {{ names }} {{ db_pwd }} {{ api_key }} {{ worker_count }}"
    - ansible.builtin.import_tasks: tasks/more.yml
      tags: [more]
"""


@pytest.fixture
def operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {
        "playbooks/p.yml": PLAYBOOK,
        "playbooks/tasks/more.yml": (
            "- labeller.runbook.pg_transaction:\n    bucket: b\n"
            "    steps: [{pg_clear: {}}, {grid_availability: {}}]\n"
        ),
        "inventories/t/hosts.yml": (
            "all:\n  vars: {run_id: 1, aoi_index: 9}\n"
            "  hosts:\n    one:\n    two: {run_id: 5}\n"
            "  children:\n    g:\n      hosts: {one: }\n      vars: {aoi_index: 8}\n"
        ),
        "inventories/t/group_vars/all/a.yml": (
            'db_pwd: hunter2\nbucket: "{{ inventory_hostname }}-b"\naoi_index: 7\nrun_id: 2\n'
        ),
        "inventories/t/group_vars/g.yml": "aoi_index: 6\n",
        "inventories/t/host_vars/one.yml": "aoi_name: ghana\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def resolved(*extra: str) -> dict[tuple[str, str], Parameter]:
    found = examined(Source.named("p", "t", extra)).parameters
    return {(parameter.name, parameter.host): parameter for parameter in found}


def test_precedence_source_and_hosts(operations: Path) -> None:
    found = resolved("worker_count=7")
    group_vars = "inventories/t/group_vars/all/a.yml"
    # ansible: group vars of the inventory file < group_vars/all < group_vars/g < host vars
    assert found["run_id", "one"].value == 2
    assert found["run_id", "one"].source == f"{group_vars}:4"
    assert found["run_id", "two"].value == 5
    assert found["run_id", "two"].source == "inventories/t/hosts.yml:5"
    assert found["aoi_index", "one"].value == 6
    assert found["aoi_index", "two"].value == 7
    assert found["aoi_name", "one"].value == "ghana"
    assert (found["aoi_name", "two"].source, found["aoi_name", "two"].differs) == ("default", False)
    assert found["bucket", ""].value == "{{ inventory_hostname }}-b"
    assert found["bucket", ""].differs
    assert (found["worker_count", ""].value, found["worker_count", ""].source) == (7, "-e")
    assert resolved("run_id=3")["run_id", ""].value == 3


def test_precedence_is_that_of_ansible(operations: Path) -> None:
    command = [Path(sys.executable).parent / "ansible-inventory", "-i", "inventories/t", "--list"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    said = json.loads(listed)["_meta"]["hostvars"]
    found = resolved()
    for host in ("one", "two"):
        for name in ("run_id", "aoi_index", "aoi_name", "bucket"):
            parameter = found.get((name, host)) or found[name, ""]
            expected = said[host].get(name, parameter.default)
            assert parameter.value == expected, (host, name)


def test_secrets_are_masked(operations: Path) -> None:
    found = resolved()
    assert found["db_pwd", ""].value == MASK
    assert found["db_pwd", ""].secret
    assert "hunter2" not in repr(found)
    assert "hunter3" not in repr(resolved("db_pwd=hunter3"))
    assert found["api_key", ""].value == ""  # unset, and seen to be


def test_only_what_the_playbook_uses(operations: Path) -> None:
    names = {name for name, _ in resolved()}
    assert {"bucket", "aoi_s3_object", "run_id"} <= names  # through the role's `names`, too
    assert "crontab_profile" not in names


def test_steps_and_run_modes(operations: Path) -> None:
    first, second = examined(Source.named("p", None)).steps
    assert (first.name, first.module, first.tags) == ("Say", "ansible.builtin.debug", ("whole",))
    assert (first.file, first.line, first.play) == ("playbooks/p.yml", 8, "Play")
    assert second.tags == ("whole", "more")
    assert second.parts == ("pg_clear", "grid_availability")
    found = {mode.name: mode for mode in modes.run_modes()}
    assert (found["p.yml"].title, found["p.yml"].summary) == ("Play", "What it is for.")
    assert "regular.yml" in found


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["show", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_show_prints_what_a_parameter_may_be() -> None:
    text = shown("start.yml")
    for line in (
        "run_id  (integer; at least 0; default 0)",
        "db_port  (integer; 1 to 65535; default 5432)",
        (
            "crontab_profile  (string; one of full, no_n, no_n_notifier, standalone_f, maintenance; "
            'default "no_n_notifier")'
        ),
        "notify  (boolean; optional)",
        "learner_loop  (boolean; default true)",
        "db_pwd  (string; required; secret)",
    ):
        assert f"\n  {line}\n" in text
    assert "  notifications  (array; each one of slack, github; default [" in shown("iterate.yml")


def test_an_optional_parameter_is_shown_as_not_set_until_it_is_set() -> None:
    values = "\n".join(
        re.findall(r"^  notify .*\n.*", shown("start.yml", "-i", "labeller3"), re.MULTILINE)
    )
    assert values.endswith("\n      not set")
    assert "\n      = false  (-e)\n" in shown("start.yml", "-i", "labeller3", "-e", "notify=F")
    for name in ("cleanup", "hits", "consensus", "notify", "nsites"):
        assert parse_extra_vars([f"{name}=T"]).values == {name: True}


def test_types_of_extra_vars() -> None:
    extra = parse_extra_vars(
        ["run_id=1 bid_price=0.1 aoi_name=3 free=1", "worker_count='{{ x }}'", '{"run_id": 2}']
    )
    assert extra == ExtraVars(
        {"run_id": 2, "bid_price": 0.1, "aoi_name": "3", "free": "1", "worker_count": "{{ x }}"},
        extra.documents,
    )
    assert parse_extra_vars(["backup_tables=[a,b]"]).values == {"backup_tables": ["a", "b"]}
    assert parse_extra_vars(["bid_price=1"]).values == {"bid_price": 1}


def test_extra_vars_from_a_pipe_are_refused() -> None:
    """As -e @<(sops -d secrets.yml): it can be read once."""
    reading, writing = os.pipe()
    os.write(writing, b"run_id: 4\n")
    os.close(writing)
    extra = parse_extra_vars([f"@/dev/fd/{reading}"])
    assert ["a pipe, which can be read once" in each.message for each in extra.problems] == [True]
    os.close(reading)


def test_extra_vars_from_files(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text('{"run_id": 4}')
    (tmp_path / "vault.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    extra = parse_extra_vars([f"@{tmp_path}/v.json", f"@{tmp_path}/vault.yml"])
    assert (extra.values, extra.problems, extra.encrypted) == ({"run_id": 4}, (), True)


@pytest.mark.parametrize(
    "option",
    ["db_pwd=hunter2 hunter3", "db_pwd='hunter2", '{"db_pwd": hunter2: 3}', '{"db_pwd": ["hunter2"]}',
     '{"db_pwd": 4711}', "run_id=1 db_pwd=hunter2 hunter3", '{"db_pwd": 2018-99-99}'],
)  # fmt: skip
def test_no_problem_repeats_a_secret(operations: Path, option: str) -> None:
    text = "\n".join(map(str, examined(Source.named("p", "t", [option])).problems))
    assert "-e" in text
    assert not any(secret in text for secret in ("hunter2", "hunter3", "4711", "2018"))


def test_nothing_is_evaluated_or_run(operations: Path) -> None:
    touched = operations / "touched"
    with (operations / "inventories" / "t" / "group_vars" / "g.yml").open("w") as file:
        file.write(f"aoi_name: \"{{{{ lookup('pipe', 'touch {touched}') }}}}\"\n")
    script = operations / "inventories" / "t" / "dynamic.sh"
    script.write_text(f"#!/bin/sh\ntouch {touched}\necho '{{}}'\n")
    script.chmod(0o755)
    assert examined(Source.named("p", "t")).problems == ()
    assert check_paths([operations]) == []
    resolved()
    assert not touched.exists()


def test_each_file_is_read_once_for_all_playbooks_and_targets(
    operations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(operations / "inventories" / "t", operations / "inventories" / "other")
    for name in ("q", "r"):
        shutil.copy(operations / "playbooks" / "p.yml", operations / "playbooks" / f"{name}.yml")
    read: list[Path] = []
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or original(path))
    check_paths([operations])
    assert {path.parent.name for path in read} >= {"group_vars", "t", "playbooks", "defaults"}
    assert [str(path) for path, times in Counter(read).items() if times > 1] == []


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(alphabet="ab_=@{}[]:'\" ,1.\\\n#&*!", max_size=30), max_size=3))
def test_any_extra_vars_give_values_or_problems(options: list[str]) -> None:
    extra = parse_extra_vars(options)
    assert all(isinstance(name, str) for name in extra.values)
    assert all(problem.message for problem in extra.problems)


def test_check_paths_finds_what_a_repository_holds(operations: Path) -> None:
    (operations / "inventories" / "t" / "group_vars" / "g.yml").write_text("aoi_idx: 6\n")
    (operations / "playbooks" / "q.yml").write_text(
        "- name: Q\n  hosts: all\n  tasks:\n    - ansible.builtin.debug: {msg: '{{ nope }}'}\n"
    )
    found = [str(problem) for problem in check_paths([])]
    q = "playbooks/q.yml:4:36: [0].tasks[0].ansible.builtin.debug.msg: undefined variable 'nope'"
    assert q in [line.partition(" (did")[0] for line in found]
    idx = "inventories/t/group_vars/g.yml:1:1: aoi_idx: unknown parameter 'aoi_idx' (did you mean aoi_index?)"
    assert idx in found
    only = check_paths([operations / "inventories" / "t"])
    assert idx in [str(problem) for problem in only]
    assert any("more need the parameter ec2_instance, and one" in str(p) for p in only)
    tasks = operations / "playbooks" / "tasks" / "bad.yml"
    tasks.write_text("- ansible.builtin.debgu: {msg: x}\n")
    assert ["did you mean ansible.builtin.debug" in str(p) for p in check_paths([tasks])] == [True]


def test_every_target_is_held_against_every_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``validate`` reports what ``apply`` refuses for its input, in an inventory of one's own."""
    folder = tmp_path / "inventories" / "mine"
    shutil.copytree(targets.collection.root() / "inventories" / "labeller3", folder)
    parameters_file = folder / "group_vars" / "all" / "parameters.yml"
    parameters_file.write_text(parameters_file.read_text().replace("ec2_instance: labeller3\n", ""))
    monkeypatch.chdir(tmp_path)
    refused = {
        path.name
        for path in targets.playbooks(targets.collection.root())
        if [p for p in examined(Source.of(path, targets.target("mine"))).problems if not p.warning]
    }
    assert {"regular.yml", "iterate.yml"} <= refused
    assert refused.isdisjoint({"backup.yml"})
    (found,) = check_paths([])
    assert str(found).startswith(
        "inventories/mine/hosts.yml:6:7: all.hosts.labeller3.ec2_instance: "
    )
    assert f"{len(refused) - 3} more need the parameter ec2_instance" in found.message
    (named,) = check_paths([Path("mine"), Path("regular.yml")])
    assert named.message.startswith("regular.yml needs the parameter ec2_instance, and labeller3")
    assert check_paths([Path("mine"), Path("backup.yml")]) == []
    assert check_paths([], parse_extra_vars(["ec2_instance=x"])) == []


def test_what_is_wrong_on_one_target_names_it(operations: Path) -> None:
    (operations / "inventories" / "u.yml").write_text("all: {hosts: {three: {own: 1}}}\n")
    (operations / "playbooks" / "q.yml").write_text(
        "- name: Q\n  hosts: all\n  tasks:\n    - ansible.builtin.debug: {msg: '{{ own }}'}\n"
        "- name: R\n  hosts: g\n  tasks:\n    - ansible.builtin.debug: {msg: '{{ own }}'}\n"
    )
    own = [p.message for p in check_paths([operations, operations / "playbooks" / "q.yml"])]
    assert [message for message in own if "own" in message] == [
        "undefined variable 'own' (on t)"
    ] * 2


@pytest.mark.parametrize("path", targets.playbooks(targets.collection.root()), ids=lambda p: p.stem)
@pytest.mark.parametrize("name", ["ghana", "labeller3", "sandbox"])
def test_packaged_playbooks_are_valid_for_packaged_targets(path: Path, name: str) -> None:
    assert [
        str(problem) for problem in examined(Source.of(path, targets.target(name))).problems
    ] == []


def test_everything_packaged_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert [str(problem) for problem in check_paths([])] == []


def test_parameters_are_shown_as_ansible_evaluated_them() -> None:
    def parameter(name: str, value: object, **rest: object) -> Parameter:
        return Parameter(
            name, value, "d", "hosts.yml:1", rest.pop("secret", False), "", "string", **rest
        )  # type: ignore[arg-type]

    found = [
        parameter("same", "{{ x }}"),
        parameter("differs", "{{ inventory_hostname }}-b"),
        parameter("by_host", "one", host="one"),
        parameter("default_after_all", "{{ d }}"),
        parameter("later", {"key": "{{ found.by_a_step }}"}),
        parameter("plain", "text"),
        parameter("encrypted", MASK),
        parameter("password", MASK, secret=True),
        Parameter("default", "d", "d", "default", False, "", "string"),
    ]
    every = {"same": "s", "default_after_all": "d", "encrypted": "clear", "password": "clear"}
    seen = {host: {**every, "differs": f"{host}-b"} for host in ("one", "two")}
    assert differing(found, seen) == {
        "same": "s",
        "differs [one]": "one-b",
        "differs [two]": "two-b",
        "by_host [one]": "one",
        "later": LATER,
        "plain": "text",
        "encrypted": MASK,
        "password": MASK,
    }
    assert differing(found[:1], {}) == {"same": LATER}
