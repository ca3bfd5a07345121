"""Kept code gives what compiling gives, and kept routes are those of the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from runbook import module_server

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    not module_server.tested(), reason="internals of this ansible-core are not known"
)

#: In a process of its own, since it changes Ansible: every result, and how often Jinja compiled.
SCRIPT = r"""
import json, sys
from runbook import precompiled
if sys.argv[1] == "installed":
    precompiled._keep_code()
from ansible._internal._datatag._tags import TrustedAsTemplate
from ansible._internal._templating._engine import TemplateEngine, TemplateOptions
from jinja2 import Environment
count = 0
generate = Environment._generate
def counted(*args, **options):
    global count
    count += 1
    return generate(*args, **options)
Environment._generate = counted
templates = [
    "{{ a }}", "{{ a + 1 }}", "{{ name | upper ~ '\\n' }}", "{{ missing | default('x') }}",
    "#jinja2: variable_start_string:'[['\n[[ a ]] {{ a }}", "{% if a %}yes{% endif %}\n",
    "{{ 'a' ", "{{ lookup('pipe', 'echo {{ a }}') }}",
]
found = []
for a in (1, 2):
    engine = TemplateEngine(variables={"a": a, "name": "n"})
    for text in templates:
        for options in (TemplateOptions(), TemplateOptions(escape_backslashes=False)):
            tagged = TrustedAsTemplate().tag(text)
            try:
                found.append(repr(engine.template(tagged, options=options)))
            except Exception as error:
                found.append(type(error).__name__ + str(error)[:40])
print(json.dumps([found, count]))
"""

SETTINGS = """
import json
from runbook import precompiled
from ansible.config.manager import ConfigManager
file = ConfigManager.__init__.__globals__["__file__"].rpartition("/")[0] + "/base.yml"
plain = ConfigManager._read_config_yaml_file(None, file)
precompiled.keep_settings()
found = [ConfigManager._read_config_yaml_file(None, file) for _ in range(2)]
print(json.dumps([found == [plain, plain], len(plain)]))
"""

ROUTES = """
import json
from ansible.utils.collection_loader import _collection_finder as finder
from runbook import precompiled
given = b"plugin_routing: {lookup: {old: {redirect: new}}}"
place = ("ansible.builtin", "runtime.yml")
plain = finder._meta_yml_to_dict(given, place)
precompiled._keep_routes()
print(json.dumps([plain, finder._meta_yml_to_dict(given, place)]))
"""


def run(script: str, *arguments: str, home: Path | None = None) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True,
        env={**os.environ, **({"RUNBOOK_HOME": str(home)} if home else {})},
    )  # fmt: skip
    return json.loads(done.stdout)


def test_kept_code_gives_what_compiling_gives() -> None:
    expected, compiled = run(SCRIPT, "plain")
    found, kept = run(SCRIPT, "installed")
    assert found == expected
    assert 0 < kept < compiled


def test_kept_routes_are_those_of_the_file(tmp_path: Path) -> None:
    plain, first = run(ROUTES, home=tmp_path)
    assert plain == first == {"plugin_routing": {"lookup": {"old": {"redirect": "new"}}}}
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_text('{"plugin_routing": {}}')
    assert run(ROUTES, home=tmp_path)[1] == {"plugin_routing": {}}, "read from the kept file"
    kept.write_text("{half")
    assert run(ROUTES, home=tmp_path)[1] == plain
    assert json.loads(kept.read_text()) == plain


def test_kept_settings_are_those_of_the_file(tmp_path: Path) -> None:
    same, settings = run(SETTINGS, home=tmp_path)
    assert same
    assert settings > 100
    assert len(list((tmp_path / "cache").iterdir())) == 1
