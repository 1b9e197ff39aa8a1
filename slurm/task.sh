# One task: the host side on its node (or nodes), and what is left to do here when it was killed.
# It is told the variables launcher_python, launcher_order, launcher_folder, launcher_nodes and launcher_pack before.
#
# srun gives up on a step some seconds after Slurm's SIGTERM, while the host side is still saving (seen with Slurm
# 22.05: "Job step aborted: Waiting up to 10 seconds"). So the host side's own life counts, by its process id.

launcher_task=${SLURM_ARRAY_TASK_ID:-0}
launcher_job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}}
launcher_job=${launcher_job:-$SLURM_JOB_ID}
launcher_state=$launcher_folder/$launcher_task.state.json
launcher_killed=$launcher_folder/$launcher_task.killed
launcher_pid=$(mktemp "${TMPDIR:-/tmp}/launcher-pid.XXXXXX") || launcher_pid=$launcher_folder/$launcher_task.pid
launcher_ending=

# What has begun is known by this, also when nobody lived to read sbatch's answer.
: >"$launcher_folder/job-${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}"
rm -f "$launcher_state"

# Slurm tells this script only that the job ends; a step is told by Slurm itself, and packed points by their own steps.
launcher_pass() {
    launcher_ending=1
    if [ "$launcher_pack" -gt 1 ] && [ -n "${launcher_child:-}" ]; then kill -TERM "$launcher_child" 2>/dev/null; fi
}
trap launcher_pass TERM

launcher_alive() {
    launcher_host=$(cat "$launcher_pid" 2>/dev/null) && [ -n "$launcher_host" ] && kill -0 "$launcher_host" 2>/dev/null
}

if [ "$launcher_pack" -gt 1 ]; then
    "$launcher_python" -I -u -m launcher.node "$launcher_order" &
    launcher_child=$!
    echo "$launcher_child" >"$launcher_pid"
    [ -z "$launcher_ending" ] || launcher_pass
else
    # Since 22.05 srun does not take this over from sbatch by itself (srun(1), --cpus-per-task).
    [ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
    # A bad end ends the other nodes' tasks, where there are others. Not otherwise: a node that was cut off and comes back
    # knows the step by the number that it has on the node where it runs now, and would end it there.
    launcher_bad=1
    [ "$launcher_nodes" -gt 1 ] || launcher_bad=0
    srun --unbuffered --kill-on-bad-exit="$launcher_bad" \
        --nodes="$launcher_nodes" --ntasks="$launcher_nodes" --ntasks-per-node=1 \
        sh -c '[ "${SLURM_PROCID:-0}" != 0 ] || echo "$$" >"$1"; shift; exec "$@"' sh \
        "$launcher_pid" "$launcher_python" -I -u -m launcher.node "$launcher_order" &
    launcher_child=$!
fi

# A signal ends `wait` with more than 128 while its process goes on, or has just ended; 127 tells of no process at all.
launcher_wait() {
    wait "$launcher_child" 2>/dev/null
    set -- "$?"
    [ "$1" -eq 127 ] || launcher_code=$1
}
launcher_code=127
launcher_wait
while [ "$launcher_code" -gt 128 ] && kill -0 "$launcher_child" 2>/dev/null; do launcher_wait; done
[ "$launcher_code" -le 128 ] || launcher_wait
while launcher_alive; do sleep 0.2; done
rm -f "$launcher_pid"

# The host side says "running" when it begins. If that is its last word it was killed, and its run goes on in the next
# attempt; not if Slurm ends the job, as then it knows by itself what follows.
launcher_said=$(head -c 200 "$launcher_state" 2>/dev/null)
case $launcher_said in
    "" | *'"decision": "running"'*) launcher_lost=1 ;;
    *) launcher_lost= ;;
esac
if [ -n "$launcher_lost" ] && [ -z "$launcher_ending" ]; then
    echo "killed with code $launcher_code" >>"$launcher_killed"
    if [ "$(wc -l <"$launcher_killed")" -le 5 ] && scontrol requeue "$launcher_job"; then
        echo "launcher: the host side of this task was killed (code $launcher_code): it is queued again" >&2
        # Slurm ends this script, and says so by TERM.
        for launcher_second in $(seq 60); do [ -n "$launcher_ending" ] || sleep 1; done
        exit "$launcher_code"
    fi
    echo "launcher: the host side of this task was killed (code $launcher_code), and can't be queued again;" \
        "\`launcher submit\` goes on with what is missing" >&2
    [ "$launcher_code" -ne 0 ] || launcher_code=1
elif [ -z "$launcher_lost" ]; then
    rm -f "$launcher_killed"
fi
exit "$launcher_code"
