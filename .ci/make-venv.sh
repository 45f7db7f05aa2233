#!/bin/sh
# Make the virtual environment $1 with a Python of at least 3.11. Debian keeps `venv` in a package of its own: as root it
# is installed, otherwise the command is named.
set -eu
venv=$1

for candidate in "${PYTHON:-python3}" python3 python3.14 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        python=$candidate
        break
    fi
done
if [ -z "${python:-}" ]; then
    echo "make: Python 3.11 or newer is needed: apt-get install python3" >&2
    exit 1
fi

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "make: the venv module is missing. Install it with: sudo apt-get install $package" >&2
        exit 1
    fi
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "$package" >/dev/null
fi
"$python" -m venv --clear "$venv"
