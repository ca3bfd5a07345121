"""Plan files: a check run that can be reviewed, and applied once, later and from elsewhere.

JSON of schemas/plan.schema.json, in the canonical form of RFC 8785, so that a plan has one SHA-256.
It holds no secret: values are redacted as everywhere, and of files that may hold some (inventory,
``-e @FILE``) only salted hashes. Files are named from the collection or the working directory, so
that another checkout of the same repository can apply the plan.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rfc8785

from runbook import __version__
from runbook.errors import InvalidInputError, StaleError
from runbook.events.redaction import MASK
from runbook.home import expanded, is_file, is_folder, write_whole
from runbook.load import schemas, targets

if TYPE_CHECKING:
    from runbook.load.run_input import RunInput

FORMAT = "1"

#: scrypt's cost, size of blocks and parallelism: some milliseconds and 4 MB a file.
_COST = {"n": 1 << 12, "r": 8, "p": 1}


@dataclass(frozen=True)
class PlanFile:
    """A plan file as it was read. ``sha256``: of the file; ``content``: its JSON."""

    file: str
    sha256: str
    content: Mapping[str, Any]

    def held(self) -> dict[str, list[dict[str, Any]]]:
        """The plan that the real run is held to, as ``execute.runner.Ansible.run`` takes it."""
        found: dict[str, list[dict[str, Any]]] = {}
        for step in self.content["steps"]:
            if "place" in step:
                done = found.setdefault(_step(step), [])
                done.extend([] if step["left_out"] else [_result(step)])
        return found


def is_plan(name: str) -> bool:
    """Whether ``name`` is a file that is JSON, as no playbook is."""
    path = expanded(name)
    if not is_file(path):
        return False
    try:
        with path.open("rb") as file:
            return file.read(64).lstrip().startswith(b"{")
    except OSError:
        return False


def read(name: str, sha256: str = "") -> PlanFile:
    """The plan in a file; ``sha256``: the one that was reviewed.

    Raises InvalidInputError for a file that is no plan, of another format, changed by hand, or
    another one than the reviewed.
    """
    data = expanded(name).read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if sha256 and sha256.lower() != found:
        raise InvalidInputError(f"{name}: its SHA-256 is {found}, not the reviewed {sha256}")
    try:
        content = json.loads(data)
        canonical = rfc8785.dumps(content)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{name}: no plan file: {error}") from error
    version = content.get("format_version")
    if version != FORMAT:
        raise InvalidInputError(
            f"{name}: a plan file of the format {version!r}; this runbook {__version__} reads "
            f"{FORMAT!r}. Make the plan again with this version"
        )
    for wrong in schemas.validator("plan").iter_errors(content):
        place = "/".join(map(str, wrong.absolute_path))
        raise InvalidInputError(f"{name}: {place}: {wrong.message[:200]}: no valid plan file")
    if canonical != data:
        raise InvalidInputError(
            f"{name}: not as runbook wrote it (RFC 8785): the file was edited or reformatted. Make "
            "the plan again"
        )
    return PlanFile(name, found, content)


def dumps(content: Mapping[str, Any]) -> bytes:
    """The bytes of a plan file."""
    return rfc8785.dumps(json.loads(json.dumps(content, default=str)))


def write(name: str, content: Mapping[str, Any]) -> str:
    """Write a plan file, readable by its owner; gives its SHA-256.

    Raises InvalidInputError where it cannot be written.
    """
    data = dumps(content)
    with _told(name):
        write_whole(expanded(name), data.decode(), 0o600)
    return hashlib.sha256(data).hexdigest()


def require_place(name: str) -> None:
    """Raise InvalidInputError where a plan file cannot be written."""
    path = expanded(name)
    with _told(name):
        if is_folder(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with contextlib.suppress(FileNotFoundError):
            path.lstat()  # the name itself may be refused
        tempfile.TemporaryFile(dir=path.parent).close()


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """Have the system's refusal to write ``name`` told as wrong input."""
    try:
        yield
    except OSError as error:
        raise InvalidInputError(f"{name}: cannot be written: {error.strerror}") from error


def require_fresh(plan: PlanFile, now: datetime | None = None) -> None:
    """Raise StaleError for a plan that has expired, InvalidInputError if it does not say when."""
    expires = plan.content["expires_at"]
    try:
        late = (now or datetime.now(UTC)) >= datetime.fromisoformat(expires)
    except (ValueError, TypeError) as error:
        text = f"{plan.file}: expires_at: {expires!r} is no time with its zone: no valid plan file"
        raise InvalidInputError(text) from error
    if late:
        raise StaleError(
            f"{plan.file}: the plan expired at {plan.content['expires_at']}; nothing was changed. "
            "Make a new one"
        )


def require_same(plan: PlanFile, given: RunInput) -> None:
    """Raise InvalidInputError naming everything of the input that is not as it was planned with."""
    problems = list(differences(plan.content, given))
    if problems:
        raise InvalidInputError(
            f"{plan.file}: the input is not what was planned; nothing was changed:\n"
            + "".join(f"- {problem}\n" for problem in problems)
            + "Make a new plan, or go back to what it was made with"
        )


def differences(bound: Mapping[str, Any], given: RunInput) -> Iterator[str]:
    """The differences of the input from one that something was bound to, a line each.

    ``bound``: the content of a plan file, or the same keys of another (``flow.saved.bound``).
    """
    version = bound["made"]["runbook"]
    if version != __version__:
        yield f"runbook and its collection are {__version__}, and were {version}"
    yield from _differing(bound["files"], given.files)
    salt = bytes.fromhex(bound["salt"])
    inputs = {name: salted(salt, digest) for name, digest in given.inputs.items()}
    yield from _differing(bound["inputs"], inputs)


def _differing(bound: Mapping[str, str], found: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*bound, *found}):
        if name not in found:
            yield f"{name} is not there any more, or is not used"
        elif name not in bound:
            yield f"{name} is used now, and was not then"
        elif bound[name] != found[name]:
            yield f"{name} was changed since"


def salted(salt: bytes, digest: str) -> str:
    """A hash of a file that may hold secrets, by its SHA-256: none can be found by trying."""
    return hashlib.scrypt(digest.encode(), salt=salt, dklen=32, **_COST).hex()


def options(bound: Mapping[str, Any]) -> dict[str, Any]:
    """The options of ``apply`` that say what is done, as they were (``differences``)."""
    chosen = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in bound["selection"].items()
    }
    named = {name: bound[name] for name in ("playbook", "target")}
    return {**named, **chosen, "extra_vars": tuple(bound["extra_vars"])}


def steps(held: Mapping[str, list[dict[str, Any]]]) -> Iterable[dict[str, Any]]:
    """The steps of a plan file that a real run is held to (``execute.runner.Outcome.planned``)."""
    for key, results in held.items():
        host, place, *item = json.loads(key)
        path, _, line = place.rpartition(":")
        where = {"host": host, "place": f"{targets.portable(Path(path))}:{line}"}
        where |= {"item": json.dumps(item[0], sort_keys=True)} if item else {}
        for result in results:
            named_as = {"task": result["task"], "module": result["module"], "left_out": False}
            if result.get("unchanging") and any(e["action"] != "none" for e in result["plan"]):
                named_as["unchanging"] = True
            yield {**where, **named_as, "changes": changes(result["plan"], result["diff"] or [])}
        if not results:
            yield {**where, "task": "", "module": "", "left_out": True, "changes": []}


def changes(plan: list[dict[str, Any]], diffs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Changes after Terraform's representation.

    ``before`` and ``after`` are texts, null for what does not change; ``sensitive``: a secret was
    taken out of them.
    """
    real = [entry for entry in plan if entry["action"] != "none"]
    texts = dict(zip(map(id, real), diffs, strict=True)) if len(real) == len(diffs) else {}
    found = []
    for entry in plan:
        diff = texts.get(id(entry), {})
        before, after = diff.get("before"), diff.get("after")
        shown = f"{before}{after}"
        found.append(
            {
                **entry,
                "before": before,
                "after": after,
                "after_unknown": False,
                "sensitive": MASK in shown or "(secret" in shown,
            }
        )
    return found


def _step(step: Mapping[str, Any]) -> str:
    """The name of a step as ``execute.translate.planned`` gives it."""
    name, _, line = step["place"].rpartition(":")
    item = [json.loads(step["item"])] if "item" in step else []
    place = f"{targets.located(name)}:{line}"
    return json.dumps([step["host"], place, *item], sort_keys=True, default=str)


#: What a change has in a module's result.
ENTRY = ("resource", "action", "counts", "before_fingerprint")


def ansible_diff(change: Mapping[str, Any]) -> dict[str, str]:
    """A change of a plan file as a diff of Ansible."""
    return {
        "before_header": change["resource"],
        "after_header": change["resource"],
        "before": change["before"] or "",
        "after": change["after"] or "",
    }


def _result(step: Mapping[str, Any]) -> dict[str, Any]:
    """The module's result that a step was made of."""
    plan = [{key: change[key] for key in ENTRY} for change in step["changes"]]
    diff = [ansible_diff(change) for change in step["changes"] if change["before"] is not None]
    return {"task": step["task"], "module": step["module"], "plan": plan, "diff": diff}
