#!/bin/sh
# Makes the environment $1 with the first suitable Python, unless it is there and works.
set -eu
environment=$1
suitable='import sys; sys.exit(sys.version_info < (3, 11))'
if "$environment/bin/python" -c "$suitable" 2>/dev/null; then
    exit 0
fi
rm -rf "$environment"
for python in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
    if "$python" -c "$suitable" 2>/dev/null; then
        if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
            echo "$python has no venv module: install it (Debian, Ubuntu: apt install python3-venv)" >&2
            exit 1
        fi
        exec "$python" -m venv "$environment"
    fi
done
echo "Python 3.11 or newer is needed, and none of ${PYTHON:-python3}, python3.13, python3.12," >&2
echo "python3.11 is one: install it, or name it: make PYTHON=/path/to/python" >&2
exit 1
