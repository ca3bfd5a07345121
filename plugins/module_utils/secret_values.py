# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The values of options with ``no_log``, and results without them."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Mapping, Sequence, Set


def secret_values(argument_spec: Mapping[str, Any], params: Mapping[str, Any]) -> Set[str]:
    """The values of options with ``no_log``, at any depth."""
    found: Set[str] = set()
    for name, option in argument_spec.items():
        value = params.get(name)
        if option.get("no_log"):
            found |= set(texts(value))
        for part in value if isinstance(value, list) else [value]:
            if "options" in option and isinstance(part, dict):
                found |= secret_values(option["options"], part)
    return found


def texts(value: Any) -> Iterator[str]:
    """The texts in a secret value, and its numbers as texts."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif value is not None and not isinstance(value, bool) and value != "":
        yield str(value)


def without(secrets: Set[str], result: Mapping[str, Any]) -> Dict[str, Any]:
    """A result without the secrets, in the words that Ansible had for them before 2.22."""
    longest_first = sorted(secrets, key=len, reverse=True)
    return {name: _masked(value, longest_first) for name, value in result.items()}


def _masked(value: Any, secrets: Sequence[str]) -> Any:
    """A value with plain lists and dictionaries, and without the secrets."""
    if isinstance(value, Mapping):
        return {key: _masked(item, secrets) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(item, secrets) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if str(value) in secrets:
        return "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, "********")
    return value
