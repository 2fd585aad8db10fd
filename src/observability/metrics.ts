import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import { type DeliveryObserver, deliveryOutcomes, disabledReasons } from '../events/attempt.ts'
import type { PlatformObserver } from '../platform/tools.ts'
import type { PublicationObserver } from '../publication/gateway.ts'
import { hintOutcomes } from '../publication/hint.ts'
import { type GaugeSources, registerGauges } from './gauges.ts'
import { operationsOf, type StoreCall } from './observed-store.ts'

/** The gateway's metrics, in Prometheus' naming: base units, `_total` for counters. */
export interface Metrics extends PlatformObserver, PublicationObserver, DeliveryObserver {
  /** @param valid undefined while it is not known */
  credentials(platform: string, valid: boolean | undefined): void
  storeCall(call: StoreCall): void
  request(request: { method: string; route: string; status: number; seconds: number }): void
  /** The exposition and its content type. */
  expose(): Promise<{ contentType: string; text: string }>
  /** The gateway's own metrics, for the reference page. */
  describe(): { name: string; help: string; type: string; labels: readonly string[] }[]
}

/** A metric as prom-client stores it. */
interface MetricDefinition {
  name: string
  help: string
  type: string
  labelNames: readonly string[]
}

export interface MetricsSources extends GaugeSources {
  /** Names of the configured platforms: their series exist from the start, at 0. */
  platforms: readonly string[]
}

export function createMetrics(state: MetricsSources): Metrics {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })

  const requests = new Histogram({
    name: 'gateway_http_request_duration_seconds',
    help: 'Duration of requests, by route and status',
    labelNames: ['method', 'route', 'status'] as const,
    buckets: [0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 600],
    registers,
  })
  const uploads = new Histogram({
    name: 'gateway_upload_duration_seconds',
    help: 'Duration of uploads, by outcome',
    labelNames: ['platform', 'outcome'] as const,
    buckets: [1, 5, 15, 60, 300, 1800, 7200],
    registers,
  })
  const uploadBytes = new Counter({
    name: 'gateway_upload_bytes_total',
    help: 'Bytes of content received',
    labelNames: ['platform'] as const,
    registers,
  })
  const platformCalls = new Histogram({
    name: 'gateway_platform_call_duration_seconds',
    help: 'Duration of platform calls, by operation and outcome',
    labelNames: ['platform', 'operation', 'outcome'] as const,
    buckets: [0.01, 0.05, 0.25, 1, 5, 15, 60],
    registers,
  })
  const storeCalls = new Histogram({
    name: 'gateway_store_duration_seconds',
    help: 'Duration of database calls, including the wait for a lock or a connection, by operation and outcome',
    labelNames: ['operation', 'outcome'] as const,
    buckets: [0.001, 0.005, 0.025, 0.1, 0.5, 2.5],
    registers,
  })
  const processing = new Histogram({
    name: 'gateway_processing_duration_seconds',
    help: 'Time from the end of the upload to the final status',
    labelNames: ['platform', 'outcome'] as const,
    buckets: [5, 15, 60, 300, 900, 3600, 14400, 43200],
    registers,
  })
  const pollLag = new Histogram({
    name: 'gateway_poll_lag_seconds',
    help: 'Delay between the due time and the start of a check',
    buckets: [0.01, 0.05, 0.25, 1, 5, 30, 300],
    registers,
  })
  const refreshes = new Counter({
    name: 'gateway_metadata_refreshes_total',
    help: 'Repeated fetches of info and thumbnail of ready videos, by outcome',
    labelNames: ['platform', 'outcome'] as const,
    registers,
  })
  const transitions = new Counter({
    name: 'gateway_stage_changes_total',
    help: 'Stage changes',
    labelNames: ['platform', 'from', 'to'] as const,
    registers,
  })
  const tokens = new Counter({
    name: 'gateway_platform_token_requests_total',
    help: 'Token requests to platforms',
    labelNames: ['platform', 'outcome'] as const,
    registers,
  })
  const circuit = new Gauge({
    name: 'gateway_platform_circuit_open',
    help: 'State of a platform’s circuit: 0 closed, 0.5 half-open, 1 open',
    labelNames: ['platform'] as const,
    registers,
  })
  const credentials = new Gauge({
    name: 'gateway_platform_credentials_valid',
    help: 'Whether the platform accepts the configured credentials: 1 or 0; no value while unknown',
    labelNames: ['platform'] as const,
    registers,
  })
  const hints = new Counter({
    name: 'gateway_platform_hints_total',
    help: 'Webhooks of platforms, by outcome',
    labelNames: ['platform', 'outcome'] as const,
    registers,
  })
  const deliveries = new Histogram({
    name: 'gateway_webhook_delivery_duration_seconds',
    help: 'Duration of attempts to deliver an event to a webhook endpoint, by outcome',
    labelNames: ['outcome'] as const,
    buckets: [0.05, 0.25, 1, 5, 15],
    registers,
  })
  const abandoned = new Counter({
    name: 'gateway_webhook_deliveries_abandoned_total',
    help: 'Events that an endpoint did not get in the last attempt either',
    registers,
  })
  const disabled = new Counter({
    name: 'gateway_webhook_endpoints_disabled_total',
    help: 'Webhook endpoints that the gateway disabled, by reason',
    labelNames: ['reason'] as const,
    registers,
  })
  const leftovers = new Counter({
    name: 'gateway_leftovers_removed_total',
    help: 'Slots of interrupted creations that the gateway deleted from a platform',
    labelNames: ['platform'] as const,
    registers,
  })
  const orphans = new Counter({
    name: 'gateway_orphaned_slots_total',
    help: 'Slots that may remain on a platform because the search for them failed; the log names the videos',
    labelNames: ['platform'] as const,
    registers,
  })
  registerGauges(registers, state)

  for (const operation of operationsOf(state.store))
    for (const outcome of ['ok', 'failed'] as const) storeCalls.zero({ operation, outcome })
  for (const outcome of deliveryOutcomes) deliveries.zero({ outcome })
  for (const reason of disabledReasons) disabled.inc({ reason }, 0)
  // Queries and alerts can then tell "nothing happened" from "not measured", and `increase` sees the first event.
  for (const platform of state.platforms) {
    circuit.set({ platform }, 0)
    for (const counter of [uploadBytes, leftovers, orphans]) counter.inc({ platform }, 0)
    for (const outcome of ['ok', 'failed']) tokens.inc({ platform, outcome }, 0)
    for (const outcome of hintOutcomes) hints.inc({ platform, outcome }, 0)
  }

  return {
    request: ({ method, route, status, seconds }) => requests.observe({ method, route, status }, seconds),
    storeCall: ({ operation, outcome, seconds }) => storeCalls.observe({ operation, outcome }, seconds),
    call: ({ seconds, ...labels }) => platformCalls.observe(labels, seconds),
    circuit: (platform, now) => circuit.set({ platform }, { closed: 0, 'half-open': 0.5, open: 1 }[now]),
    credentials: (platform, valid) =>
      valid === undefined ? credentials.remove({ platform }) : credentials.set({ platform }, Number(valid)),
    tokenRequest: (platform, outcome) => tokens.inc({ platform, outcome }),
    stageChanged({ video: { platform, stage }, from, seconds }) {
      transitions.inc({ platform, from, to: stage })
      if (stage === 'ready' || (stage === 'failed' && from === 'processing')) {
        processing.observe({ platform, outcome: stage }, seconds)
      }
    },
    uploadEnded({ platform, outcome, bytes, seconds }) {
      uploads.observe({ platform, outcome }, seconds)
      uploadBytes.inc({ platform }, bytes)
    },
    polled: ({ lagSeconds }) => pollLag.observe(lagSeconds),
    refreshed: (labels) => refreshes.inc(labels),
    hinted: (labels) => hints.inc(labels),
    deliveryAttempted: ({ outcome, seconds }) => deliveries.observe({ outcome }, seconds),
    deliveryAbandoned: () => abandoned.inc(),
    endpointDisabled: (reason) => disabled.inc({ reason }),
    leftoverRemoved: (platform) => leftovers.inc({ platform }),
    orphaned: (platform) => orphans.inc({ platform }),
    expose: async () => ({ contentType: registry.contentType, text: await registry.metrics() }),
    describe: () =>
      (registry.getMetricsAsArray() as unknown as MetricDefinition[])
        .filter(({ name }) => name.startsWith('gateway_'))
        .map(({ name, help, type, labelNames }) => ({ name, help, type, labels: labelNames })),
  }
}
