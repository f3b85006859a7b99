#!/bin/sh
# Makes .venv, the light host environment, from the hash lock beside this file, and says what it does.
# Where .venv already is what the lock names, it does and says nothing.
#
# PYTHON=/path/to/python3.11 names the interpreter; otherwise the first of python3.11 and python3
# that is CPython 3.11. Exit status 4: this machine cannot have the environment.
set -eu
cd "$(dirname "$0")/.."
root=$(pwd -P)
lock=requirements/host.txt
stamp=.venv/modelkiln.stamp
started=$(date +%s)

say() {
    echo "modelkiln: $*"
}

# The three parts of every error: what happened, why, what to do next.
stop() {
    printf '%s\n  why:  %s\n  next: %s\n' "$1" "$2" "$3" >&2
    exit 4
}

is_ready() {
    [ -x .venv/bin/python ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]
}

# The folder is part of it: the programs in .venv/bin hold its absolute path.
wanted="ready $(sha256sum <"$lock" | cut -d' ' -f1) $root"
if is_ready; then
    exit 0
fi

[ "$(uname -s)" = Linux ] && [ "$(uname -m)" = x86_64 ] || stop \
    "modelkiln does not run on $(uname -s) $(uname -m)." \
    "Its environments are locked to packages for Linux on x86-64." \
    "Run it on a Linux x86-64 machine, or in a virtual machine or container of that kind."
getconf GNU_LIBC_VERSION >/dev/null 2>&1 || stop \
    "modelkiln does not run on this Linux." \
    "Its environments are locked to packages for the GNU C library, and this system has another." \
    "Run it on Debian, Ubuntu, Fedora or the like, or in a container of that kind."

python=
seen=
for name in ${PYTHON:-python3.11 python3}; do
    # In an activated .venv that is the Python behind it: .venv itself may be about to be replaced.
    found=$("$name" -c 'import sys
print(sys.implementation.name, "%d.%d.%d" % sys.version_info[:3], sys._base_executable)' 2>/dev/null) ||
        continue
    case $found in
    "cpython 3.11."*)
        python=${found#cpython * }
        version=${found#cpython }
        version=${version%% *}
        break
        ;;
    esac
    seen="$seen, $name is ${found%" "*}"
done
[ -n "$python" ] || stop \
    "Python 3.11 was not found." \
    "The locks hold the packages for CPython 3.11${seen:-, and no ${PYTHON:-python3.11 or python3} runs here}." \
    "Install it (Debian 12: apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python3.11 ..."
"$python" -c 'import ensurepip, venv' 2>/dev/null || stop \
    "$python cannot make virtual environments." \
    "Its modules venv and ensurepip are missing; Debian keeps them in a package of their own." \
    "apt-get install python3-venv"

# One bootstrap at a time; a second one waits, then finds the work done.
exec 9<"$lock"
if ! flock -n 9; then
    say "another make is setting up .venv; waiting for it"
    flock 9
fi
if is_ready; then
    exit 0
fi

if [ -L .venv ] || { [ -e .venv ] && [ ! -f "$stamp" ]; }; then
    stop \
        "$root/.venv exists and is not modelkiln's." \
        "Something else made it, and modelkiln replaces only what it made itself." \
        "Move it away or remove it, then run make again."
fi

# From here on .venv is ours, and it is ready only when the stamp says so, which is written last.
discard() {
    trap - INT TERM HUP EXIT
    say "stopped; the unfinished .venv was removed" >&2
    rm -rf .venv ${wheels:+"$wheels.$$"}
    exit "$1"
}
trap 'discard 130' INT
trap 'discard 143' TERM HUP
trap 'status=$?; [ "$status" = 0 ] || discard "$status"' EXIT

say "making .venv with Python $version ($python)"
rm -rf .venv
mkdir .venv
echo unfinished >"$stamp"
# These would lead pip out of .venv.
unset PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_REQUIREMENT
"$python" -m venv .venv

# The wheels lie in the cache that clones share, in a folder that has its name only when it is whole.
cache=${MODELKILN_CACHE:-${XDG_CACHE_HOME:-${HOME:-$root}/.cache}/modelkiln}
wheels=$cache/wheels/$(sha256sum <"$lock" | cut -c1-16)
pip() {
    if ! .venv/bin/python -m pip "$@" --no-input --disable-pip-version-check --progress-bar off \
        -qq --no-deps --require-hashes --only-binary :all: --requirement "$lock"; then
        printf '%s\n  why:  %s\n  next: %s\n' \
            "The host environment could not be installed." \
            "pip failed; its own words are above. Most often it is the network." \
            "Check the network (HTTPS_PROXY, PIP_CERT), then run make again." >&2
        exit 4
    fi
}
if [ ! -d "$wheels" ]; then
    say "downloading $(grep -c '==' "$lock") packages of $lock to $cache, for all clones"
    rm -rf "$wheels.$$"
    mkdir -p "$wheels.$$"
    pip download --dest "$wheels.$$"
    mv -T "$wheels.$$" "$wheels" 2>/dev/null || rm -rf "$wheels.$$"
fi
say "installing $(grep -c '==' "$lock") packages, each checked against its hash"
pip install --no-index --find-links "$wheels"
echo "$wanted" >"$stamp.new"
mv "$stamp.new" "$stamp"
say ".venv is ready ($(($(date +%s) - started)) s)"
