"""The two files of labeller's terraform folder, for run 0 on AOI 3 of ghana."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: The two files for AOI 3 of ghana: Terraform 0.11's language, values where labeller has them.
EMR_TF = """
resource "aws_emr_cluster" "emr-spark-cluster" {
  name = "GeoPySpark Cluster"
  # args = ["-b", "devel"]
  step {
    name="Clone Learner"
    action_on_failure = "CONTINUE"
    hadoop_jar_step {
    jar="command-runner.jar"
    args = ["git", "clone", "--depth", "1", "-b", "master", "https://github.com/agroimpacts/learner.git", "/home/hadoop/learner"]
  }}
  step {
    name="run_geopyspark.py"
    action_on_failure = "CONTINUE"
    hadoop_jar_step {
    jar="command-runner.jar"
    args = ["spark-submit", "--master", "yarn",
      "--conf", "spark.executorEnv.GDAL_DATA=/usr/local/share/gdal",
      "--conf", "spark.executor.instances=389", "--conf", "spark.executor.cores=5",
      "--conf", "spark.executor.memory=7g", "--conf", "spark.driver.cores=5",
      "--conf", "spark.driver.memory=7g", "--conf", "spark.sql.shuffle.partitions=3890",
      "--conf", "spark.default.parallelism=3890", "/home/hadoop/learner/run_it/run_geopyspark.py",
      "--config-filename", "config_ghana_3.yaml", "--probability-images", "20",
      "--random-seed", "42", "BUCKET", "0", "3"]
  }}
  step {
    name="run_DB_insert.py"
    hadoop_jar_step {
    args = ["python3", "/home/hadoop/learner/run_it/run_DB_insert.py", "--config-filename", "config_ghana_3.yaml"]
  }}
  instance_group {
    instance_type = "${var.worker_type}"
  }
}
"""
VARIABLES_TF = """
variable "key_name" {
    type        = "string"
    description = "The EC2 key, of ${USER} and others"
}
variable "subnet" {
  type    = "string"
  default = "SUBNET"
}
variable "worker_count" {
    default     = "130"
}
variable "worker_type" {
    default     = "m4.2xlarge"
}
variable "bid_price" {
  default     = "0.0860"
}
variable "security_group" {
  default     = "GROUP"
}
"""


def write(folder: Path, *, bucket: str, subnet: str, group: str) -> None:
    """The two files, for this bucket, subnet and security group."""
    (folder / "emr.tf").write_text(EMR_TF.replace("BUCKET", bucket))
    (folder / "variables.tf").write_text(
        VARIABLES_TF.replace("SUBNET", subnet).replace("GROUP", group)
    )
