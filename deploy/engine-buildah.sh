# shellcheck shell=bash disable=SC2154,SC2034,SC2016
# How deploy/try-image.sh builds and runs without an engine, with buildah alone; sourced by it. Everything lies in
# $work: storage, logs, the id of each process.
base=${NODE_IMAGE:-docker.io/library/node:26-bookworm-slim}
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
storage=(--root "$work/storage" --runroot "$work/run")

prepare() {
  step='the prerequisites of running without a container engine'
  local missing=() command
  if $install; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends buildah mmdebstrap curl
  fi
  for command in buildah mmdebstrap curl npm; do
    command -v "$command" > /dev/null || missing+=("$command")
  done
  [ -x node_modules/node/bin/node ] || missing+=('node_modules (npm ci)')
  [ ${#missing[@]} = 0 ] || fail "missing: ${missing[*]}; on Debian, as root: deploy/try-image.sh --install"
  [ "$(id -u)" = 0 ] || fail 'running without a container engine requires root'
  step='the base image'
  deploy/make-base.sh "$base" "${storage[@]}"
}

build() { # TARGET IMAGE [ARGUMENT...]
  local target=$1 name=$2
  shift 2
  # Docker's format, because OCI's has no health checks.
  buildah "${storage[@]}" bud --pull-never --format docker --build-arg NODE_IMAGE="$base" \
    --target "$target" -t "$name" "$@" .
}

size_of() { # What the files of the image hold, in bytes
  local container
  container=$(buildah "${storage[@]}" from --pull-never "$1")
  du -s --apparent-size --block-size=1 "$(buildah "${storage[@]}" mount "$container")" | cut -f1
  buildah "${storage[@]}" rm "$container" > /dev/null
}

once() { # IMAGE COMMAND...
  local container code=0
  container=$(buildah "${storage[@]}" from --pull-never "$1")
  shift
  buildah "${storage[@]}" run "$container" -- "$@" || code=$?
  buildah "${storage[@]}" rm "$container" > /dev/null
  return $code
}

start() { # NAME IMAGE [VARIABLE=VALUE...]
  local name=$1 tried=$2 command
  shift 2
  buildah "${storage[@]}" from --pull-never --name "$name" "$tried" > /dev/null
  buildah "${storage[@]}" config "${@/#/--env=}" "$name"
  command=$(buildah "${storage[@]}" inspect --format '{{.Docker.Config.Cmd}}' "$name" | tr -d '[]')
  # shellcheck disable=SC2086 # the command's words
  {
    code=0
    buildah "${storage[@]}" run "$name" -- $command > "$work/$name.log" 2>&1 || code=$?
    echo $code > "$work/$name.code"
  } &
  echo $! > "$work/$name.pid"
}

inside() { # NAME COMMAND...
  local name=$1
  shift
  buildah "${storage[@]}" run "$name" -- "$@"
}

health_check() { # The command of the image, as the shell would write it
  buildah "${storage[@]}" inspect --type image \
    --format '{{range $i, $word := .Docker.Config.Healthcheck.Test}}{{if $i}}{{$word}}{{"\n"}}{{end}}{{end}}' "$image" |
    while IFS= read -r word; do [ -z "$word" ] || printf '%q ' "$word"; done
}

# What runs in the container is the youngest descendant of `buildah run`; an engine would signal it as process 1.
process_of() {
  local id child
  id=$(cat "$work/$1.pid")
  while child=$(pgrep -P "$id" | tail -1) && [ -n "$child" ]; do id=$child; done
  echo "$id"
}

stop() { # NAME; prints the exit code
  kill -TERM "$(process_of "$1")"
  for _ in $(seq 90); do [ -s "$work/$1.code" ] && break; sleep 0.5; done
  cat "$work/$1.code" 2> /dev/null || echo none
}

clean_up() {
  local name
  for name in gateway sandbox; do
    [ -e "$work/$name.pid" ] && [ ! -e "$work/$name.code" ] && kill -KILL "$(process_of "$name")"
  done
  $keep || { buildah "${storage[@]}" rm --all; buildah "${storage[@]}" rmi --all --force; rm -rf "$work"; }
}
