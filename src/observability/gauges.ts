import { Gauge, type Registry } from 'prom-client'
import { version } from '../config/version.ts'
import { transitions } from '../publication/lifecycle.ts'
import type { VideoCount, VideoStore } from '../publication/store.ts'
import type { Stage } from '../publication/video.ts'

const stages = new Set<Stage>(Object.values(transitions).flatMap(({ from, to }) => [...from, to]))

const noConnections = { used: 0, idle: 0, waiting: 0, limit: 0 }

/** What the gauges show, sampled at scrape time. */
export interface GaugeSources {
  store: VideoStore
  uploadsInProgress: () => number
  streamsOpen: () => number
}

/** Registers the gauges that show a state, which is sampled when Prometheus scrapes it. */
export function registerGauges(registers: Registry[], sources: GaugeSources): void {
  new Gauge({
    name: 'gateway_build_info',
    help: 'Version of the gateway, as a label; the value is always 1',
    labelNames: ['version'] as const,
    registers,
  }).set({ version }, 1)
  new Gauge({
    name: 'gateway_uploads_in_progress',
    help: 'Uploads in progress in this process',
    registers,
    collect() {
      this.set(sources.uploadsInProgress())
    },
  })
  new Gauge({
    name: 'gateway_event_streams_open',
    help: 'Event streams open in this process',
    registers,
    collect() {
      this.set(sources.streamsOpen())
    },
  })
  // Before the metrics that query the store: those queries would be counted.
  new Gauge({
    name: 'gateway_store_connections',
    help: 'Connections of this process to PostgreSQL that are in use or idle, and calls that wait for one; 0 with SQLite',
    labelNames: ['state'] as const,
    registers,
    collect() {
      const { used, idle, waiting } = sources.store.connections() ?? noConnections
      for (const [name, count] of Object.entries({ used, idle, waiting })) this.set({ state: name }, count)
    },
  })
  new Gauge({
    name: 'gateway_store_connections_limit',
    help: 'Maximum number of connections of this process to PostgreSQL; 0 with SQLite',
    registers,
    collect() {
      this.set((sources.store.connections() ?? noConnections).limit)
    },
  })
  new Gauge({
    name: 'gateway_webhook_endpoints',
    help: 'Webhook endpoints by state; absent while the database is unavailable',
    labelNames: ['state'] as const,
    registers,
    async collect() {
      const endpoints = await sources.store.endpoints().catch(() => undefined)
      this.reset()
      if (!endpoints) return
      const enabled = endpoints.filter((endpoint) => endpoint.enabled).length
      this.set({ state: 'enabled' }, enabled)
      this.set({ state: 'disabled' }, endpoints.length - enabled)
    },
  })
  new Gauge({
    name: 'gateway_webhook_oldest_pending_seconds',
    help: 'Age of the oldest event that an enabled endpoint has not received; absent while the database is unavailable',
    registers,
    async collect() {
      try {
        this.set(((await sources.store.oldestPendingDelivery()) ?? 0) / 1000)
      } catch {
        this.remove()
      }
    },
  })
  new Gauge({
    name: 'gateway_videos',
    help: 'Videos by stage; absent while the database is unavailable',
    labelNames: ['stage'] as const,
    registers,
    async collect() {
      let counts: VideoCount[] | undefined
      try {
        await sources.store.ping()
        counts = await sources.store.counts()
      } catch {
        // The metrics of the process itself are still reported.
      }
      // Replaced in one step, because two scrapes may overlap.
      this.reset()
      if (!counts) return
      for (const stage of stages) this.set({ stage }, 0)
      for (const { stage, count } of counts) this.inc({ stage }, count)
    },
  })
}
