"""The embedded target: PostgreSQL, S3, EC2, EMR, a crontab and daemons that need no account."""
