# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Verify that the folder from which the consensus daemon starts the learner is of this run.

The daemon applies whatever ``emr.tf`` and ``variables.tf`` hold, without a question
(docs/labeller.md 3.4). So they are compared with the run before anything is changed. What is not
understood there (``hcl``), and what could set the same elsewhere, is refused. Nothing is written
here, Terraform is not run.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from . import aws, ec2, files, hcl
from .errors import Refused
from .learner import job_flow
from .module import Params, Plan, composed, unchanging

with suppress(ImportError):  # aws.client says what to install
    from botocore.exceptions import ClientError

_ENDED = ("TERMINATED", "TERMINATED_WITH_ERRORS")
_RUN = "run_geopyspark.py"
_CLUSTER = "aws_emr_cluster"
#: What makes of a cluster's block another one, or none.
_CHANGES_IT = ("count", "for_each", "dynamic", "lifecycle", "provisioner")


def observe(params: Params) -> List[str]:
    """Everything about the folder, and the clusters that Terraform knows, that is not right."""
    parameters = params["parameters"]
    job_flow.validate(parameters)
    folder = _folder(params)
    problems = missing(folder)
    if not problems:
        subnet = ec2.running_instance(params, parameters["ec2_instance"]).subnet_id
        problems = differences(folder, parameters, params["cluster"], subnet, params["home"])
        problems += _version(folder) + _clusters(params, folder)
    return problems


def plan(problems: List[str], params: Params) -> Plan:
    """No changes; raises Refused with everything that is wrong."""
    if not problems:
        return Plan([])
    raise Refused(
        "learner_loop is false, so the consensus daemon would run Terraform in {}, and that is not "
        "ready for this run\n{}\nTake the old run out of service (shutdown.yml), put the folder in "
        "order, then apply this again; or let iterate.yml start the learner "
        "(learner_loop=true)".format(_folder(params), "\n".join("- " + each for each in problems))
    )


#: The state ``verified`` of emr_learner.
run = composed(observe, plan, unchanging)


def _folder(params: Params) -> str:
    return os.path.join(params["home"], "terraform")


def missing(folder: str) -> List[str]:
    """The problems that keep Terraform from starting at all."""
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
    return problems


def differences(
    folder: str,
    parameters: Mapping[str, Any],
    cluster: Mapping[str, Any],
    subnet: str,
    home: str,
) -> List[str]:
    """Everything in the folder that is not this run's, with what to write."""
    wanted = {
        "worker_type": parameters["worker_type"],
        "worker_count": parameters["worker_count"],
        "bid_price": parameters["bid_price"],
        "security_group": parameters["security_group_id"],
        "subnet": subnet,
    }
    content, problems = _parsed(folder)
    if problems:
        return problems
    variables = _defined(content, "variable", problems)
    clusters = _defined(content, "resource", problems, _CLUSTER)
    for path, block in content.items():
        problems += _elsewhere(path, block)
    path = os.path.join(folder, "emr.tf")
    if list(clusters.values()) and [path] != [where for where, _ in clusters.values()]:
        problems.append("{}: the cluster has to be defined there, and only there".format(path))
    elif not clusters:
        problems.append('{}: there is no resource "{}"'.format(path, _CLUSTER))
    else:
        ((_, block),) = clusters.values()
        problems += _cluster(path, block, wanted)
        problems += _steps(
            path, block, job_flow.request("", parameters, {**cluster, "steps": None}, subnet)
        )
    if "user_defined_sg" in variables:  # otherwise a security group of Terraform's is used
        wanted["user_defined_sg"] = "true"
    problems += _defaults(os.path.join(folder, "variables.tf"), variables, wanted)
    return problems + _given(folder, home, content, variables, wanted)


def _parsed(folder: str) -> Tuple[Dict[str, hcl.Block], List[str]]:
    """Every file that Terraform reads in the folder, and those that cannot be read here."""
    content, problems = {}, []
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if name.endswith("_template.tf"):
            problems.append(
                "{}: Terraform reads every *.tf of its folder, and this defines the same again; "
                "move it to another folder".format(path)
            )
        elif re.search(r"(^|_)override\.tf$|\.tf\.json$|\.tfvars\.json$", name):
            problems.append(
                "{}: it may change what the other files say, and is not read here; put what it "
                "sets into variables.tf and emr.tf, and remove it".format(path)
            )
        elif re.search(r"\.tf$|^terraform\.tfvars$|\.auto\.tfvars$", name):
            try:
                content[path] = hcl.parse(files.read(path) or b"")
            except hcl.Unreadable as error:
                problems.append("{}, {}".format(path, error))
    return content, problems


def _defined(
    content: Mapping[str, hcl.Block], kind: str, problems: List[str], first: str = ""
) -> Dict[str, Tuple[str, hcl.Block]]:
    """The blocks ``kind`` of all files by their last label, with the file."""
    found: Dict[str, Tuple[str, hcl.Block]] = {}
    for path, file in content.items():
        for block in file.all(kind):
            name = block.labels[-1] if block.labels else ""
            if first and block.labels[:1] != (first,):
                continue
            if name in found:
                problems.append(
                    '{}: {} "{}" is in {} too; keep one'.format(path, kind, name, found[name][0])
                )
            found[name] = (path, block)
    return found


def _elsewhere(path: str, file: hcl.Block) -> List[str]:
    """The references that lead out of the folder, where nothing is read."""
    problems = [
        '{}: the module "{}" is not looked at here, and may start a cluster'.format(
            path, " ".join(block.labels)
        )
        for block in file.all("module")
    ]
    kept = [
        each
        for block in file.all("terraform")
        for each in block.blocks
        if each.name in ("backend", "cloud")
    ]
    return problems + [
        "{}: with the {} the state is not in terraform.tfstate, where clusters of other runs are "
        "looked for".format(path, " ".join((each.name, *each.labels)))
        for each in kept
    ]


def _cluster(path: str, cluster: hcl.Block, wanted: Mapping[str, Any]) -> List[str]:
    """The settings of the cluster's block that override the variables."""
    names = [*cluster.attributes, *(block.name for block in cluster.blocks)]
    used = set(re.findall(r"\bvar\.([\w-]+)", "\n".join(cluster.sources())))
    problems = [
        "{}: {} in the cluster is not understood here; remove it".format(path, name)
        for name in _CHANGES_IT
        if name in names
    ]
    return problems + [
        "{}: the cluster does not use ${{var.{}}}, so something else is in its place".format(
            path, name
        )
        for name in wanted
        if name not in used
    ]


def _steps(path: str, cluster: hcl.Block, request: Mapping[str, Any]) -> List[str]:
    wanted = {step["Name"]: step["HadoopJarStep"]["Args"] for step in request["Steps"]}
    steps = cluster.all("step")
    names = [step.literal("name") for step in steps]
    if names != list(wanted):
        return [
            "{}: the steps are {}, not {}".format(
                path,
                ", ".join(name if isinstance(name, str) else "one without a name" for name in names)
                or "missing",
                ", ".join(wanted),
            )
        ]
    problems = []
    for name, step in zip(wanted, steps):
        inner = [
            value for block in (step, *step.blocks) for value in [block.literal("args")] if value
        ]
        if len(inner) != 1 or not isinstance(inner[0], list):
            problems.append(
                '{}, step "{}": args is not a list of texts without ${{...}}'.format(path, name)
            )
            continue
        has = _told(name, inner[0])
        problems += [
            '{}, step "{}": {} is {}, not {}'.format(
                path, name, key, has.get(key, "missing"), value
            )
            for key, value in _told(name, wanted[name]).items()
            if has.get(key) != value
        ]
    return problems


def _defaults(
    path: str, variables: Mapping[str, Tuple[str, hcl.Block]], wanted: Mapping[str, Any]
) -> List[str]:
    problems = []
    for name, value in wanted.items():
        where, block = variables.get(name, (path, None))
        default = block.attributes.get("default") if block else None
        if default is None or not _same(default.literal, value):
            problems.append(
                '{}: the default of "{}" is {}, not {}'.format(
                    where, name, _shown(default), str(value)
                )
            )
    return problems


def _shown(value: Optional[hcl.Value]) -> str:
    if value is None:
        return "missing"
    return value.literal if isinstance(value.literal, str) else value.source


def _told(step: str, args: Sequence[str]) -> Dict[str, str]:
    """The run that the arguments of a step name."""
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


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, str) or not isinstance(found, str):
        return bool(found == wanted)
    try:
        return Decimal(found) == Decimal(str(wanted))
    except InvalidOperation:
        return False


def _given(
    folder: str,
    home: str,
    content: Mapping[str, hcl.Block],
    variables: Mapping[str, Tuple[str, hcl.Block]],
    wanted: Mapping[str, Any],
) -> List[str]:
    """Values from outside the ``*.tf``: those that override a default, and those that are needed.

    The daemon's environment is what its crontab line sources.
    """
    script = os.path.join(home, "common", "bashrc_mapper.sh")
    text = (files.read(script) or b"").decode("utf-8", "replace")
    text = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
    problems = [
        "{}: {} makes Terraform do something else than its folder says; remove it".format(
            script, name
        )
        for name in sorted(set(re.findall(r"\bTF_(?:CLI_ARGS|WORKSPACE|DATA_DIR)\w*", text)))
    ]
    chosen = os.path.join(folder, ".terraform", "environment")
    if (files.read(chosen) or b"default").strip() != b"default":
        problems.append(
            "{}: another workspace than default, so the state is not in terraform.tfstate, where "
            "clusters of other runs are looked for".format(chosen)
        )
    given = {
        name: "{}: TF_VAR_{}".format(script, name)
        for name in re.findall(r"\bTF_VAR_(\w+)=[^\s;]", text)
    }
    for path, file in content.items():
        if path.endswith(".tfvars"):
            given.update((name, "{}: {}".format(path, name)) for name in file.attributes)
    problems += [
        "{} overrides the default in variables.tf; remove it".format(where)
        for name, where in sorted(given.items())
        if name in wanted
    ]
    return problems + [
        "{}: no TF_VAR_{}, and the variable has no default".format(script, name)
        for name, (_, block) in sorted(variables.items())
        if "default" not in block.attributes and name not in given
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
    """Clusters in the state that have not ended; the run's own may be running."""
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
        job_flow.config_key(parameters),
    )
