import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import t, { type Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { type Publication, publishThroughCrashes } from '../support/back-office.ts'
import { gatewaySecret } from '../support/endpoints.ts'
import { type Json, temporaryDirectory } from '../support/gateway.ts'
import { type PostgresServer, startPostgres } from '../support/postgres.ts'
import { type Receiver, startReceiver, verified } from '../support/receiver.ts'
import { type Replicas, startReplicas } from '../support/replicas.ts'

/** Videos that live while replicas die: `npm run soak` asks for 1,000, over both engines. */
const videos = Number(process.env.WEBHOOK_VIDEOS ?? 20)
const isLong = process.env.WEBHOOK_VIDEOS !== undefined
/** Times of deliveries in ms: a dead replica's claims run out soon. */
const times = { exchange: 1_500, claim: 3_000, interval: 300, grace: 300, retry: 200 }
const timeout = 120_000 + videos * 1_500

interface Endpoint {
  name: string
  receiver: Receiver
  /** Ids of the events that it accepted. */
  accepted: Set<string>
  /** What came, with a signature that was right at that time. */
  events: Json[]
}

/** Creates an endpoint for all events. A share of the requests gets 500, and each response takes up to `delay` ms. */
async function addEndpoint(
  t: Test,
  replicas: Replicas,
  name: string,
  { failing = 0, delay = 0, answers = true },
): Promise<Endpoint> {
  const accepted = new Set<string>()
  const events: Json[] = []
  let secret = ''
  const receiver = await startReceiver(t, async (webhook, response) => {
    const { id } = webhook
    events.push(verified(webhook, secret))
    if (!answers) return
    if (delay > 0) await sleep(Math.random() * delay)
    const fails = Math.random() < failing
    // A response that the dead cannot read is none.
    response.writeHead(fails ? 500 : 204).end(() => {
      if (!fails) accepted.add(id)
    })
  })
  const { status, body } = await replicas.gateway!.call('POST', '/v1/webhooks', {
    url: receiver.url,
    description: name,
  })
  if (status !== 201) throw new Error(JSON.stringify(body))
  secret = body.secret
  return { name, receiver, accepted, events }
}

async function feedOf(replicas: Replicas): Promise<Map<string, Json>> {
  const events = new Map<string, Json>()
  for (let after = '0'; ; ) {
    const { body } = await replicas.gateway!.call('GET', `/v1/events?limit=200&after=${after}`)
    for (const event of body.items) events.set(event.id, event)
    if (body.items.length < 200) return events
    after = body.nextCursor
  }
}

/** Publishes all videos while replicas are killed at random. @returns the number of kills */
async function publishWhileKilling(
  t: Test,
  replicas: Replicas,
  restartDatabase?: (turn: number) => Promise<void>,
): Promise<number> {
  const failures: unknown[] = []
  let done = 0
  let next = 0
  const callers = Array.from({ length: 6 }, async () => {
    while (next < videos) {
      const publication: Publication = { key: `p-${next++}` }
      await publishThroughCrashes(replicas, publication, next % 2 === 0).catch((error) =>
        failures.push(error),
      )
      done++
    }
  })
  let kills = 0
  let restarts = 0
  while (done < videos) {
    await sleep(50 + Math.random() * 1_000)
    await replicas.restart(kills++ % replicas.processes.length, 'SIGKILL')
    if (restartDatabase && done > ((restarts + 1) * videos) / 3 && restarts < 2)
      await restartDatabase(restarts++)
  }
  await Promise.all(callers)
  t.strictSame(failures, [], 'every caller got what it asked for')
  if (restartDatabase) t.ok(restarts > 0, 'the database was restarted')
  return kills
}

async function checkDeliveries(
  t: Test,
  count: number,
  env: Record<string, string>,
  restartDatabase?: (turn: number) => Promise<void>,
): Promise<void> {
  const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 10 } })
  t.teardown(() => sandbox.close())
  const replicas = await startReplicas(
    t,
    sandbox,
    {
      GATEWAY_SECRET: gatewaySecret,
      PUBLIC_URL: 'https://gateway.example',
      DELIVERIES: JSON.stringify(times),
      LEASE: '2000',
      CLAIM: '2000',
      ...env,
    },
    count,
  )
  const slow = await addEndpoint(t, replicas, 'slow', { delay: 400 })
  const failing = await addEndpoint(t, replicas, 'failing', { failing: 0.5 })
  const dead = await addEndpoint(t, replicas, 'dead', { answers: false })
  const begun = Date.now()
  const kills = await publishWhileKilling(t, replicas, restartDatabase)
  const seconds = Math.round((Date.now() - begun) / 1000)

  const feed = await feedOf(replicas)
  const living = [slow, failing]
  const missing = () => living.flatMap(({ accepted }) => [...feed.keys()].filter((id) => !accepted.has(id)))
  for (const deadline = Date.now() + 60_000; missing().length > 0 && Date.now() < deadline; ) await sleep(100)
  t.strictSame(missing(), [], 'each living endpoint got each event')
  t.ok(feed.size >= videos * 3)
  let duplicates = 0
  for (const { name, receiver, events } of [...living, dead]) {
    const wrong = events.filter((event) => !isDeepStrictEqual(event, feed.get(event.id)))
    t.strictSame(wrong, [], `${name}: each event is that of the feed, whenever it comes`)
    t.equal(events.length, receiver.received.length, `${name}: each signature is right`)
    t.ok(receiver.received.every(({ id, event }) => id === event.id))
    duplicates += receiver.received.length - receiver.ids().size
  }
  const repeated = slow.receiver.received.length - slow.receiver.ids().size
  t.comment(
    `${videos} videos, ${feed.size} events, ${kills} kills of ${count} processes in ${seconds} s: 0 lost; ` +
      `the slow endpoint got ${repeated} twice, all together ${duplicates} repetitions`,
  )
  const { body: list } = await replicas.gateway!.call('GET', '/v1/webhooks')
  t.ok(
    list.items.every(({ enabled }: Json) => enabled),
    'three days of attempts are not over',
  )
}

t.test(
  'no delivery is lost when two processes on one SQLite file are killed at random',
  { timeout },
  async (t) => {
    const directory = await temporaryDirectory(t)
    await checkDeliveries(t, 2, { DATABASE_URL: `sqlite:${directory}/gateway.db` })
  },
)

if (isLong) {
  const started = await startPostgres()
  const server = started as PostgresServer
  t.teardown(() => server.close?.())
  const skip = 'unavailable' in started && started.unavailable
  t.test(
    'no delivery is lost when three processes on PostgreSQL and the database are killed',
    { timeout, skip },
    (t) =>
      checkDeliveries(t, 3, { DATABASE_URL: server.newUrl() }, async (turn) => {
        await server[turn === 0 ? 'kill' : 'stop']()
        await sleep(1_000)
        await server.start()
      }),
  )
}
