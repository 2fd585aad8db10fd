import { setTimeout as sleep } from 'node:timers/promises'
import { hashSecret } from '../../src/auth/credentials.ts'
import { generateGatewaySecret } from '../../src/auth/gateway-secret.ts'
import type { EventLoad } from '../processes/event-gateway.ts'
import type { ReadersReport } from '../processes/event-readers.ts'
import { key, startServer, type Talker } from './processes.ts'
import { percentile } from './report.ts'
import { watch } from './usage.ts'

/** Time for what is under way when the load ends, in ms. */
const patienceMs = 10_000

export const authorization = `Bearer ${key}`

/** Who listens to the events, and how many there are. */
export interface EventRun extends EventLoad {
  databaseUrl: string
  streams: number
  endpoints: number
}

/** The results. Lags in ms, from the change to its arrival; NaN without listeners. */
export interface EventResult {
  perSecond: number
  /** Of the gateway, in cores. */
  cores: number
  /** In bytes. */
  peakMemory: number
  streams: Arrivals
  endpoints: Arrivals
}

export interface Arrivals {
  /** What had arrived when the last change was made: below 1 the listeners are behind. */
  share: number
  /** What did not arrive in ten seconds more. */
  missing: number
  p50: number
  p99: number
}

/** Starts the gateway that makes events itself, with room for many streams. */
export function startEventGateway(databaseUrl: string): Promise<Talker> {
  return startServer('event-gateway', {
    PLATFORM: 'sandbox',
    // Nothing of what is measured calls it.
    SANDBOX_BASE_URL: 'http://127.0.0.1:9',
    DATABASE_URL: databaseUrl,
    GATEWAY_SECRET: generateGatewaySecret(),
    API_KEYS: `bench:${hashSecret(key).toString('hex')}`,
  })
}

/** Makes events for some seconds while streams and endpoints listen. */
export async function runEvents({
  databaseUrl,
  streams,
  endpoints,
  ...load
}: EventRun): Promise<EventResult> {
  const gateway = await startEventGateway(databaseUrl)
  const readers =
    streams > 0
      ? await startServer('event-readers', {
          TARGET: gateway.url,
          STREAMS: String(streams),
          AUTHORIZATION: authorization,
        })
      : undefined
  const receivers = endpoints > 0 ? await startServer('event-receivers') : undefined
  try {
    for (let count = 0; count < endpoints; count++) await addEndpoint(gateway, `${receivers?.url}/${count}`)
    // Everything is compiled and connected before it is measured.
    const warmup = await gateway.ask<{ written: number }>({ rate: 100, seconds: 1 } satisfies EventLoad)
    await Promise.all([
      arrivalsOf(readers, warmup.written * streams),
      arrivalsOf(receivers, warmup.written * endpoints),
    ])
    const usage = watch(gateway.pid)
    const begun = performance.now()
    const { written } = await gateway.ask<{ written: number }>(load)
    const seconds = (performance.now() - begun) / 1_000
    const { cpu, peakMemory } = usage()
    const [read, received] = await Promise.all([
      arrivalsOf(readers, written * streams),
      arrivalsOf(receivers, written * endpoints),
    ])
    return {
      perSecond: written / seconds,
      cores: cpu / seconds,
      peakMemory,
      streams: read,
      endpoints: received,
    }
  } finally {
    await Promise.all([gateway, readers, receivers].map((server) => server?.stop()))
  }
}

/** Counts what has arrived by the end of the load, and waits for the rest, so that its lags count too. */
async function arrivalsOf(server: Talker | undefined, expected: number): Promise<Arrivals> {
  const lags: number[] = []
  let inTime: number | undefined
  let arrived = 0
  for (const deadline = Date.now() + patienceMs; server && arrived < expected; await sleep(100)) {
    const report = await server.ask<ReadersReport>({})
    arrived += report.events
    inTime ??= arrived
    lags.push(...report.lags)
    if (Date.now() > deadline) break
  }
  const share = expected === 0 ? Number.NaN : (inTime ?? 0) / expected
  return { share, missing: expected - arrived, p50: percentile(lags, 0.5), p99: percentile(lags, 0.99) }
}

async function addEndpoint({ url }: Talker, target: string): Promise<void> {
  const response = await fetch(`${url}/v1/webhooks`, {
    method: 'POST',
    headers: { authorization, 'content-type': 'application/json' },
    body: JSON.stringify({ url: target }),
  })
  if (response.status !== 201) throw new Error(await response.text())
}
