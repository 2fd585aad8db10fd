# Two images: `gateway` (the last stage, so the default) and `sandbox`, the stand-in platform for a trial setup:
#   docker build -t video-gateway .
#   docker build -t video-gateway-sandbox --target sandbox .
# Node runs the TypeScript as it is: nothing is compiled here.
ARG NODE_IMAGE=docker.io/library/node:26-bookworm-slim

FROM ${NODE_IMAGE} AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
# None of the production dependencies has an install script that it needs.
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund

FROM dependencies AS sandbox-dependencies
# The sandbox reads and makes videos with node-av, which is a development dependency of the gateway.
RUN npm install --save-prod --omit=dev --ignore-scripts --no-audit --no-fund \
      "node-av@$(npm pkg get devDependencies.node-av | tr -d '"')"

FROM dependencies AS pruned-dependencies
# What no running process reads: source maps, types, manuals, and the tests and examples that packages bring along.
RUN find node_modules -type f \( -name '*.map' -o -name '*.d.[cm]ts' -o -name '*.d.ts' -o -name '*.md' \) \
      ! -iname 'licen[cs]e*' ! -iname 'notice*' -delete \
 && find node_modules -type d -regextype posix-extended \
      -regex '.*node_modules/(@[^/]+/)?[^@/][^/]*/(tests?|benchmarks?|examples?|docs|\.github)' \
      -prune -exec rm -r {} + \
 && rm node_modules/.package-lock.json

FROM ${NODE_IMAGE} AS sandbox
LABEL org.opencontainers.image.title="video-gateway-sandbox" \
      org.opencontainers.image.description="A stand-in video platform to try the video gateway with. Not for production." \
      org.opencontainers.image.licenses="MIT"
WORKDIR /app
COPY --from=sandbox-dependencies /app/node_modules node_modules
COPY package.json ./
COPY sandbox sandbox
ENV HOST=0.0.0.0 PORT=4000
# `node`, a user of the base image.
USER 1000:1000
EXPOSE 4000
CMD ["node", "sandbox/main.ts"]

FROM ${NODE_IMAGE} AS gateway
WORKDIR /app
# The database's folder. The code stays root's, so the process can read but not change it.
RUN install -d -o 1000 -g 1000 /data
COPY --from=pruned-dependencies /app/node_modules node_modules
COPY package.json ./
COPY openapi openapi
COPY src src
COPY scripts/move-store.ts scripts/
ENV NODE_ENV=production \
    HOST=0.0.0.0 \
    PORT=3000 \
    DATABASE_URL=sqlite:/data/gateway.db
# By number, so that Kubernetes' `runAsNonRoot` can verify it; `node`, a user of the base image.
USER 1000:1000
VOLUME /data
EXPOSE 3000
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/health/ready`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
# Node itself is process 1: SIGTERM reaches it, lets uploads in progress finish and exits with code 0.
STOPSIGNAL SIGTERM
CMD ["node", "src/server.ts"]
# Last, because they change with every build.
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="video-gateway" \
      org.opencontainers.image.description="One normalized REST API in front of external video platforms." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
