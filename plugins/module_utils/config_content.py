# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The content of config.yaml of labeller and learner (docs/labeller.md 3.3): pure functions."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Iterable, Mapping, Optional

from .errors import InvalidInput, missing
from .names import names as derive_names

try:
    import yaml

    YAML_ERROR = ""
except ImportError as _error:
    YAML_ERROR = str(_error)

Config = Dict[str, Any]

#: labeller's own CSV without names; the learner reads one in any case (docs/labeller.md 3.1.3).
BLANK_NAMES = "incoming_names_static_cluster_blank.csv"

_SECRET: dict[str, Any] = {"type": "str", "no_log": True, "required": True}

_OPTIONAL_SECRET: dict[str, Any] = {"type": "str", "no_log": True, "default": ""}

#: The parameters that decide it, as options of a module.
PARAMETERS: dict[str, Any] = {
    "initial": {"type": "int", "choices": [0, 1, 2, 3], "required": True},
    "ec2_instance": {"type": "str", "required": True},
    "run_id": {"type": "int", "default": 0},
    "aoi_index": {"type": "int", "default": 1},
    "aoi_name": {"type": "str", "default": "aoi"},
    "aoi_s3_object": {"type": "str", "default": "image_target_aois.geojson"},
    "master_grid_s3_object": {"type": "str", "default": "grid/master_grid.tif"},
    "incoming_names_static_path": {
        "type": "str",
        "default": BLANK_NAMES,
    },
    "image_catalog_predict": {"type": "str", "default": ""},
    "number_outgoing_names": {"type": "int", "default": 10},
    "bucket": {"type": "str", "default": "activemapper"},
    "github_repo": {"type": "str", "default": "agroimpacts/issues"},
    "github_token": _SECRET,
    "secret_key": _SECRET,
    "db_name": {"type": "str", "default": "Africa"},
    "db_user": {"type": "str", "default": "postgis"},
    "db_pwd": _SECRET,
    "api_key": _OPTIONAL_SECRET,
    "slack_url": _OPTIONAL_SECRET,
    "aws_access": _SECRET,
    "aws_secret": _SECRET,
    "aws_region": {"type": "str", "default": "us-east-1"},
}

#: What learner and consensus daemon go by, by section: it must be the run's own.
OF_THE_RUN = {
    "labeller": ("initial", "consensus_directory"),
    "learner": (
        "aoiid", "aoiname", "runid", "bucket", "prefix", "pool", "qs", "incoming_names",
        "incoming_names_static", "metrics", "image_catalog", "outgoing",
    ),
}  # fmt: skip

# Keys that no parameter sets (docs/labeller.md 3.3.8): the host's or the template's value stays,
# else blank.
KEPT = (
    "MAIL_USE_TLS",
    "MAIL_USE_SSL",
    "MAIL_USERNAME",
    "MAIL_PASSWORD",
    "bing_key",
    "mapbox_key",
    "notification_filter",
    "bucket",
    "kml_type",
    "sites",
    "reset_initial",
    "n",
    "consensus_riskmap_dir",
    "db_pgpassword",
    "dbpg_password",
    "db_sandbox_name",
    "db_url",
    "mapping_category2",
    "mapping_category3",
)

SECRET_KEYS = frozenset(
    (
        "SECRET_KEY",
        "MAIL_PASSWORD",
        "PL_API_KEY",
        "bing_key",
        "mapbox_key",
        "slack_url",
        "aws_access",
        "aws_secret",
        "db_password",
        "db_pgpassword",
        "dbpg_password",
        "db_url",
        "github_token",
    )
)

# A key of the operator that sounds like a secret is one.
_SOUNDS_SECRET = re.compile(r"pass|pwd|secret|token|key|credential|webhook", re.IGNORECASE)


def require_yaml() -> None:
    """Raise ModuleFailure where the host lacks PyYAML."""
    if YAML_ERROR:
        raise missing("PyYAML", YAML_ERROR)


def values(parameters: Mapping[str, Any], db_host: str) -> Config:
    """Every key that the parameters decide, by section (docs/labeller.md 3.1, 3.3). Pure."""
    p = parameters
    names = derive_names(
        p["bucket"],
        p["aoi_name"],
        p["aoi_index"],
        p["aoi_s3_object"],
        p["incoming_names_static_path"],
        host="",
        run_id=p["run_id"],
    )
    keys = {name: p[name] for name in ("aws_access", "aws_secret", "aws_region")}
    return {
        "labeller": {**_labeller(p, names, db_host), **keys},
        "learner": {**_learner(p, names), **keys},
    }


def _labeller(p: Mapping[str, Any], names: Mapping[str, str], db_host: str) -> Dict[str, Any]:
    return {
        "DEBUG": True,
        # Without the key the daemon ends after its labels, in a KeyError: neither 1 (which
        # uploads), 2 (which files an issue each time) nor 3 (which starts a cluster).
        **({"initial": p["initial"]} if p["initial"] else {}),
        "SECRET_KEY": p["secret_key"],
        "MAIL_SERVER": "localhost",
        "MAIL_PORT": 25,
        "PL_API_KEY": p["api_key"] or None,
        "slack_url": p["slack_url"] or None,
        "consensus_directory": names["consensus_directory"],
        "consensus_heatmap_dir": names["consensus_heatmap_dir"],
        "db_host": db_host,
        "db_production_name": p["db_name"],
        "db_username": p["db_user"],
        "db_password": p["db_pwd"],
        "aoi_s3_object": names["aoi"],
        "master_grid_s3_object": p["master_grid_s3_object"],
        "s3_catalog_name": names["s3_catalog_name"],
        "github_repo": p["github_repo"],
        "github_token": p["github_token"],
        "mapping_category1": "field",
    }


def _learner(p: Mapping[str, Any], names: Mapping[str, str]) -> Dict[str, Any]:
    def file(name: str) -> str:
        # labeller and learner put learner.prefix before these themselves
        return names[name][len("planet/") :]

    return {
        "aoiid": p["aoi_index"],
        "aoiname": p["aoi_name"],
        "runid": p["run_id"],
        "bucket": p["bucket"],
        "prefix": "planet",
        "pool": file("pool"),
        "qs": file("qs"),
        "incoming_names": file("incoming_names"),
        "incoming_names_static": file("incoming_names_static") or BLANK_NAMES,
        "metrics": file("metrics"),
        "image_catalog": names["image_catalog"],
        "image_catalog_predict": p["image_catalog_predict"] or names["image_catalog"],
        # learner's master branch looks this one up whatever it does (docs/labeller.md 3.3.6).
        "image_catalog_fix": names["image_catalog"],
        "image_output_pattern": names["image_output_pattern"],
        "outgoing": names["outgoing_url"],
        "number_outgoing_names": p["number_outgoing_names"],
    }


#: What a parameter must be for its readers, beside its type: a pattern of its text, and that in
#: words. Labeller puts the names and the password into a libpq string without quotes and into a URL
#: without escapes; consensus_directory and the learner's patterns are made of aoi_name.
_LOGIN = (r"[^\s'\\@:/%#?\x00-\x1f]+", "a text without blanks and without ' \\ @ : / % # ?")

_FILLED = (r"[^\x00-\x1f]+", "a text of one line that is not empty")

_PATTERNS = {
    "db_name": _LOGIN, "db_user": _LOGIN, "db_pwd": _LOGIN, "secret_key": _FILLED,
    "github_token": _FILLED, "github_repo": _FILLED, "aws_region": _FILLED,
    "aoi_name": (r"[A-Za-z0-9][A-Za-z0-9-]*", "letters, digits and hyphens"),
    "run_id": (r"[0-9]+", "a whole number of at least 0"),
    "aoi_index": (r"0*[1-9][0-9]*", "a whole number of at least 1"),
    "number_outgoing_names": (r"0*[1-9][0-9]*", "a whole number of at least 1"),
}  # fmt: skip

_ONE_LINE = (r"[^\x00-\x1f]*", "a text of one line")


def check(parameters: Mapping[str, Any]) -> None:
    """Raises InvalidInput naming every parameter that a reader of config.yaml cannot use."""
    problems = []
    for name, value in parameters.items():
        pattern, words = _PATTERNS.get(name, _ONE_LINE)
        if not re.match("(?:{})\\Z".format(pattern), str(value)):
            secret = PARAMETERS.get(name, {}).get("no_log")
            shown = "the value given" if secret else repr(value)
            problems.append("{}: expected {}, not {}".format(name, words, shown))
    if problems:
        raise InvalidInput("config.yaml: {}".format("; ".join(problems)))


def merged(decided: Config, on_host: Optional[Config], template: Optional[Config]) -> Config:
    """The whole configuration: ``decided`` over the host's keys over the template's. Pure.

    Raises InvalidInput for a notification_filter that is no list: the notification daemon exits
    with it. With none, no one is filtered out.
    """
    whole: Config = {}
    for layer in (on_host or {}, template or {}, {"labeller": dict.fromkeys(KEPT)}):
        for section, content in layer.items():
            if not isinstance(content, dict):
                whole.setdefault(section, content)
            else:
                target = whole.setdefault(section, {})
                for key, value in content.items():
                    target.setdefault(key, value)
    for section, content in decided.items():
        whole.setdefault(section, {}).update(content)
    if "initial" not in decided["labeller"]:
        whole["labeller"].pop("initial", None)
    filtered = whole["labeller"]["notification_filter"]
    if not isinstance(filtered, (list, type(None))):
        raise InvalidInput(
            "config.yaml: labeller.notification_filter is {!r}: expected a list of last names, as "
            "in [Song, Estes]; correct it in config.yaml on the host".format(filtered)
        )
    whole["labeller"]["notification_filter"] = filtered or []
    return whole


def parse(content: bytes, where: str) -> Config:
    """The configuration in a file or object; InvalidInput naming ``where``, line and column.

    ModuleFailure where the host lacks PyYAML.
    """
    require_yaml()
    try:
        config = yaml.safe_load(content)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = ":{}:{}".format(mark.line + 1, mark.column + 1) if mark else ""
        # Neither the message's context nor a snippet: they would quote the file, secrets included.
        raise InvalidInput("{}{}: not YAML; fix or remove it".format(where, place)) from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError):
        raise InvalidInput("{}: not YAML text; fix or remove it".format(where)) from None
    config = {} if config is None else config
    if not isinstance(config, dict):
        raise InvalidInput("{}: must be a mapping of sections".format(where))
    for section in ("labeller", "learner"):
        config[section] = {} if config.get(section) is None else config[section]
        if not isinstance(config[section], dict):
            raise InvalidInput("{}: {} must be a mapping of keys".format(where, section))
    return config


def render(config: Config) -> bytes:
    """YAML as the old readers expect it: one line a key, null blank, ASCII."""

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, _data: Any) -> bool:
            return True

    Dumper.add_representer(
        type(None), lambda dumper, _none: dumper.represent_scalar("tag:yaml.org,2002:null", "")
    )
    text = yaml.dump(
        config, Dumper=Dumper, sort_keys=False, default_flow_style=False, width=float("inf")
    )
    return str(text).encode("ascii")


def describe(before: Optional[Config], after: Config) -> tuple[str, str]:
    """Both configurations as text of one line a key, equal exactly when they are; no secret in it.

    Secrets are taken out by field and by value, those of ``before`` as well.
    """
    old, new = _flat(before or {}), _flat(after)
    hidden = sorted(_secret_values({**old}) | _secret_values({**new}), key=len, reverse=True)
    lines: tuple[list[str], list[str]] = ([], [])
    for key in sorted({*old, *new}):
        shown = [_shown(key, flat.get(key), hidden) for flat in (old, new)]
        if shown[0] == shown[1] and not same(old.get(key), new.get(key)):
            secret = shown[1] == "(secret)"
            shown[1] = "(secret, changed)" if secret else shown[1] + " (changed)"
        for side, flat in enumerate((old, new)):
            if key in flat:
                lines[side].append("{}: {}\n".format(key, shown[side]).replace(": \n", ":\n"))
    return "".join(lines[0]), "".join(lines[1])


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same in YAML."""
    # 1, 1.0 and True are equal to Python and different in YAML.
    return json.dumps(one, default=str) == json.dumps(other, default=str)


def _flat(config: Config) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for section, content in config.items():
        if isinstance(content, dict):
            flat.update(("{}.{}".format(section, key), value) for key, value in content.items())
        else:
            flat[str(section)] = content
    return flat


def _is_secret(key: str) -> bool:
    name = key.rpartition(".")[2]
    return name in SECRET_KEYS or _SOUNDS_SECRET.search(name) is not None


def _secret_values(flat: Mapping[str, Any]) -> set[str]:
    found = set()
    for key, value in flat.items():
        if _is_secret(key):
            for text in _strings(value):
                # The value of a key that only sounds secret may be a word that is everywhere.
                if text and (key.rpartition(".")[2] in SECRET_KEYS or len(text) >= 8):
                    found.add(text)
    return found


def secret_values(config: Config) -> set[str]:
    """The secret values of a configuration."""
    return _secret_values(_flat(config))


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _strings(each)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _shown(key: str, value: Any, hidden: Iterable[str]) -> str:
    if value is None or value == "":
        return ""
    if _is_secret(key):
        return "(secret)"
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    for secret in hidden:
        text = text.replace(secret, "(secret)")
    return " ".join(text.split("\n"))


def web_differs(before: Optional[Config], after: Config) -> bool:
    """Whether the web server, which reads the section labeller, would find another one."""
    found = [_flat({"labeller": each["labeller"]}) if each else {} for each in (before, after)]
    return not same(*found)


def object_key(parameters: Mapping[str, Any]) -> str:
    """Key of the copy on S3."""
    aoi = (parameters["aoi_name"], parameters["aoi_index"])
    return derive_names("", *aoi, "", "", "", 0)["config"]
