"""Templates compiled once for all tasks of a run, and routes read once for all runs.

Ansible evaluates each task in a process forked for it, and what Jinja has compiled there is lost at
its end: the login to the database, the names of objects and all they are made of are compiled again
for every task, which takes longer than the evaluation. Here the code is kept by its source, and the
process that forks compiles what the play holds while its first tasks are at work elsewhere and it
would only wait. What is found later, in an included file for instance, is compiled as ever.

Two lists that every run reads first, of Ansible's settings and of where its own modules have gone,
450 kB of YAML, are kept as JSON below ``RUNBOOK_HOME``.

Internals of ansible-core, as in ``runbook.module_server``, and for the same versions.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook.home import home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Seconds, less than any module of ours takes.
AT_A_TIME = 0.02

#: Variables that hold all others once more.
_AGGREGATES = frozenset({"hostvars", "vars", "environment"})


def install() -> None:
    """Have ansible-playbook, in this process and those that it forks, compile a template once."""
    _keep_code()
    _compile_ahead()
    _keep_routes()


def _keep_code() -> None:
    """Keep code by all that it depends on: the source, the delimiters, how backslashes are read."""
    from ansible._internal._templating import _jinja_bits

    ordinary = _jinja_bits.AnsibleEnvironment.compile
    settings = _jinja_bits._TEMPLATE_OVERRIDE_FIELD_NAMES  # noqa: SLF001
    codes: dict[tuple[Any, ...], Any] = {}

    def compile_once(self: Any, source: Any, *args: Any, **options: Any) -> Any:
        if not isinstance(source, str) or any(args) or options:
            return ordinary(self, source, *args, **options)
        context = _jinja_bits._TemplateCompileContext.current(optional=True)  # noqa: SLF001
        key = (
            str.__str__(source),  # without its tags
            type(self),
            context and context.escape_backslashes,
            *(getattr(self, name) for name in settings),
        )
        if key not in codes:
            codes[key] = ordinary(self, source)
        return codes[key]

    _jinja_bits.AnsibleEnvironment.compile = compile_once


def _compile_ahead() -> None:
    """Compile what a play holds, a little whenever a worker has started."""
    from ansible.executor.process.worker import WorkerProcess

    ordinary = WorkerProcess.start
    plays: list[tuple[Any, Iterator[None]]] = []

    def start(self: Any) -> None:
        ordinary(self)
        play = self._task.get_play()
        if not any(play is known for known, _ in plays):
            plays.append((play, _compile(self._loader, [self._task_vars, *_tasks(play)])))
        until = time.monotonic() + AT_A_TIME
        for _ in plays[-1][1]:
            if time.monotonic() > until:
                break

    WorkerProcess.start = start


def _compile(loader: Any, values: list[Any]) -> Iterator[None]:
    """Compile the templates in the values, one at a time."""
    from ansible._internal._datatag._tags import TrustedAsTemplate
    from ansible._internal._templating._engine import TemplateEngine, TemplateOptions

    engine = TemplateEngine(loader=loader)
    for text in dict.fromkeys(text for value in values for text in _templates(value)):
        if TrustedAsTemplate.is_tagged_on(text):
            engine._compile_template(text, TemplateOptions.DEFAULT)  # noqa: SLF001
            yield


def _tasks(play: Any) -> Iterator[Any]:
    """What the tasks of a play give to their modules, as it is written."""
    waiting = [*play.compile(), *play.handlers]
    while waiting:
        item = waiting.pop(0)
        if hasattr(item, "block"):
            waiting[:0] = [*item.block, *item.rescue, *item.always]
        else:
            yield from (item.args, item.vars, *item.module_defaults)


def _templates(value: Any) -> Iterator[str]:
    """The texts in a value that may be templates."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name not in _AGGREGATES:
                yield from _templates(item)
    elif isinstance(value, list):
        for item in value:
            yield from _templates(item)
    elif isinstance(value, str) and "{{" in value:
        yield value


def _keep_routes() -> None:
    """Keep the routes of ansible.builtin by the content of their file."""
    from ansible.utils.collection_loader import _collection_finder

    ordinary = _collection_finder._meta_yml_to_dict  # noqa: SLF001

    def read(text: bytes, content: Any) -> Any:
        if content[0] != "ansible.builtin":
            return ordinary(text, content)
        return _kept(text, lambda: ordinary(text, content))

    _collection_finder._meta_yml_to_dict = read  # noqa: SLF001


def keep_settings() -> None:
    """Keep the list of Ansible's settings; before anything of Ansible's that reads it."""
    from ansible.config.manager import ConfigManager

    ordinary = ConfigManager._read_config_yaml_file  # noqa: SLF001

    def read(self: Any, file: str) -> Any:
        with contextlib.suppress(OSError):
            return _kept(Path(file).read_bytes(), lambda: ordinary(self, file))
        return ordinary(self, file)

    ConfigManager._read_config_yaml_file = read  # noqa: SLF001


def _kept(content: bytes, parse: Callable[[], Any]) -> Any:
    """What ``parse`` makes of a file's ``content``, from JSON where a run before has left it."""
    kept = home() / "cache" / f"{hashlib.sha256(content).hexdigest()}.json"
    with contextlib.suppress(OSError, ValueError):
        return json.loads(kept.read_bytes())
    made = parse()
    with contextlib.suppress(OSError):  # without the file the next run is slower, no more
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = kept.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(made))
        new.replace(kept)
    return made
