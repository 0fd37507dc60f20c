#!/usr/bin/env bash
# Writes every requirements file with versions and hashes; needs uv (`pip install uv`). No addresses go into the files.
set -euo pipefail
cd "$(dirname "$0")/.."

compile() { uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate \
  --custom-compile-command scripts/lock.sh "$@"; }

echo hatchling | cat - <(echo editables) > /tmp/vllmstack-build.in
compile --universal --python-version 3.11 pyproject.toml /tmp/vllmstack-build.in -o requirements.txt
compile --universal --python-version 3.11 --group dev --extra loadtest pyproject.toml /tmp/vllmstack-build.in -c requirements.txt -o requirements-dev.txt
rm /tmp/vllmstack-build.in
# The same versions in the load test's image as here.
compile --universal --python-version 3.11 --extra loadtest pyproject.toml -c requirements-dev.txt -o docker/loadtest/requirements.txt

compile --universal --python-version 3.11 docker/exporters/requirements.in -c requirements-dev.txt -o docker/exporters/requirements.txt
compile --universal --python-version 3.11 docker/models/requirements.in -c requirements-dev.txt -o docker/models/requirements.txt

# PyTorch has a file of its own (requirements-torch.txt): which build is taken depends on the machine.
cd docker/engine-cpu
compile --python-version 3.11 --python-platform x86_64-manylinux_2_36 --override overrides.txt --no-emit-package torch \
  "$@" requirements.in -o requirements.txt
