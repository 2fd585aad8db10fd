# shellcheck shell=bash disable=SC2154,SC2034,SC2016
# How deploy/try-image.sh builds and runs with Docker or Podman; sourced by it.
base=${NODE_IMAGE:-docker.io/library/node:26-bookworm-slim}
run_id=video-gateway-try-$$

prepare() { "$engine" image inspect "$base" > /dev/null 2>&1 || "$engine" pull "$base"; }

build() { # TARGET IMAGE [ARGUMENT...]
  local target=$1 name=$2
  shift 2
  local format=()
  # Podman keeps health checks in Docker's format only.
  [ "$engine" = docker ] || format=(--format docker)
  "$engine" build "${format[@]}" --build-arg NODE_IMAGE="$base" --target "$target" -t "$name" "$@" .
}

size_of() { "$engine" image inspect --format '{{.Size}}' "$1"; }

once() { "$engine" run --rm --network none "$@"; }

# The sandbox's container owns the network that both share, so that both reach it as 127.0.0.1.
start() { # NAME IMAGE [VARIABLE=VALUE...]
  local name=$1 tried=$2 options=()
  shift 2
  if [ "$name" = sandbox ]; then
    options=(-p "127.0.0.1:$port:$port" -p "127.0.0.1:$sandbox_port:$sandbox_port")
  else
    options=(--network "container:$run_id-sandbox" --read-only --cap-drop ALL --security-opt no-new-privileges)
  fi
  "$engine" run -d --name "$run_id-$name" "${options[@]}" "${@/#/--env=}" "$tried"
}

inside() { local name=$1; shift; "$engine" exec "$run_id-$name" "$@"; }

health_check() { # The command of the image, as the shell would write it
  "$engine" image inspect --format '{{range $i, $word := .Config.Healthcheck.Test}}{{if $i}}{{$word}}{{"\n"}}{{end}}{{end}}' "$image" |
    while IFS= read -r word; do [ -z "$word" ] || printf '%q ' "$word"; done
}

stop() { # NAME; prints the exit code
  "$engine" stop -t 45 "$run_id-$1" > /dev/null
  "$engine" logs "$run_id-$1" > "$work/$1.log" 2>&1
  "$engine" inspect --format '{{.State.ExitCode}}' "$run_id-$1"
}

clean_up() {
  "$engine" rm -f -v "$run_id-gateway" "$run_id-sandbox"
  $keep || { "$engine" image rm "$image" "$sandbox_image"; rm -rf "$work"; }
}
