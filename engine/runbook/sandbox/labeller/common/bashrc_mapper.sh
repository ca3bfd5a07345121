# Stands in for labeller's environment of the consensus daemon.
export TF_VAR_s3_log_uri="s3://activemapper/logs"
