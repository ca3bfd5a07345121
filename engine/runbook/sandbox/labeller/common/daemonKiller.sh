#!/bin/bash
# Stands in for labeller's daemonKiller.sh, which forgets worker_notification_daemon.py.
common=$(dirname "$(readlink -f "$0")")
for name in create_hit_daemon cleanup_absent_worker select_n_sites generate_consensus_daemon \
    assignment_notification_daemon; do
    pkill -f "$common/$name.py"
done
exit 0
