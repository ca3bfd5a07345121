# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The folder from which the consensus daemon starts the learner when no loop does: of this run?

The daemon applies whatever ``emr.tf`` and ``variables.tf`` hold, without a question. So they are
held against the run before anything is changed. Nothing is written here, Terraform is not run.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from . import aws, ec2, emr, files
from .change import result
from .errors import Refused

with suppress(ImportError):  # aws.client says what to install
    from botocore.exceptions import ClientError

_ENDED = ("TERMINATED", "TERMINATED_WITH_ERRORS")
_RUN = "run_geopyspark.py"
_ARGS = r'step\s*\{{\s*name\s*=\s*"{}".*?\bargs\s*=\s*\[(.*?)\]'
_VARIABLE = r'variable\s+"?(\w+)"?\s*\{(.*?)^\}'
_DEFAULT = r'^\s*default\s*=\s*"?([^"\n]*)"?'


def run(params: Mapping[str, Any]) -> Dict[str, Any]:
    """The state ``verified`` of emr_learner; Refused with everything that is wrong."""
    parameters = params["parameters"]
    emr.validate(parameters)
    folder = os.path.join(params["home"], "terraform")
    problems = missing(folder)
    if not problems:
        subnet = ec2.running_instance(params, parameters["ec2_instance"]).subnet_id
        problems = differences(folder, parameters, params["cluster"], subnet)
        problems += _environment(params["home"], folder) + _version(folder)
        problems += _clusters(params, folder)
    if not problems:
        return result([])
    raise Refused(
        "learner_loop is false, so the consensus daemon would run Terraform in {}, and that is not "
        "ready for this run\n{}\nTake the old run out of service (shutdown.yml), put the folder in "
        "order, then apply this again; or let iterate.yml start the learner "
        "(learner_loop=true)".format(folder, "\n".join("- " + each for each in problems))
    )


def missing(folder: str) -> List[str]:
    """What keeps Terraform from starting at all."""
    if not os.path.isdir(folder):
        return ["there is no folder {}".format(folder)]
    problems = [
        "there is no file {}".format(os.path.join(folder, name))
        for name in ("terraform", "emr.tf", "variables.tf")
        if not os.path.isfile(os.path.join(folder, name))
    ]
    binary = os.path.join(folder, "terraform")
    if os.path.isfile(binary) and not os.access(binary, os.X_OK):
        problems.append("{} is not executable".format(binary))
    problems += [
        "{}: Terraform reads every *.tf of its folder, and this defines the same again; move it "
        "to another folder".format(os.path.join(folder, name))
        for name in sorted(os.listdir(folder))
        if name.endswith("_template.tf")
    ]
    return problems


def differences(
    folder: str, parameters: Mapping[str, Any], cluster: Mapping[str, Any], subnet: str
) -> List[str]:
    """Every value of the two files that is not this run's, with the one to write."""
    path = os.path.join(folder, "emr.tf")
    content = _code(path)
    wanted_steps = emr.request("", parameters, {**cluster, "steps": None}, subnet)["Steps"]
    problems = []
    for step in wanted_steps:
        found = re.search(_ARGS.format(re.escape(step["Name"])), content, re.DOTALL)
        if found is None:
            problems.append('{}: there is no step "{}" with args'.format(path, step["Name"]))
            continue
        has = _told(step["Name"], re.findall(r'"([^"]*)"', found.group(1)))
        problems += [
            '{}, step "{}": {} is {}, not {}'.format(
                path, step["Name"], key, has.get(key, "missing"), value
            )
            for key, value in _told(step["Name"], step["HadoopJarStep"]["Args"]).items()
            if has.get(key) != value
        ]
    path = os.path.join(folder, "variables.tf")
    defaults = _variables(_code(path))
    wanted = {
        "worker_type": parameters["worker_type"],
        "worker_count": parameters["worker_count"],
        "bid_price": parameters["bid_price"],
        "security_group": parameters["security_group_id"],
        "subnet": subnet,
    }
    return problems + [
        '{}: the default of "{}" is {}, not {}'.format(
            path, name, defaults.get(name) or "missing", value
        )
        for name, value in wanted.items()
        if not _same(defaults.get(name), value)
    ]


def _told(step: str, args: Sequence[str]) -> Dict[str, str]:
    """What the arguments of a step say of the run."""
    found = {}
    for option, value in zip(args, args[1:]):  # noqa: RUF007 - pairwise is of Python 3.10
        if option in ("-b", "--config-filename", "--probability-images"):
            found[option] = value
        elif option == "--conf":
            key, _, found_value = value.partition("=")
            found[key] = found_value
    if step == _RUN:
        found.update(zip(("bucket", "run", "AOI"), args[-3:]))
    return found


def _code(path: str) -> str:
    """The file without lines that are comments."""
    text = (files.read(path) or b"").decode("utf-8", "replace")
    return re.sub(r"^\s*(#|//).*$", "", text, flags=re.MULTILINE)


def _variables(content: str) -> Dict[str, Optional[str]]:
    """The default of each variable, None for one that has none."""
    found = {}
    for name, body in re.findall(_VARIABLE, content, re.DOTALL | re.MULTILINE):
        default = re.search(_DEFAULT, body, re.MULTILINE)
        found[name] = default.group(1).strip() if default else None
    return found


def _same(found: Optional[str], wanted: Any) -> bool:
    if found is None or isinstance(wanted, str):
        return bool(found == wanted)
    try:
        return Decimal(found) == Decimal(str(wanted))
    except InvalidOperation:
        return False


def _environment(home: str, folder: str) -> List[str]:
    """Variables without a default, for which the daemon's environment has no value either."""
    path = os.path.join(home, "common", "bashrc_mapper.sh")
    given = set(re.findall(r"^\s*(?:export\s+)?TF_VAR_(\w+)=[^\s;]", _code(path), re.MULTILINE))
    values = ""
    needed: Dict[str, Optional[str]] = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".tf"):
            needed.update(_variables(_code(os.path.join(folder, name))))
        elif name == "terraform.tfvars" or name.endswith(".auto.tfvars"):
            values += _code(os.path.join(folder, name)) + "\n"
    given |= set(re.findall(r"^\s*(\w+)\s*=", values, re.MULTILINE))
    return [
        "{}: no TF_VAR_{}, and the variable has no default".format(path, name)
        for name, default in sorted(needed.items())
        if default is None and name not in given
    ]


def _version(folder: str) -> List[str]:
    """Signs of a Terraform that quotes its outputs, which the daemon cannot read."""
    problem = "{}: of Terraform {}; the daemon can read the outputs of versions below 0.14 only"
    lock = os.path.join(folder, ".terraform.lock.hcl")
    if os.path.exists(lock):
        return [problem.format(lock, "0.14 or later")]
    version = str(_state(folder).get("terraform_version") or "")
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and (int(numbers.group(1)), int(numbers.group(2))) >= (0, 14):
        return [problem.format(_state_path(folder), version)]
    return []


def _state_path(folder: str) -> str:
    return os.path.join(folder, "terraform.tfstate")


def _state(folder: str) -> Dict[str, Any]:
    content = files.read(_state_path(folder))
    try:
        found = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Refused(
            "{} is not JSON: Terraform could not read it. Restore it from "
            "terraform.tfstate.backup".format(_state_path(folder))
        )
    return found


def cluster_ids(state: Any) -> List[str]:
    """The ids of the clusters in a state, of Terraform's format 3 (0.11) or 4. Pure."""
    found: List[str] = []
    for module in _items(state, "modules"):
        resources = module.get("resources")
        for each in resources.values() if isinstance(resources, dict) else ():
            if isinstance(each, dict) and each.get("type") == "aws_emr_cluster":
                found += _id(each.get("primary"))
    for each in _items(state, "resources"):
        if each.get("type") == "aws_emr_cluster":
            for instance in _items(each, "instances"):
                found += _id(instance.get("attributes"))
    return found


def _items(value: Mapping[str, Any], key: str) -> List[Dict[str, Any]]:
    items = value.get(key)
    return [each for each in items if isinstance(each, dict)] if isinstance(items, list) else []


def _id(value: Any) -> List[str]:
    return [str(value["id"])] if isinstance(value, dict) and value.get("id") else []


def _clusters(params: Mapping[str, Any], folder: str) -> List[str]:
    """Clusters that the state holds and that are not over; the run's own may be at work."""
    problems = []
    client = aws.client("emr", params)
    for cluster_id in cluster_ids(_state(folder)):
        where = "{}: cluster {}".format(_state_path(folder), cluster_id)
        state, at_work = _look(client, cluster_id)
        if state is None:
            problems.append(
                "{} is not known to EMR; Terraform would fail. Remove it from the state: "
                "terraform state rm aws_emr_cluster.emr-spark-cluster".format(where)
            )
        elif state not in _ENDED and not (params["in_place"] and _is_run(params, at_work)):
            problems.append(
                "{} is {}, with {}. Terraform would report it as this run's, or replace it. Wait "
                "for its end, or terminate it if it is this instance's; a state that came with a "
                "copied instance is to be deleted".format(
                    where,
                    state,
                    "run {run} on AOI {AOI}".format(**at_work) if at_work else "other steps",
                )
            )
    return problems


def _look(client: Any, cluster_id: str) -> Tuple[Optional[str], Dict[str, str]]:
    """A cluster's state, None for one that EMR does not know; and what its learner was given."""
    with aws.translated("look up the cluster {}".format(cluster_id)):
        try:
            cluster = client.describe_cluster(ClusterId=cluster_id)["Cluster"]
        except ClientError as error:
            if aws.error_code(error) not in ("InvalidRequestException", "ValidationException"):
                raise
            return None, {}
        if cluster["Status"]["State"] in _ENDED:
            return str(cluster["Status"]["State"]), {}
        for step in client.list_steps(ClusterId=cluster_id)["Steps"]:
            if step["Name"] == _RUN and len(step["Config"]["Args"]) > 2:
                return str(cluster["Status"]["State"]), _told(_RUN, step["Config"]["Args"])
    return str(cluster["Status"]["State"]), {}


def _is_run(params: Mapping[str, Any], at_work: Mapping[str, str]) -> bool:
    parameters = params["parameters"]
    return (at_work.get("run"), at_work.get("AOI"), at_work.get("--config-filename")) == (
        str(parameters["run_id"]),
        str(parameters["aoi_index"]),
        emr.config_key(parameters),
    )
