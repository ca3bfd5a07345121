"""Whatever YAML holds, validation gives located problems, never a traceback."""

from __future__ import annotations

import tempfile
import tracemalloc
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook.load import schemas, templates
from runbook.load.run_input import examined
from runbook.load.source import Selection, Source
from runbook.load.targets import Target

WORDS = st.sampled_from([
    "hosts", "name", "tasks", "handlers", "roles", "role", "vars", "block", "rescue", "when",
    "loop", "loop_control", "loop_var", "register", "notify", "listen", "tags", "module_defaults",
    "args", "vars_files", "vars_prompt", "import_playbook", "ansible.builtin.debug",
    "ansible.builtin.include_tasks", "ansible.builtin.include_role", "ansible.builtin.set_fact",
    "ansible.builtin.include_vars", "labeller.runbook.crontab_profile", "a.b.c", "steps", "all",
    "group/labeller.runbook.postgres", "children", "run_id", "{{ run_id }}", "{{ x", "x is defined",
    "labeller.runbook.parameters", "{% for a in b %}", "", "copy", "9", "until", "that", "file",
])  # fmt: skip
SCALARS = WORDS | st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=25,
)
TASKS = st.lists(st.dictionaries(WORDS, TREES, max_size=4), max_size=3)
PLAYS = st.fixed_dictionaries(
    {"hosts": SCALARS},
    optional={
        "tasks": TASKS, "handlers": TASKS, "roles": TREES, "vars": TREES, "vars_files": TREES,
        "module_defaults": TREES, "tags": TREES, "vars_prompt": TREES,
    },
)  # fmt: skip


DOCUMENTS = given(
    playbook=st.lists(PLAYS | TREES, max_size=2) | TREES, hosts=TREES, variables=TREES
)


@settings(max_examples=60, deadline=None)
@DOCUMENTS
def test_any_documents(playbook: object, hosts: object, variables: object) -> None:
    problems_are_located(playbook, hosts, variables)


@pytest.mark.campaign
@settings(max_examples=500, deadline=None)
@DOCUMENTS
def test_many_documents(playbook: object, hosts: object, variables: object) -> None:
    problems_are_located(playbook, hosts, variables)


def problems_are_located(playbook: object, hosts: object, variables: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "t" / "group_vars").mkdir(parents=True)
        (home / "p.yml").write_text(yaml.safe_dump(playbook))
        (home / "t" / "hosts.yml").write_text(yaml.safe_dump({"all": hosts}))
        (home / "t" / "group_vars" / "all.yml").write_text(yaml.safe_dump(variables))
        source = Source.of(home / "p.yml", Target("t", str(home / "t"), home / "t"))
        found = examined(source, Selection(limit="a:!b"))
    for problem in found.problems:
        assert str(problem)
        assert (problem.line >= 1) != problem.file.startswith("--")


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet="{}%#|.()[]'\" abx1+-=<>,:~\\\n", max_size=40))
def test_any_template(text: str) -> None:
    for needs in (templates.of_template(text), templates.of_condition(text)):
        assert all(isinstance(name, str) for name in needs.used)
        assert all(message for message, _ in needs.errors)


def test_constant_expressions_are_not_worked_out() -> None:
    tracemalloc.start()
    try:
        for text in ("'a' * 10 ** 8", "[1] * 10 ** 8", "'%99999999d' % 1", "'a' | center(10 ** 8)"):
            assert templates.of_condition(f"x ~ {text}").names == {"x"}
            assert templates.of_template("{{ " + text + " }}").errors == ()
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_deep_and_long_templates() -> None:
    for text in ("{{ " + "(" * 3000 + "x" + ")" * 3000 + " }}", "{{ " + "x + " * 5000 + "x }}"):
        assert templates.of_template(text) is not None


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(sorted(schemas.parameters())), value=TREES)
def test_any_value_of_a_parameter(name: str, value: object) -> None:
    assert all(isinstance(message, str) for _, message in schemas.check_parameter(name, value))
