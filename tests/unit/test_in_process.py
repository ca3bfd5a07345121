"""A module that runs in Ansible's worker process gives what it gives in a process of its own."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.datatag import native_type_name
from ansible.template import trust_as_template
from ansible_collections.labeller.runbook.plugins.module_utils.module import Module
from ansible_collections.labeller.runbook.plugins.plugin_utils import in_process

PROJECT = Path(__file__).resolve().parent.parent.parent
COLLECTIONS = PROJECT / ".build" / "collections"
MODULES = sorted(path.stem for path in (PROJECT / "plugins" / "modules").glob("[a-z]*.py"))
PREFIX = "labeller.runbook."
PASSWORD = "hunter22"

BY_ITSELF = """
import sys
sys.path.insert(0, sys.argv[1])
from ansible.module_utils import basic
basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = sys.argv[3].encode(), "legacy"
import importlib
importlib.import_module(sys.argv[2]).main()
"""


def by_itself(module: str, options: dict[str, Any]) -> dict[str, Any]:
    internal = {"_ansible_check_mode": True, "_ansible_module_name": PREFIX + module}
    arguments = json.dumps({"ANSIBLE_MODULE_ARGS": {**internal, **options}})
    done = subprocess.run(
        [sys.executable, "-c", BY_ITSELF, COLLECTIONS, f"{in_process.MODULES}.{module}", arguments],
        capture_output=True, text=True,
    )  # fmt: skip
    result: dict[str, Any] = json.loads(done.stdout)
    # Only AnsibleModule adds these; nothing reads them.
    added = ("invocation", "exception", "_ansible_new_secrets")
    return {name: value for name, value in result.items() if name not in added}


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("crontab_profile", {"state": "present", "profile": "no_n"}),
        ("crontab_profile", {"state": "absent"}),
        ("crontab_profile", {"state": "wrong"}),
        ("crontab_profile", {"state": "absent", "unknown": 1}),
        ("daemons", {"state": "started"}),
        ("daemons", {"state": "stopped", "names": ["generate_consensus_daemon"], "timeout": "x"}),
        ("pg_clear", {"login_port": 1, "login_password": "127.0.0.1", "login_host": "127.0.0.1"}),
        ("pg_transaction", {"login_port": 1, "steps": [{"pg_clear": {}, "f_pool": {}}]}),
        ("run_marker", {}),
    ],
)
def test_the_result_is_that_of_a_process_of_its_own(
    tmp_path: Path, module: str, options: dict[str, Any]
) -> None:
    (tmp_path / "crontab").write_text("0 4 * * * true\n")
    if module in ("crontab_profile", "daemons"):
        options = {"home": str(tmp_path), **options}
    if module == "crontab_profile":
        options = {"crontab_file": str(tmp_path / "crontab"), **options}
    assert in_process.call(PREFIX + module, options, True) == by_itself(module, options)


def give(monkeypatch: pytest.MonkeyPatch, logic: Any, **requirements: Any) -> None:
    """Have ``in_process.call`` find a module with this logic."""
    spec = {
        "password": {"no_log": True},
        "deep": {"type": "list", "elements": "dict", "options": {"key": {"no_log": True}}},
        "value": {"type": "raw"},
    }
    fake = SimpleNamespace(MODULE=Module(spec, logic, **requirements))
    monkeypatch.setitem(sys.modules, f"{in_process.MODULES}.x", fake)


def test_values_of_secret_options_are_in_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def logic(params: Any, check_mode: bool) -> dict[str, Any]:
        return {"changed": True, "diff": [{"after": f"a {params['password']} b"}], "n": 12345678,
                "key": params["deep"][0]["key"], "warnings": [f"with {params['password']}"]}  # fmt: skip

    give(monkeypatch, logic)
    result = in_process.call("x", {"password": PASSWORD, "deep": [{"key": "True-ish"}]}, False)
    assert result["changed"] is True
    assert PASSWORD not in json.dumps(result)
    assert "True-ish" not in json.dumps(result)
    assert result["n"] == 12345678
    assert result["warnings"] == ["with ********"]


def test_a_refused_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, None)
    result = in_process.call("x", {"password": PASSWORD, "deep": PASSWORD}, False)
    assert result["failed"] is True
    assert PASSWORD not in json.dumps(result)


def test_arguments_arrive_without_ansibles_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, lambda params, check: {"type": type(params["value"]["a"][0]).__name__})
    tagged = trust_as_template("{{ x }}")
    assert type(tagged) is not str
    assert native_type_name(tagged) == "str"
    assert in_process.call("x", {"value": {"a": [tagged]}}, False)["type"] == "str"


def test_a_bug_is_a_failure_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, lambda params, check: {}["missing"])
    result = in_process.call("x", {"password": PASSWORD}, False)
    assert result["failed"] is True
    assert "KeyError" in result["msg"]
    assert "Traceback" in result["module_stderr"]


@pytest.fixture
def handler() -> Iterator[Any]:
    """As in a worker: a signal handler of Python's, which waits for C code to return."""

    def ignore(_number: int, _frame: object) -> None:
        """Nothing: the process would go on."""

    before = signal.signal(signal.SIGTERM, ignore)
    yield ignore
    signal.signal(signal.SIGTERM, before)


def test_a_signal_ends_the_step_at_once(monkeypatch: pytest.MonkeyPatch, handler: Any) -> None:
    give(monkeypatch, lambda params, check: os.kill(os.getpid(), signal.SIGTERM) or {})
    child = os.fork()
    if child == 0:
        in_process.call("x", {}, False)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGTERM
    give(monkeypatch, lambda params, check: {})
    in_process.call("x", {}, False)
    assert signal.getsignal(signal.SIGTERM) is handler


def action(**different: Any) -> Any:
    task = {"async_val": 0, "delegate_to": None, "timeout": 0, "environment": [{}]}
    connection = {"transport": "local", "become": None}
    return SimpleNamespace(
        _task=SimpleNamespace(**{k: different.get(k, v) for k, v in task.items()}),
        _connection=SimpleNamespace(**{k: different.get(k, v) for k, v in connection.items()}),
        _templar=SimpleNamespace(template=lambda value: value),
    )


HERE = {"ansible_python_interpreter": sys.executable}


def test_only_what_would_run_here_as_this_user_runs_in_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not in_process.possible(action(), HERE), "without the engine"
    monkeypatch.setenv(in_process.VARIABLE, "1")
    assert in_process.possible(action(), HERE)
    assert not in_process.possible(action(), {})
    assert not in_process.possible(action(), {"ansible_python_interpreter": "/usr/bin/python3"})
    for name, value in {
        "async_val": 10, "delegate_to": "other", "timeout": 5, "environment": [{"A": "b"}],
        "transport": "ssh", "become": object(),
    }.items():  # fmt: skip
        assert not in_process.possible(action(**{name: value}), HERE), name


@pytest.mark.parametrize("name", MODULES)
def test_no_option_needs_what_only_ansible_module_does(name: str) -> None:
    """ArgumentSpecValidator reports no deprecations, and no warning of an alias set twice."""

    def options(spec: dict[str, Any]) -> Iterator[set[str]]:
        for option in spec.values():
            yield set(option)
            yield from options(option.get("options") or {})

    module = importlib.import_module(f"{in_process.MODULES}.{name}")
    known = {"type", "default", "required", "choices", "elements", "no_log", "options",
             "mutually_exclusive", "required_one_of", "required_if", "required_together",
             "required_by", "apply_defaults"}  # fmt: skip
    for found in options(module.MODULE.argument_spec):
        assert found <= known


FROM_BYTECODE = """
import sys
from pathlib import Path
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader([sys.argv[1]])
from ansible_collections.labeller.runbook.plugins.plugin_utils import in_process
in_process.preload()
names = [name for name in sys.modules if name.startswith(in_process.MODULES + ".")]
print(len(names), *(name for name in names if not Path(sys.modules[name].__cached__).is_file()))
"""


def test_modules_are_imported_from_bytecode_that_is_kept() -> None:
    """Ansible's loader of collections would compile each file in every run."""
    command = [sys.executable, "-c", FROM_BYTECODE, COLLECTIONS]
    kept = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, env=kept, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(len(MODULES))]
