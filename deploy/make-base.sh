#!/usr/bin/env bash
# Makes a stand-in for Docker's official Node image where images cannot be pulled: a minimal Debian from its
# packages, the Node of node_modules, npm from its registry, the user `node`.
#   deploy/make-base.sh IMAGE [OPTION OF BUILDAH...]
set -euo pipefail
cd "$(dirname "$0")/.."
image=$1
shift
buildah "$@" inspect --type image "$image" > /dev/null 2>&1 && exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mmdebstrap --quiet --mode=root --variant=minbase --include=libstdc++6,libatomic1,ca-certificates bookworm "$root"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}/*
install -m 755 node_modules/node/bin/node "$root/usr/local/bin/node"

(cd "$work" && npm pack --silent npm@11 > /dev/null && tar xzf npm-*.tgz)
mkdir -p "$root/usr/local/lib/node_modules"
mv "$work/package" "$root/usr/local/lib/node_modules/npm"
chown -R 0:0 "$root/usr/local/lib/node_modules"
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
chroot "$root" groupadd --gid 1000 node
chroot "$root" useradd --uid 1000 --gid node --create-home node

# Certificates that this host trusts beyond Debian's, such as a company's proxy, are needed by `npm ci` inside.
certificates=(--env NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt)
if compgen -G '/usr/local/share/ca-certificates/*.crt' > /dev/null; then
  cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/"
  chroot "$root" update-ca-certificates > /dev/null 2>&1
else
  certificates=()
fi

container=$(buildah "$@" from scratch)
buildah "$@" copy --quiet "$container" "$root" / > /dev/null
buildah "$@" config --cmd node "${certificates[@]}" "$container"
buildah "$@" commit --quiet --rm "$container" "$image" > /dev/null
