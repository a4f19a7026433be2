#!/bin/sh
# Finds a Python that sealrun runs on and hands over to scripts/setup/. Arguments are passed on.
set -eu
cd "$(dirname "$0")/.."
# make and an active environment put .venv on PATH; the environment cannot be renewed by its own Python.
case ":$PATH:" in
*":$PWD/.venv/bin:"*)
    after=${PATH#*"$PWD/.venv/bin"}
    PATH=${PATH%%"$PWD/.venv/bin"*}${after#:}
    ;;
esac
for name in ${PYTHON:-} python3.11 python3.12 python3; do
    # A name on PATH may be a shim of a version manager without that version: ask, do not trust.
    if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null
    then
        exec "$name" -I scripts/setup "$@"
    fi
done
echo "setup: no Python 3.11 or 3.12 found; install it: apt-get install python3.11 python3.11-venv" >&2
exit 1
