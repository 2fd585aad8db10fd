#!/usr/bin/env bash
# shellcheck disable=SC2034,SC2154 # variables that it shares with the file of the engine
# Builds the two images, publishes sandbox/sample.mp4 through the gateway's container on the sandbox's, stops it by
# SIGTERM and says in one line whether all of it went well (exit code 0) or what did not (1).
#
#   deploy/try-image.sh            with Docker, if its engine answers, else with buildah; ENGINE=podman is Podman
#   deploy/try-image.sh --install  first installs what running without a container engine needs (Debian, as root)
#   deploy/try-image.sh --keep     leaves the images (buildah: under $WORK) when it is done
#
# Without an engine: root, buildah, mmdebstrap, curl, npm and an installed node_modules. The base image is then made
# here, from Debian's packages and the Node that npm brought (deploy/make-base.sh), and containers are isolated by
# chroot only: they share the host's network, and their limits and read-only root are not tried.
set -euo pipefail
cd "$(dirname "$0")/.."

install=false keep=false
for argument in "$@"; do
  case $argument in
    --install) install=true ;;
    --keep) keep=true ;;
    *) sed -n '3,12s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
done

image=${IMAGE:-localhost/video-gateway:try}
sandbox_image=${image%:*}-sandbox:${image##*:}
port=${GATEWAY_PORT:-33080} sandbox_port=${SANDBOX_PORT:-33081}
work=${WORK:-$(mktemp -d)}
url=http://127.0.0.1:$port
key=vgk_$(head -c 24 /dev/urandom | base64 | tr -d '+/=')

say() { printf '\n== %s\n' "$*"; }
fail() { failure=$*; exit 1; }
step='the start' failure=''
# However it ends, the last line is the verdict.
trap 'leave $?' EXIT

# --- the engine ------------------------------------------------------------------------------------------------
engine=${ENGINE:-}
if [ -z "$engine" ]; then
  # The client alone also answers `info`; only an engine has a version of its own.
  if docker version --format '{{.Server.Version}}' > /dev/null 2>&1; then engine=docker; else engine=buildah; fi
fi
# shellcheck source=/dev/null
if [ "$engine" = buildah ]; then . deploy/engine-buildah.sh; else . deploy/engine-docker.sh; fi
leave() { # EXIT CODE
  if [ "$1" != 0 ]; then tail -n 5 "$work"/{sandbox,gateway}.log 2> /dev/null || true; fi
  clean_up > /dev/null 2>&1 || true
  if [ "$1" = 0 ]; then printf '\nOK: %s\n' "$success"; else printf '\nFAILED: %s\n' "${failure:-$step}"; fi
}

say "engine: $engine"
prepare

# --- build -----------------------------------------------------------------------------------------------------
step='the build of the image'
say "build $image"
build gateway "$image" --build-arg VERSION="$(sed -n 's/^  "version": "\(.*\)",/\1/p' package.json)" \
  --build-arg REVISION="$(git rev-parse HEAD 2> /dev/null || echo unknown)"
say "build $sandbox_image"
build sandbox "$sandbox_image"
base_bytes=$(size_of "$base") image_bytes=$(size_of "$image")
above=$(((image_bytes - base_bytes + 50000) / 100000))
above="$((above / 10)).$((above % 10))"

# --- look inside -----------------------------------------------------------------------------------------------
step='the look inside the image'
say 'inside'
# shellcheck disable=SC2016 # that shell's variables
once "$image" sh -ec '
  [ "$(id -u)" = 1000 ] || { echo "runs as $(id -u), not 1000"; exit 1; }
  [ ! -e sandbox ] || { echo "the sandbox is in the image"; exit 1; }
  [ ! -e node_modules/node-av ] && [ ! -e node_modules/typescript ] || { echo "dev dependencies inside"; exit 1; }
  [ ! -w . ] && [ ! -w src ] || { echo "the code is writable"; exit 1; }
  [ -w /data ] || { echo "/data is not writable"; exit 1; }
  echo "user $(id -u), node $(node --version), $(ls node_modules | wc -l) entries in node_modules"
  du -sk node_modules src openapi'

step='the refusal to start without configuration'
if once "$image" node src/server.ts 2> "$work/refusal"; then fail 'it starts without a platform'; fi
cat "$work/refusal"
grep -q '^video-gateway cannot start: PLATFORM' "$work/refusal"

# --- run -------------------------------------------------------------------------------------------------------
step='the start of the containers'
say 'run'
start sandbox "$sandbox_image" PORT="$sandbox_port" PUBLIC_URL="http://127.0.0.1:$sandbox_port"
start gateway "$image" PORT="$port" PUBLIC_URL="$url" POLL_INITIAL_DELAY=500ms \
  PLATFORM=sandbox SANDBOX_BASE_URL="http://127.0.0.1:$sandbox_port" \
  API_KEYS="try:$(printf %s "$key" | sha256sum | cut -d' ' -f1)"
for _ in $(seq 120); do
  curl -fs "$url/health/ready" > /dev/null && curl -s "http://127.0.0.1:$sandbox_port/" > /dev/null && break
  sleep 0.5
done
curl -fsS "$url/health/ready"
echo

# The image's own health check, whatever the engine makes of it.
step='the health check'
inside gateway sh -c "PORT=$port $(health_check)"

step='the publication'
say 'publish sandbox/sample.mp4'
call() { curl -fsS --max-time 60 -H "Authorization: Bearer $key" "$@"; }
field() { grep -o "\"$1\": *\"[^\"]*\"" | head -1 | cut -d'"' -f4; }
id=$(call "$url/v1/videos" -F title='Try the image' -F 'file=@sandbox/sample.mp4;type=video/mp4' | field id)
for _ in $(seq 120); do
  status=$(call "$url/v1/videos/$id/status" | field status)
  [ "$status" = pending ] || break
  sleep 0.5
done
[ "$status" = ready ] || fail "the publication: status is $status"
call "$url/v1/videos/$id/info"; echo
call "$url/v1/videos/$id/thumbnail"; echo
call -o /dev/null "$(call "$url/v1/videos/$id/thumbnail" | field url)"
inside gateway test -s /data/gateway.db

step='the documentation page'
curl -fsS -o /dev/null "$url/docs/"
curl -fsS -o /dev/null "$url/docs/static/swagger-ui-bundle.js"

# --- stop ------------------------------------------------------------------------------------------------------
step='the stop by SIGTERM'
say 'SIGTERM'
began=$SECONDS
code=$(stop gateway)
tail -n 3 "$work/gateway.log"
echo "exit code $code after $((SECONDS - began)) s"
[ "$code" = 0 ] || fail "SIGTERM: exit code $code"

[ "${above%.*}" -lt 60 ] || fail "the image is $above MB above its base, more than 60"
success="built and ran with $engine, published $id, SIGTERM exits 0, image $above MB above its base"
