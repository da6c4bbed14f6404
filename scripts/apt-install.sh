#!/usr/bin/env bash
# Installs packages of Debian without starting their services: scripts/apt-install.sh PACKAGE... Called by install-tools.sh and
# install-peers.sh.
set -euo pipefail

if ! command -v apt-get >/dev/null; then
    echo "cannot install $*: no apt-get here; install them by hand" >&2
    exit 1
fi
sudo=()
if [[ $(id -u) != 0 ]]; then sudo=(sudo -n); fi
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq
# Who calls starts servers of its own: no package's service shall run because of it.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
    "${sudo[@]}" chmod 755 "$policy"
    trap '"${sudo[@]}" rm -f "$policy"' EXIT
fi
"${sudo[@]}" apt-get install -y -qq --no-install-recommends "$@" >/dev/null
