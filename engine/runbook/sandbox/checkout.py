"""The stand-in for labeller's checkout on a host, and the crontab of its old run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import yaml

from runbook.errors import InvalidInputError
from runbook.home import write_whole
from runbook.sandbox.state import Home, State

FILES = Path(__file__).parent / "labeller"

#: worker_notification_daemon.py has no execute permission in labeller's repository.
DAEMONS = {
    "assignment_notification_daemon": 0o755,
    "cleanup_absent_worker": 0o755,
    "create_hit_daemon": 0o755,
    "generate_consensus_daemon": 0o755,
    "select_n_sites": 0o755,
    "worker_notification_daemon": 0o644,
}
OLD_PROFILE = ("cleanup_absent_worker", "create_hit_daemon", "generate_consensus_daemon")


def check_path(home: Home) -> None:
    """Raises InvalidInputError when crontab lines could not hold the checkout's path."""
    if not re.fullmatch(r"[\w./@:+=,-]+", str(home.labeller), re.ASCII):
        raise InvalidInputError(
            f"the sandbox cannot be in {home.path}: cron and shells need a path without spaces and "
            "special characters; set RUNBOOK_HOME to such a folder"
        )


def make(home: Home, state: State) -> str:
    """Rewrite checkout, configuration and crontab; return the configuration's text."""
    shutil.rmtree(home.labeller, ignore_errors=True)
    shutil.copytree(FILES / "common", home.labeller / "common")
    common = home.labeller / "common"
    for folder in ("log", "pgsql", "terraform", "maps"):
        (home.labeller / folder).mkdir()
    for script in common.glob("*.sh"):
        script.chmod(0o755)
    for name, mode in DAEMONS.items():
        script = common / f"{name}.py"
        shutil.copyfile(FILES / "daemon.py", script)
        script.chmod(mode)
    configuration = old_configuration(state)
    write_whole(common / "config.yaml", configuration, 0o640)
    write_whole(home.crontab, old_crontab(home.labeller), 0o600)
    return configuration


def old_crontab(labeller: Path) -> str:
    """crontab_runner.py's lines for the old run (docs/labeller.md 4.1), and one of the operator."""
    schedule = ",".join(str(minute) for minute in range(0, 60, 5)) + " * * * *"
    log = f">>{labeller}/log/daemonNanny.log"
    nanny = f"{labeller}/common/daemonNanny.sh"
    lines = ["SHELL=/bin/bash"]
    for name in OLD_PROFILE:
        command = f"{nanny} {labeller}/common/{name}.py"
        if name == "generate_consensus_daemon":
            command = f"(source {labeller}/common/bashrc_mapper.sh;{command})"
        lines.append(f"{schedule} {command} {log}")
    lines.append(f"30 3 * * 0 find {labeller}/log -name '*.oe.log' -size +100M -delete")
    return "\n".join(lines) + "\n"


def old_configuration(state: State) -> str:
    """config.yaml as the old run left it, with secrets that have been changed since."""
    document: dict[str, Any] = yaml.safe_load((FILES / "common/config_template.yaml").read_text())
    old = {name: state.secrets[f"previous_{name}"] for name in SECRETS}
    area = state.old_aoi
    names = f"ghana_{area}"
    aws = {"aws_access": old["aws_access"], "aws_secret": old["aws_secret"]}
    document["labeller"].update(
        aws,
        SECRET_KEY=old["secret_key"],
        PL_API_KEY=old["api_key"],
        slack_url=old["slack_url"],
        github_token=old["github_token"],
        db_password=old["db_pwd"],
        db_host="10.0.1.200",
        consensus_directory="/labels/ghana/",
        consensus_heatmap_dir="heatmaps/ghana",
        s3_catalog_name="planet_catalog_ghana_full.csv",
    )
    document["learner"].update(
        aws,
        aoiid=area,
        aoiname="ghana",
        runid=90,
        bucket=state.bucket,
        pool=f"f_pool_{names}.csv",
        qs=f"q_sites_{names}.csv",
        incoming_names=f"incoming_names_{names}.csv",
        incoming_names_static=STATIC_NAMES,
        metrics=f"incoming_metrics_{names}.csv",
        image_catalog=f"planet/planet_catalog_{names}.csv",
        image_catalog_predict=f"planet/planet_catalog_{names}.csv",
        image_output_pattern=f"s3://{state.bucket}/classified-images/{names}/"
        "image_c{}_r{}_{}_run{}_iteration{}.tif",
        outgoing=f"s3://{state.bucket}/planet/outgoing_names_{names}.csv",
    )
    text: str = yaml.safe_dump(document, sort_keys=False)
    return re.sub(r": null$", ":", text, flags=re.MULTILINE)


STATIC_NAMES = "incoming_names_static_cluster1.csv"
SECRETS = (
    "secret_key", "db_pwd", "github_token", "api_key", "aws_access", "aws_secret", "slack_url",
)  # fmt: skip
