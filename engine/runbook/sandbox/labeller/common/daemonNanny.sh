#!/bin/bash
# Stands in for labeller's daemonNanny.sh: starts the daemon that its argument names when the
# process in log/NAME.pid is gone. Output of the daemon goes to log/NAME.oe.log. The original asks
# ps, which a machine may lack.
program=$1
base=$(basename "$program" .py)
log=$(dirname "$(dirname "$(readlink -f "$0")")")/log
pid_file=$log/$base.pid

if [ ! -x "$program" ]; then
    echo "$(date '+%F %T'): $program is not executable"
    exit 1
fi
if [ -s "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null; then
    exit 0
fi
cd "$log" || exit 1
nohup "$program" >>"$log/$base.oe.log" 2>&1 </dev/null &
echo $! >"$pid_file"
sleep 0.1
if kill -0 "$(cat "$pid_file")" 2>/dev/null; then
    echo "$(date '+%F %T'): started $program"
    echo 0 >"$log/$base.var"
else
    echo "$(date '+%F %T'): could not start $program"
    echo 1 >"$log/$base.var"
    exit 1
fi
