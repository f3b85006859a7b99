#!/usr/bin/env bash
# Starts and stops a container engine where no init system does so, as in CI.
#
#   .ci/engine.sh start  [docker|podman] [--dir DIR] [--alone]
#   .ci/engine.sh stop   [docker|podman] [--dir DIR]
#   .ci/engine.sh status [docker|podman] [--dir DIR]
#
#   eval "$(.ci/engine.sh start)"           sets DOCKER_HOST
#   eval "$(.ci/engine.sh start podman)"    sets MODELKILN_PODMAN
#
# start   Uses the Docker engine that answers already ($DOCKER_HOST, then the usual socket), else
#         starts one, after installing Debian's packages where it is missing and this is root. A
#         Podman service is always one of its own. Starting twice is starting once.
# stop    Ends what `start` started, with its containers, and removes DIR. Nothing else is touched.
# status  Says what runs; 3 where nothing does.
#
# DIR holds the socket and all data (default: modelkiln-docker or -podman in /var/lib; where this is
# not root, in ~/.local/share). --alone starts an engine beside the one that answers, in a network
# namespace of its own: it reaches nothing, and the other engine's bridge stays as it is.
set -euo pipefail

wait_s=60

say() { echo "engine.sh: $*" >&2; }
die() {
    say "$*"
    exit 4
}
usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}

answers() { # SOCKET
    [ -S "$1" ] && python3 - "$1" 2>/dev/null <<'PYTHON'
import socket, sys
with socket.socket(socket.AF_UNIX) as one:
    one.settimeout(10)
    one.connect(sys.argv[1])
    one.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
    sys.exit(b" 200 " not in one.recv(4096))
PYTHON
}

# The process that `start` left, if it is still that one and not another with its number.
running() {
    local pid
    pid=$(cat "$dir/pid" 2>/dev/null) && [ -n "$pid" ] || return 1
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxF -e "unix://$socket" || return 1
    echo "$pid"
}

require() { # PROGRAM PACKAGE...
    local program=$1
    shift
    command -v "$program" >/dev/null && return
    [ "$(id -u)" = 0 ] || die "$program is missing, and only root can install it: $*"
    command -v apt-get >/dev/null || die "$program is missing; install it: $*"
    say "installing $*"
    apt-get -qq update >&2
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >&2
    hash -r
    command -v "$program" >/dev/null || die "$program is still missing"
}

launch() { # COMMAND...
    # In its own folder: Podman's helper writes a file where it stands when memory runs out.
    setsid nohup env --chdir="$dir" "$@" >"$dir/log" 2>&1 </dev/null 9>&- &
    local child=$! until=$((SECONDS + wait_s))
    echo "$child" >"$dir/pid"
    while ! answers "$socket"; do
        if ! kill -0 "$child" 2>/dev/null || [ $SECONDS -ge $until ]; then
            tail -n 20 "$dir/log" >&2
            finish
            die "$kind does not start; its last lines are above"
        fi
        sleep 0.1
    done
}

start_docker() {
    require dockerd docker.io iptables
    [ "$(id -u)" = 0 ] || die "dockerd needs root; without it, use podman"
    # The package may have started a service.
    if [ "$alone" = no ] && answers /var/run/docker.sock; then
        rmdir "$dir" 2>/dev/null || true
        socket=/var/run/docker.sock
        return
    fi
    local before=() more=()
    if [ "$alone" = yes ]; then
        before=(unshare --net)
        more=(--iptables=false --ip6tables=false --ip-forward=false)
    fi
    launch "${before[@]}" dockerd --host "unix://$socket" --data-root "$dir/data" \
        --exec-root "$dir/run" --pidfile "$dir/dockerd.pid" --log-level warn "${more[@]}"
}

start_podman() {
    require podman podman catatonit runc
    [ "$(id -u)" = 0 ] || require newuidmap uidmap
    mkdir -p "$dir/run" "$dir/tmp"
    write_podman_settings >"$dir/containers.conf"
    # An interrupted build leaves a folder among its temporary files.
    export CONTAINERS_CONF=$dir/containers.conf TMPDIR=$dir/tmp
    launch podman "${own_room[@]}" system service --time=0 "unix://$socket"
}

own_podman() { # COMMAND...
    CONTAINERS_CONF=$dir/containers.conf podman "${own_room[@]}" "$@"
}

write_podman_settings() {
    echo '[containers]'
    # Podman raises these limits by itself, which is an error where this process may not.
    echo "default_ulimits = [\"nofile=$(limit_of n 1048576)\", \"nproc=$(limit_of u 32768)\"]"
    echo '[engine]'
    [ -d /run/systemd/system ] || printf '%s\n' 'cgroup_manager = "cgroupfs"' 'events_logger = "file"'
    # crun refuses a machine that mixes both versions of control groups.
    if [ "$(stat -fc %T /sys/fs/cgroup)" != cgroup2fs ] && command -v runc >/dev/null; then
        echo 'runtime = "runc"'
    fi
}

limit_of() { # LETTER MOST
    local found
    found=$(ulimit "-H$1")
    [ "$found" != unlimited ] && [ "$found" -lt "$2" ] || found=$2
    echo "$found:$found"
}

# Ends the engine and what it left, and removes the folder.
finish() {
    local pid one place
    if pid=$(running); then
        kill -TERM "$pid" 2>/dev/null || true
        for _ in $(seq 200); do
            running >/dev/null || break
            sleep 0.1
        done
        ! running >/dev/null || kill -KILL "$pid" 2>/dev/null || true
    fi
    # A killed engine leaves helpers, which name the folder, and containers, whose root lies in it.
    for one in /proc/[0-9]*; do
        case $(cat "$one/comm" 2>/dev/null) in
            containerd* | conmon | runc | crun | podman)
                tr '\0' '\n' 2>/dev/null <"$one/cmdline" | grep -qF "$dir/" || continue
                ;;
            *) grep -qE "^[^ ]+ [^ ]+ [^ ]+ / / .*dir=$dir/data/" "$one/mountinfo" 2>/dev/null || continue ;;
        esac
        kill -KILL "${one#/proc/}" 2>/dev/null || true
    done
    while read -r place; do
        umount -l "$place" 2>/dev/null || true
    done < <(awk -v dir="$dir/" 'index($2, dir) == 1 { print $2 }' /proc/mounts | sort -r)
    # Files of a rootless container belong to users that only Podman's namespace knows. The process
    # that keeps this namespace says nothing of the folder on its command line.
    if [ "$kind" = podman ] && [ "$(id -u)" != 0 ] && [ -e "$dir/containers.conf" ]; then
        own_podman unshare rm -rf "$dir/data" 2>/dev/null || true
        kill -KILL "$(cat "$dir/tmp/pause.pid")" 2>/dev/null || true
    fi
    rm -rf --one-file-system "$dir"
}

start() {
    local host
    if [ "$kind" = docker ] && [ "$alone" = no ]; then
        for host in "${DOCKER_HOST:-}" unix:///var/run/docker.sock; do
            if [ "${host#unix://}" != "$host" ] && answers "${host#unix://}"; then
                say "using the engine at $host"
                echo "export DOCKER_HOST=$host"
                return
            fi
        done
    fi
    # A longer path does not fit into a socket's address.
    [ ${#socket} -lt 100 ] || die "the path is too long for a socket: $socket"
    (umask 077 && mkdir -p "$dir")
    [ -O "$dir" ] || die "$dir is someone else's"
    if running >/dev/null && answers "$socket"; then
        say "$kind runs already, as process $(running)"
    else
        # What an engine that was killed left would be in the way.
        if [ -e "$dir/pid" ]; then
            finish
            (umask 077 && mkdir "$dir")
        fi
        local began=$SECONDS
        "start_$kind"
        say "$kind answers at $socket after $((SECONDS - began)) s"
    fi
    echo "export $variable=unix://$socket"
}

stop() {
    if [ ! -e "$dir/pid" ]; then
        say "there is no $kind engine in $dir"
        return
    fi
    if running >/dev/null; then
        [ "$kind" != docker ] || end_containers
        [ "$kind" != podman ] || own_podman rm --all --force --time 0 >/dev/null 2>&1 || true
    fi
    finish
    say "$kind is stopped"
}

end_containers() {
    local names
    mapfile -t names < <(DOCKER_HOST=unix://$socket docker ps -q 2>/dev/null)
    [ ${#names[@]} -eq 0 ] || DOCKER_HOST=unix://$socket docker kill "${names[@]}" >/dev/null 2>&1 || true
}

status() {
    if running >/dev/null && answers "$socket"; then
        say "$kind runs, as process $(running), at $socket"
    else
        say "no $kind engine runs in $dir"
        exit 3
    fi
}

action=${1:-}
case $action in start | stop | status) shift ;; *) usage ;; esac
kind=docker alone=no dir=
while [ $# -gt 0 ]; do
    case $1 in
        docker | podman) kind=$1 ;;
        --alone) alone=yes ;;
        --dir)
            [ $# -gt 1 ] || usage
            dir=$2
            shift
            ;;
        *) usage ;;
    esac
    shift
done
home=/var/lib
[ "$(id -u)" = 0 ] || home=${XDG_DATA_HOME:-$HOME/.local/share}
dir=$(realpath -m "${dir:-$home/modelkiln-$kind}")
socket=$dir/engine.sock
own_room=(--root "$dir/data" --runroot "$dir/run" --tmpdir "$dir/tmp")
variable=DOCKER_HOST
[ "$kind" = docker ] || variable=MODELKILN_PODMAN
# Two starts at once become one after the other.
mkdir -p "$(dirname "$dir")"
exec 9>"$dir.lock"
flock -w 300 9 || die "another one is at work on $dir"
"$action"
