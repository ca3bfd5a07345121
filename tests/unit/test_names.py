"""Derived names: docs/labeller.md 3.1, from the bucket everywhere."""

from __future__ import annotations

import yaml
from ansible_collections.labeller.runbook.plugins.filter.names import DOCUMENTATION, FilterModule
from ansible_collections.labeller.runbook.plugins.module_utils.names import names

GHANA = names("my-bucket", "ghana", 3, "aois.geojson", "static.csv", "labeller3", 1)


def test_names_of_the_ghana_example() -> None:
    assert GHANA == {
        "aoi": "grid/aois.geojson",
        "full_catalog": "planet/planet_catalog_ghana_full.csv",
        "image_catalog": "planet/planet_catalog_ghana_3.csv",
        "pool": "planet/f_pool_ghana_3.csv",
        "qs": "planet/q_sites_ghana_3.csv",
        "incoming_names": "planet/incoming_names_ghana_3.csv",
        "incoming_names_static": "planet/static.csv",
        "training_names": "planet/training_names_ghana_3_run1.csv",
        "metrics": "planet/incoming_metrics_ghana_3.csv",
        "outgoing": "planet/outgoing_names_ghana_3.csv",
        "config": "config_ghana_3.yaml",
        "learner_request": "learner/labeller3/cluster_request.json",
        "backups": "backups/database/labeller3",
        "s3_catalog_name": "planet_catalog_ghana_full.csv",
        "outgoing_url": "s3://my-bucket/planet/outgoing_names_ghana_3.csv",
        "image_output_pattern": "s3://my-bucket/classified-images/ghana_3/image_c{}_r{}_{}_run{}_iteration{}.tif",
        "labels": "labels/ghana/",
        "consensus_directory": "/labels/ghana/",
        "consensus_heatmap_dir": "heatmaps/ghana",
    }


def test_no_static_names_have_no_key() -> None:
    without = names("my-bucket", "ghana", 3, "aois.geojson", "", "labeller3", 1)
    assert without == {**GHANA, "incoming_names_static": ""}


def test_no_name_comes_from_another_bucket() -> None:
    assert "activemapper" not in "".join(GHANA.values())


def test_documentation_names_the_arguments_in_their_order() -> None:
    documented = yaml.safe_load(DOCUMENTATION)
    function = FilterModule().filters()["names"]
    arguments = function.__code__.co_varnames[1 : function.__code__.co_argcount]
    assert documented["positional"].split(", ") == list(arguments)
    assert set(documented["options"]) == {"_input", *arguments}
