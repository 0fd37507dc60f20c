#!/usr/bin/env bash
# Makes .venv with exactly the versions of a requirements file and with vllmstack itself. Usage: bootstrap.sh [FILE]
set -euo pipefail
cd "$(dirname "$0")/.."
requirements=${1:-requirements.txt}

refuse() {
  echo "vllmstack: $1" >&2
  echo "  hint: $2" >&2
  exit 1
}

# Here `pip install --editable .` would have the other checkout's commands run this one's code.
own="rm -r .venv, and run this again: this checkout gets one of its own"
[ ! -L .venv ] || refuse ".venv is a link to $(readlink .venv): nothing is installed through it" "${own/-r /}"
# Where the vllmstack that is installed there comes from (PEP 610); nothing where there is none.
source=$(.venv/bin/python -I -c '
import importlib.metadata, json, urllib.parse, urllib.request
record = importlib.metadata.distribution("vllmstack").read_text("direct_url.json")
print(urllib.request.url2pathname(urllib.parse.urlsplit(json.loads(record)["url"]).path))
' 2> /dev/null) || source=
[ ! -d "$source" ] || [ "$source" -ef . ] || refuse ".venv belongs to the checkout in $source" "$own"

python=python3
for candidate in python3.13 python3.12 python3.11 python3; do
  if command -v "$candidate" > /dev/null \
    && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
    python=$candidate
    break
  fi
done

if ! "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    echo "• installing python3 and python3-venv from the distribution's packages" >&2
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 python3-venv > /dev/null
    python=python3
  else
    refuse "Python 3.11 or newer with venv is needed" \
      "sudo apt-get install python3 python3-venv, or your system's equivalent"
  fi
fi

# A virtual environment that was made elsewhere, or by a Python that is gone, does not run.
.venv/bin/python -c '' 2> /dev/null || { rm -rf .venv && "$python" -m venv .venv; }
echo "• installing $requirements into .venv" >&2
# Twice quiet: pip warns of every index in its configuration that lacks a package; errors are shown all the same.
install=(.venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check)
# What `vllmstack bundle --with-project` packed: this host may have no index.
[ ! -d wheels ] || install+=(--no-index --find-links wheels)
"${install[@]}" --require-hashes --requirement "$requirements"
"${install[@]}" --no-deps --no-build-isolation --editable .
cp "$requirements" ".venv/$(basename "$requirements").installed"
