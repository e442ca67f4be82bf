# shellcheck shell=bash
# Work that mostly waits, done beside other work. Sourced by scripts/test.
#
#   in_background NAME COMMAND...   starts it; what it prints is kept
#   await NAME                      waits for its end, prints that, and fails where it failed
#   end_background                  for an EXIT trap: ends what still runs

declare -A background_jobs=() background_logs=()

in_background() {
    local name=$1
    background_logs[$name]=$(mktemp)
    # A group of its own: what it has started ends with it.
    set -m
    "${@:2}" </dev/null >"${background_logs[$name]}" 2>&1 &
    set +m
    background_jobs[$name]=$!
}

await() {
    local status=0
    wait "${background_jobs[$1]}" || status=$?
    cat "${background_logs[$1]}"
    forget_background "$1"
    return "$status"
}

end_background() {
    local name
    for name in "${!background_jobs[@]}"; do
        kill -- "-${background_jobs[$name]}" 2>/dev/null || true
        echo "Ended: $name. It had printed:"
        tail -n 60 "${background_logs[$name]}"
        forget_background "$name"
    done
}

forget_background() {
    rm -f "${background_logs[$1]}"
    unset "background_jobs[$1]" "background_logs[$1]"
}
