# shellcheck shell=bash
# Tools from Python's package index, each in a folder of its own under the target folder. Sourced by scripts/schemathesis,
# scripts/deny and scripts/ansible.
#
#   install_python_tool NAME REQUIREMENTS   nothing is changed where it is there; CARGO_TARGET_DIR is honoured

# shellcheck source=scripts/packages.sh
source scripts/packages.sh

install_python_tool() {
    local folder=${CARGO_TARGET_DIR:-target}/$1 wanted=$2
    need_for_python_tools
    install_missing
    if cmp --silent "$wanted" "$folder/installed.txt"; then
        return
    fi
    rm -rf "$folder"
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet --no-input --disable-pip-version-check --requirement "$wanted"
    cp "$wanted" "$folder/installed.txt"
}
