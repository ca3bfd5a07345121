# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Names of the objects that one run reads and writes, derived in this one place.

The rules are those of fire_up_labeller.py (docs/labeller.md 3.1), with the bucket of the parameters
where the old script wrote ``activemapper``.
"""

from __future__ import annotations


def names(
    bucket: str,
    aoi_name: str,
    aoi_index: int,
    aoi_s3_object: str,
    incoming_names_static_path: str,
    host: str,
    run_id: int,
) -> dict[str, str]:
    """Every derived name of run ``run_id`` on AOI ``aoi_index`` of ``aoi_name``, on ``host``.

    All are keys within ``bucket``, except ``image_output_pattern`` and ``outgoing_url`` (whole
    s3:// addresses, as the learner wants them), ``s3_catalog_name`` (below ``planet/``),
    ``consensus_directory`` and ``consensus_heatmap_dir`` (with the slashes that labeller expects).
    Without static training names, ``incoming_names_static`` is empty. ``training_names`` is the
    list that a run makes of them: the learner drops rows that carry another run's number.
    """
    run = "{}_{}".format(aoi_name, aoi_index)
    catalog = "planet_catalog_{}_full.csv".format(aoi_name)
    outgoing = "planet/outgoing_names_{}.csv".format(run)
    return {
        "aoi": "grid/{}".format(aoi_s3_object),
        "full_catalog": "planet/{}".format(catalog),
        "image_catalog": "planet/planet_catalog_{}.csv".format(run),
        "pool": "planet/f_pool_{}.csv".format(run),
        "qs": "planet/q_sites_{}.csv".format(run),
        "incoming_names": "planet/incoming_names_{}.csv".format(run),
        "incoming_names_static": incoming_names_static_path
        and "planet/" + incoming_names_static_path,
        "training_names": "planet/training_names_{}_run{}.csv".format(run, run_id),
        "metrics": "planet/incoming_metrics_{}.csv".format(run),
        "outgoing": outgoing,
        "config": "config_{}.yaml".format(run),
        "learner_request": "learner/{}/cluster_request.json".format(host),
        "backups": "backups/database/{}".format(host),
        "s3_catalog_name": catalog,
        "outgoing_url": "s3://{}/{}".format(bucket, outgoing),
        "image_output_pattern": "s3://{}/classified-images/{}/image_c{{}}_r{{}}_{{}}_run{{}}_iteration{{}}.tif".format(
            bucket, run
        ),
        "labels": "labels/{}/".format(aoi_name),
        "consensus_directory": "/labels/{}/".format(aoi_name),
        "consensus_heatmap_dir": "heatmaps/{}".format(aoi_name),
    }
