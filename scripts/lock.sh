#!/bin/sh
# Resolve requirements.in into requirements.lock: exact versions, every file's hash, no address.
# pip-tools is no dependency of the project: it gets an environment of its own. Versions that are
# locked stay, unless requirements.in asks for others: delete the lock to take what is newest.
set -eu
cd "$(dirname "$0")/.."
tools=.build/lock
[ -x "$tools/bin/pip-compile" ] || { .venv/bin/python -m venv "$tools"; "$tools/bin/pip" install -q pip-tools==7.6.2; }
"$tools/bin/pip-compile" --quiet --allow-unsafe --generate-hashes --strip-extras \
    --no-header --no-annotate --no-emit-options --no-emit-index-url --no-emit-trusted-host \
    --no-emit-find-links --output-file requirements.lock requirements.in
sed -i -E '/^[[:space:]]*(#|$)/d' requirements.lock
