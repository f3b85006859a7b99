#!/usr/bin/env bash
# Makes the base image out of Debian's packages, where no image registry can be reached.
#
#   .ci/base.sh [--engine HOST]... PINS
#
# The image is loaded into each engine (default: $DOCKER_HOST, else Docker's usual socket; and
# $MODELKILN_PODMAN, where it is set). PINS is the file to write: with MODELKILN_PINS naming it,
# modelkiln stands its images on this base. One state of the archive gives one image id, so doing
# it twice changes nothing. Root is not needed where users may make user namespaces.
#
# $MODELKILN_DEBIAN names a mirror of the archive, in place of the usual one.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
suite=bookworm
# Any fixed second does; files that are older keep their own time.
export SOURCE_DATE_EPOCH=1704067200

usage() {
    sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

engines=()
while [ $# -gt 0 ]; do
    case $1 in
        --engine)
            [ $# -gt 1 ] || usage
            engines+=("$2")
            shift 2
            ;;
        -*) usage ;;
        *) break ;;
    esac
done
[ $# -eq 1 ] || usage
pins=$1
if [ ${#engines[@]} -eq 0 ]; then
    engines=("${DOCKER_HOST:-unix:///var/run/docker.sock}")
    [ -z "${MODELKILN_PODMAN:-}" ] || engines+=("$MODELKILN_PODMAN")
fi

if ! command -v mmdebstrap >/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "base.sh: mmdebstrap is missing; install it (Debian, Ubuntu: apt-get install mmdebstrap)" >&2
        exit 4
    fi
    echo "base.sh: installing mmdebstrap" >&2
    apt-get -qq update >&2
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends mmdebstrap >&2
fi

# usr-is-merged spares the 50 MB of perl that a conversion would bring; torch wants the two libraries.
packages=usr-is-merged,python3,python3-venv,libstdc++6,libgomp1
options=(
    --quiet --variant=essential --include="$packages"
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr
    --dpkgopt=force-unsafe-io
)
# Licences stay. Python's own post-installation needs pydoc_data, so that goes only afterwards.
for folder in doc info man locale i18n; do
    options+=(--dpkgopt="path-exclude=/usr/share/$folder/*")
done
options+=(
    --dpkgopt='path-include=/usr/share/doc/*/copyright'
    --dpkgopt='path-exclude=/usr/lib/x86_64-linux-gnu/gconv/*'
)
# shellcheck disable=SC2016  # The hook's own $1 is the new root.
options+=(
    --customize-hook='ln -s python3 "$1/usr/bin/python"'
    --customize-hook='rm -rf "$1"/usr/lib/python3*/test "$1"/usr/lib/python3*/pydoc_data'
    --customize-hook='rm -rf "$1"/var/log/* "$1"/var/cache/debconf/*-old "$1"/var/lib/dpkg/*-old'
    --customize-hook='find "$1/usr" -depth -name __pycache__ -exec rm -rf {} +'
)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
began=$SECONDS
source=("$suite" "$work/root.tar" ${MODELKILN_DEBIAN:+"$MODELKILN_DEBIAN"})
mmdebstrap "${options[@]}" "${source[@]}" >"$work/log" 2>&1 || {
    status=$?
    tail -n 30 "$work/log" >&2
    echo "base.sh: mmdebstrap failed" >&2
    exit "$status"
}
python3 "$here/base_image.py" --tag "$suite" --epoch "$SOURCE_DATE_EPOCH" \
    "$work/root.tar" "$pins" "${engines[@]}" >&2
echo "base.sh: done in $((SECONDS - began)) s; now  export MODELKILN_PINS=$(realpath "$pins")" >&2
