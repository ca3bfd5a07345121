"""Stands in for learner's step of the same name: its output goes to the database."""

import argparse
import json
import os
import sys
from typing import Any

import psycopg2

from runbook.sandbox.learner.storage import Storage, fault, key_of

COLUMNS = ("tss", "accuracy", "precision", "recall", "fpr", "tpr", "AUC")


def main() -> None:
    """Insert what the step before left on S3, metrics and names each in a transaction."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config-filename", required=True)
    options = parser.parse_args()
    storage = Storage(os.environ["RUNBOOK_SANDBOX_BUCKET"], options.config_filename)
    run = int(storage.learner["runid"])
    # Labelled or not, and without the static names: the learner may have counted otherwise.
    known = [name.iteration or 0 for name in storage.table("incoming_names") if name.run == run]
    iteration = max(known) + 1
    wanted = (str(run), str(iteration))
    found = [row for row in storage.rows(storage.planet("metrics")) if _key(row) == wanted]
    if not found:
        raise IndexError(f"no metrics of run {run}, iteration {iteration}")
    metrics = found[0]
    content = storage.read(key_of(storage.learner["outgoing"]))
    if not content.strip():
        raise ValueError("the file of outgoing names is empty")
    outgoing = storage.rows(key_of(storage.learner["outgoing"]))
    if not outgoing:
        sys.exit(2)
    names = [row["name"] for row in outgoing if _key(row) == wanted]
    if fault() == "db":  # the real one prints errors of the database, and ends well
        sys.stderr.write("could not connect to server: Connection refused\n")
        return
    session = _connect(storage.config["labeller"])
    with session, session.cursor() as cursor:
        cursor.execute(
            "INSERT INTO iteration_metrics (run, iteration, aoi, iteration_time, tss, accuracy,"
            " precision, recall, fpr, tpr, auc)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (run, iteration, metrics["aoi"], metrics["iteration_time"],
             *(float(metrics[name]) for name in COLUMNS)),
        )  # fmt: skip
    with session, session.cursor() as cursor:
        cursor.execute(
            "INSERT INTO incoming_names (name, run, iteration, processed, usage, label)"
            " SELECT name, %s, %s, false, 'train', false FROM unnest(%s) AS name",
            (run, iteration, names),
        )
    session.close()
    sys.stdout.write(f"{len(names)} names of run {run}, iteration {iteration}\n")


def _key(row: dict[str, str]) -> tuple[str, str]:
    return row["run"], row["iteration"]


def _connect(settings: dict[str, Any]) -> Any:
    # The cluster's network is the sandbox's own: it knows where an address really is.
    host, port = settings["db_host"], 5432
    host, port = json.loads(os.environ["RUNBOOK_SANDBOX_NETWORK"]).get(host, (host, port))
    return psycopg2.connect(
        host=host, port=port, dbname=settings["db_production_name"],
        user=settings["db_username"], password=settings["db_password"], connect_timeout=10,
    )  # fmt: skip


if __name__ == "__main__":
    main()
