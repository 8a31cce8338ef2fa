#!/bin/sh
# private-network.sh COMMAND…: runs a command where login.microsoftonline.com, login.windows.net and
# graph.microsoft.com are a practice tenant on 127.0.0.1:443, and where there is no other network.
#
# Microsoft's libraries insist on these names and on https, and so need not be touched. Nothing outside the command is:
# it has a network and mounts of its own. Needs root, or a kernel that lets users make namespaces.
# The command finds the tenant's own line of JSON in VALETKEY_PRACTICE. See practice-tenant/main.mjs.
set -eu

if [ "${VALETKEY_PRIVATE_NETWORK-}" != entered ]; then
    as_root=--map-root-user
    [ "$(id -u)" != 0 ] || as_root=
    export VALETKEY_PRIVATE_NETWORK=entered
    # shellcheck disable=SC2086  # empty for root
    exec unshare $as_root --mount --net -- "$0" "$@"
fi

tests=$(cd "$(dirname "$0")/.." && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

# `ip link set lo up`, without needing iproute2.
python3 - <<'PYTHON'
import fcntl, socket, struct
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
fcntl.ioctl(socket.socket(), SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))
PYTHON

echo '127.0.0.1 localhost login.microsoftonline.com login.windows.net graph.microsoft.com' >"$place/hosts"
mount --bind "$place/hosts" /etc/hosts
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY

# The tenant ends when its standard input does: with this script, however that ends.
mkfifo "$place/in" "$place/out"
exec 3<>"$place/in"
node "$tests/practice-tenant/main.mjs" --port 443 --tls "$place/tls" --origin https://login.microsoftonline.com \
    <"$place/in" >"$place/out" 3>&- &
read -r VALETKEY_PRACTICE <"$place/out"

export VALETKEY_PRACTICE
export SSL_CERT_FILE="$place/tls/ca.pem" REQUESTS_CA_BUNDLE="$place/tls/ca.pem" NODE_EXTRA_CA_CERTS="$place/tls/ca.pem"
"$@" 3>&-
