# shellcheck shell=bash
# Stages of a script: each is announced, timed, and named if it fails.
# Sourced by scripts/demo and scripts/test.
#
#   stage "Build"      ends the stage before and begins this one
#   all_stages_done    ends the last one and prints the times of all
#   stage_failed       for an EXIT trap: names the stage in which the script ended

stage_name=
stage_names=()
stage_seconds=()
stage_began=
script_began=$EPOCHREALTIME

# seconds_since MOMENT: with one decimal, whatever the locale's decimal mark is.
seconds_since() {
    local now=${EPOCHREALTIME/[.,]/} then=${1/[.,]/}
    local tenths=$(((now - then) / 100000))
    echo "$((tenths / 10)).$((tenths % 10))"
}

end_stage() {
    [[ -n $stage_name ]] || return 0
    stage_names+=("$stage_name")
    stage_seconds+=("$(seconds_since "$stage_began")")
    echo "   $stage_name: done in ${stage_seconds[-1]} s"
    stage_name=
}

stage() {
    end_stage
    stage_name=$1
    stage_began=$EPOCHREALTIME
    echo
    echo "== $stage_name"
}

all_stages_done() {
    end_stage
    echo
    local i
    for i in "${!stage_names[@]}"; do
        printf '%8s s  %s\n' "${stage_seconds[i]}" "${stage_names[i]}"
    done
    printf '%8s s  %s\n' "$(seconds_since "$script_began")" "in all"
}

stage_failed() {
    echo
    echo "FAILED in stage \"$stage_name\" after $(seconds_since "$stage_began") s"
}
