# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""config.yaml of labeller and learner (docs/labeller.md 3.3), on the host and as its copy on S3."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Iterable, Mapping, Optional

from . import aws, config_content, ec2, files
from .change import Change
from .config_content import Config
from .errors import InvalidInput, Refused
from .module import Params, Plan, by_state, composed, unchanging

ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "verified"], "default": "present"},
    "home": {"type": "path", "required": True},
    "restart_file": {"type": "str", "default": ""},
    "parameters": {
        "type": "dict",
        "required": True,
        "options": config_content.PARAMETERS,
    },
    **aws.ENCRYPTION,
    **aws.AWS_ARGUMENTS,
}

MODE = 0o640


@dataclass(frozen=True)
class State:
    """The content of file and copy, and what the parameters make of it."""

    content: Optional[bytes]
    on_host: Optional[Config]
    mode: Optional[int]
    template: Optional[Config]
    instance: ec2.Instance
    copy: Found
    restart_pending: bool


def fingerprint(params: Params, content: Optional[bytes]) -> str:
    """Identifies a configuration with its secrets, for plans, which must not hold them.

    Keyed by all secrets of the run: who knows some of them can try out no other one.
    """
    options = config_content.PARAMETERS
    secrets = [str(params["parameters"][name]) for name in options if options[name].get("no_log")]
    return hmac.new(json.dumps(secrets).encode(), content or b"", hashlib.sha256).hexdigest()


def observe(params: Params) -> State:
    """Read configuration, template, copy and EC2. Raises for parameters that cannot be used."""
    config_content.require_yaml()
    config_content.check(params["parameters"])
    common = os.path.join(params["home"], "common")
    path = os.path.join(common, "config.yaml")
    files.check_writable(path)
    instance = ec2.running_instance(params, params["parameters"]["ec2_instance"])
    content, on_host = _read(path)
    _, template = _read(os.path.join(common, "config_template.yaml"))
    return State(
        content,
        on_host,
        files.mode(path),
        template,
        instance,
        _copy(params).look(),
        bool(params["restart_file"]) and os.path.exists(params["restart_file"]),
    )


def _read(path: str) -> tuple[Optional[bytes], Optional[Config]]:
    content = files.read(path)
    return content, None if content is None else config_content.parse(content, path)


def plan(state: State, params: Params) -> Plan:
    """The file and its copy as they will be; ``work`` is their content."""
    decided = config_content.values(params["parameters"], state.instance.private_ip)
    config = config_content.merged(decided, state.on_host, state.template)
    before, after = config_content.describe(state.on_host, config)
    local = Change(
        os.path.join(params["home"], "common", "config.yaml"),
        "write",
        files.mode_text(state.mode) + before,
        files.mode_text(MODE) + after,
        fingerprint=fingerprint(params, state.content),
    )
    keep = state.content is not None and before == after
    facts = {
        "config_key": config_content.object_key(params["parameters"]),
        "db_host": state.instance.private_ip,
        "instance_id": state.instance.id,
        "subnet_id": state.instance.subnet_id,
        "web_changed": state.restart_pending or config_content.web_differs(state.on_host, config),
    }
    copy = state.copy.change(config, params["server_side_encryption"])
    changes = [local, replace(copy, fingerprint=fingerprint(params, state.copy.content))]
    new = state.content if keep else config_content.render(config)
    image = _image(state, params, changes, new)
    return Plan(changes, facts, work=(state.content, new), image=image)


def _image(
    state: State, params: Params, changes: Iterable[Change], content: Optional[bytes]
) -> dict[str, Any]:
    """File and copy as they are and as they will be, those that change. With their secrets."""
    local, remote = changes
    image: dict[str, Any] = {"kind": "configuration"}
    if local.changed:
        image["file"] = {
            "path": local.resource,
            "before": [_text(state.content), state.mode],
            "after": [_text(content), MODE],
        }
    if remote.changed:
        image["copy"] = {
            "bucket": params["parameters"]["bucket"],
            "key": config_content.object_key(params["parameters"]),
            "before": _text(state.copy.content) if state.copy.there else None,
            "after": _text(content),
        }
    return image


def _text(content: Optional[bytes]) -> Optional[str]:
    return None if content is None else content.decode("utf-8", "surrogateescape")


def apply(decided: Plan, params: Params) -> None:
    """Write the file, then the copy."""
    local, remote = decided.changes
    before, content = decided.work
    files.require_same(local.resource, before, files.read(local.resource))
    if decided.facts["web_changed"]:
        note_restart(params["restart_file"])
    if local.changed:
        files.replace(local.resource, content, MODE)
    if remote.changed:
        _copy(params).write(content, aws.encryption(params))


def note_restart(pending: str) -> None:
    """Note that the web server must be restarted, unless no file is to say so.

    Before the configuration: a kill in between leads to a restart too many, never to none.
    """
    if pending and not os.path.exists(pending):
        files.replace(pending, b"The web server must be restarted: config.yaml changed.\n", MODE)


def observe_to_verify(params: Params) -> Mapping[str, Config]:
    """The content of file and copy, by location."""
    config_content.require_yaml()
    config_content.check(params["parameters"])
    path = os.path.join(params["home"], "common", "config.yaml")
    copy = _copy(params)
    return {path: _read(path)[1] or {}, copy.name: copy.read()}


def verify(found: Mapping[str, Config], params: Params) -> Plan:
    """No changes; raises Refused unless file and copy are the run's."""
    wanted = config_content.values(params["parameters"], "")
    problems = [
        "{}: {}.{} is {!r}, not {!r}".format(
            where, section, key, config.get(section, {}).get(key), wanted[section].get(key)
        )
        for where, config in found.items()
        for section, keys in config_content.OF_THE_RUN.items()
        for key in keys
        if not config_content.same(config.get(section, {}).get(key), wanted[section].get(key))
    ]
    if not problems:
        return Plan([], {"config_key": config_content.object_key(params["parameters"])})
    raise Refused(
        "the configuration is not that of this run; no cluster is started\n{}\nApply the run mode "
        "again, which writes both{}".format(
            "\n".join("- " + each for each in problems),
            ". With labeller.initial there the consensus daemon acts at the end of an iteration "
            "too: learner_loop says which of the two does, and must be the same for all playbooks"
            if any(".initial is" in each for each in problems)
            else "",
        )
    )


#: The module labeller_config.
run = by_state(
    present=composed(observe, plan, apply),
    verified=composed(observe_to_verify, verify, unchanging),
)


@dataclass(frozen=True)
class Found:
    """The copy as it is: ``config`` is None for an object that is no configuration."""

    name: str
    there: bool = False
    cipher: Optional[str] = None
    config: Optional[Config] = None
    content: bytes = b""

    def change(self, config: Config, asked: str) -> Change:
        """The change that writing ``config``, encrypted as ``asked``, makes."""
        encryption = "encryption: {}\n".format
        before, after = config_content.describe(self.config, config)
        if not self.there:
            return Change(self.name, "write", "", encryption(asked) + after)
        return Change(
            self.name,
            "write",
            encryption(self.cipher or "none")
            + ("(not a configuration)\n" if self.config is None else before),
            encryption(self.cipher or asked) + after,
        )


def _copy(params: Params) -> _Copy:
    parameters = params["parameters"]
    return _Copy(
        aws.client("s3", params), parameters["bucket"], config_content.object_key(parameters)
    )


class _Copy:
    """The configuration's copy on S3, encrypted at rest."""

    def __init__(self, s3: Any, bucket: str, key: str) -> None:
        self.s3, self.bucket, self.key = s3, bucket, key
        self.name = "s3://{}/{}".format(bucket, key)

    def read(self) -> Config:
        """The configuration that is there; InvalidInput for none."""
        with aws.translated("read {}".format(self.name)):
            content = self.s3.get_object(Bucket=self.bucket, Key=self.key)["Body"].read()
        return config_content.parse(content, self.name)

    def look(self) -> Found:
        """The present content, configuration or not."""
        with aws.translated("read {}".format(self.name)):
            try:
                response = self.s3.get_object(Bucket=self.bucket, Key=self.key)
            except self.s3.exceptions.NoSuchKey:
                return Found(self.name)
            content, cipher = response["Body"].read(), response.get("ServerSideEncryption")
        with suppress(InvalidInput):
            return Found(self.name, True, cipher, config_content.parse(content, self.name), content)
        return Found(self.name, True, cipher, content=content)

    def write(self, content: bytes, encryption: Mapping[str, str]) -> None:
        """Put the object in place. Raises Refused if S3 does not encrypt it as asked."""
        with aws.translated("write {}".format(self.name)):
            answer = self.s3.put_object(
                Bucket=self.bucket,
                Key=self.key,
                Body=content,
                ContentType="application/yaml",
                **encryption,
            )
        aws.require_encrypted(answer, self.name, encryption.get("ServerSideEncryption"))
