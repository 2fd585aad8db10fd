import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { VideoEvent } from '../../src/publication/events.ts'
import type { VideoStore } from '../../src/publication/store.ts'
import type { Video } from '../../src/publication/video.ts'
import type { ClaimedDelivery, WebhookEndpoint } from '../../src/publication/webhooks.ts'
import { openStore } from '../../src/store/open.ts'
import { type SharedPostgres, schemaOf, sharedPostgres } from '../support/postgres.ts'
import { aVideo } from '../support/video.ts'
import { addEndpoint, anEndpoint, anOwnEvent, delivered, failed, fanOutAll } from '../support/webhooks.ts'

/** Endpoints and deliveries: every event gets its deliveries once, and every delivery has one holder at a time. */

const directory = mkdtempSync(join(tmpdir(), 'webhooks-'))
const server = await sharedPostgres()
const unavailable = 'unavailable' in server && server.unavailable
t.teardown(async () => {
  await (server as SharedPostgres).close?.()
  rmSync(directory, { recursive: true })
})
let files = 0
const engines = [
  ['memory', () => 'memory:'],
  ['sqlite', () => `sqlite:${join(directory, `${files++}.db`)}`],
  ['postgres', !unavailable && (() => (server as SharedPostgres).newUrl())],
] as const
const hour = 3_600_000
const minute = 60_000

const rename = (video: Video): Video => ({ ...video, title: `${video.title}+` })
const makeReady = (video: Video): Video => ({ ...video, stage: 'ready' })

/** Changes a video, once per event. */
async function happen(store: VideoStore, count: number, change = rename): Promise<void> {
  const video = aVideo()
  await store.insert(video)
  for (let done = 0; done < count; done++) await store.update(video.id, change)
}

const all = (store: VideoStore, { id }: WebhookEndpoint) =>
  store.deliveries({ endpointId: id, limit: 10_000 })

/** Repeats a call while SQLite belongs to another process. */
async function insist<T>(call: () => Promise<T>): Promise<T> {
  for (;;)
    try {
      return await call()
    } catch {
      await sleep(1)
    }
}

for (const [engine, url] of engines) {
  if (!url) {
    t.test(`${engine}: the webhooks of a store`, { skip: unavailable }, async () => {})
    continue
  }
  /** Two stores of one database; of one in memory, the same one twice. */
  const openTwo = async (): Promise<[VideoStore, VideoStore, () => Promise<unknown>]> => {
    const place = url()
    const one = await openStore(place, 6)
    const two = engine === 'memory' ? one : await openStore(place, 6)
    return [one, two, () => Promise.all([...new Set([one, two])].map((store) => store.close()))]
  }

  t.test(`${engine}: stores endpoints unchanged, up to their maximum number`, async (t) => {
    const [one, two, close] = await openTwo()
    t.strictSame(await one.endpoints(), [])
    const row: Partial<WebhookEndpoint> = {
      description: 'Ümläute, \0 and a lone surrogate \ud800',
      url: 'https://example.com/"quotes"',
      events: ['video.ready', 'webhook.disabled'],
      enabled: false,
      disabledReason: 'gone',
      generation: 7,
      renewedAt: 5,
    }
    const first = await one.insertEndpoint(anEndpoint(row), 3)
    t.match(first, { ...row, after: 0, version: 1 })
    t.ok(Math.abs((first?.createdAt ?? 0) - one.now()) < minute)
    t.strictSame(await two.findEndpoint(first?.id ?? ''), first)
    t.equal(await one.findEndpoint('unknown'), undefined)
    const more = await Promise.all(
      Array.from({ length: 8 }, (_, index) => {
        const store = index % 2 ? one : two
        return insist(() => store.insertEndpoint(anEndpoint(), 3))
      }),
    )
    const made = [first, ...more].filter((each) => each !== undefined)
    t.equal(made.length, 3, 'those that come at the same time cannot exceed it')
    t.strictSame(
      await one.endpoints(),
      made.toSorted((a, b) => (a.id < b.id ? -1 : 1)),
    )
    t.equal(await one.deleteEndpoint(made[1]?.id ?? ''), true)
    t.equal(await one.deleteEndpoint(made[1]?.id ?? ''), false)
    t.ok(await one.insertEndpoint(anEndpoint(), 3), 'another one takes its place')
    await close()
  })

  t.test(`${engine}: a new or changed endpoint gets later events only`, async (t) => {
    const store = await openStore(url(), 4)
    await happen(store, 3)
    const { last } = await store.eventRange()
    t.equal((await addEndpoint(store)).after, last)
    await happen(store, 2)
    const endpoint = await addEndpoint(store)
    t.equal(endpoint.after, last + 2)
    await happen(store, 1)
    const changed = await store.updateEndpoint(endpoint.id, (current, now, lastPosition) => {
      t.ok(Math.abs(now - store.now()) < minute)
      return { ...current, after: lastPosition, enabled: false, updatedAt: now }
    })
    t.match(changed, { after: last + 3, version: 2, enabled: false })
    t.strictSame(await store.findEndpoint(endpoint.id), changed)
    await store.close()
  })

  t.test(`${engine}: a change of an endpoint is a compare-and-set`, async (t) => {
    const [one, two, close] = await openTwo()
    const { id } = await addEndpoint(one)
    await Promise.all(
      Array.from({ length: 16 }, (_, index) => {
        const store = index % 2 ? one : two
        const renew = (current: WebhookEndpoint) => ({ ...current, generation: current.generation + 1 })
        return insist(() => store.updateEndpoint(id, renew))
      }),
    )
    t.match(await one.findEndpoint(id), { generation: 17, version: 17 })
    t.equal((await one.updateEndpoint(id, (current) => current))?.version, 17, 'no change, no write')
    t.equal(await one.updateEndpoint('unknown', (current) => current), undefined)
    await t.rejects(
      one.updateEndpoint(id, () => {
        throw new Error('rejected')
      }),
      { message: 'rejected' },
    )
    t.match(await one.findEndpoint(id), { version: 17 })
    await close()
  })

  t.test(`${engine}: an event is delivered to the endpoints that subscribe to it`, async (t) => {
    const store = await openStore(url(), 4)
    await happen(store, 2)
    t.equal(await store.fanOut(10), false, 'without endpoints there is nothing to do')
    const rows: [Partial<WebhookEndpoint>, number][] = [
      [{}, 5],
      [{ events: ['video.ready'] }, 1],
      [{ events: ['video.ready', 'video.updated'] }, 5],
      [{ events: ['video.failed'] }, 0],
      [{ events: ['webhook.disabled'] }, 0],
      [{ events: [] }, 0],
      [{ enabled: false }, 0],
      [{ after: 0 }, 7],
    ]
    const endpoints: WebhookEndpoint[] = []
    for (const [row] of rows) endpoints.push(await addEndpoint(store, row))
    await happen(store, 4)
    await happen(store, 1, makeReady)
    await fanOutAll(store, 2)
    for (const [index, endpoint] of endpoints.entries())
      t.equal((await all(store, endpoint)).length, rows[index]?.[1], JSON.stringify(rows[index]?.[0]))
    const { last } = await store.eventRange()
    const events = await store.events({ after: last - 5, upTo: last, limit: 9 })
    t.match(
      await all(store, endpoints[0] as WebhookEndpoint),
      events
        .toSorted((a, b) => (a.id < b.id ? 1 : -1))
        .map(({ id, type, createdAt }) => ({
          endpointId: endpoints[0]?.id,
          eventId: id,
          type,
          status: 'pending',
          attempts: 0,
          createdAt,
          nextAttemptAt: Number,
          lastAttemptAt: null,
          responseStatus: null,
          failure: null,
          response: null,
        })),
      'the newest first',
    )
    await store.close()
  })

  t.test(`${engine}: every event is fanned out once while many processes write and fan out`, async (t) => {
    const [one, two, close] = await openTwo()
    const endpoints = [await addEndpoint(one), await addEndpoint(two, { events: ['video.updated'] })]
    const videos = Array.from({ length: 6 }, () => aVideo())
    for (const video of videos) await one.insert(video)
    let writing = true
    let late: WebhookEndpoint | undefined
    const fans = [one, two, one, two].map(async (store, index) => {
      for (let last = false; ; last = !writing) {
        while (await insist(() => store.fanOut(3 + index)));
        if (last) return
        await sleep(1)
      }
    })
    await Promise.all(
      videos.map(async ({ id }, index) => {
        const store = index % 2 ? one : two
        for (let change = 0; change < 25; change++) {
          await insist(() => store.update(id, rename))
          if (index === 0 && change === 12) late = await insist(() => addEndpoint(two))
        }
      }),
    )
    writing = false
    await Promise.all(fans)
    const { last } = await one.eventRange()
    const events = await one.events({ after: 0, upTo: last, limit: 1_000 })
    t.equal(events.length, 150)
    for (const endpoint of endpoints)
      t.strictSame(
        (await all(one, endpoint)).map(({ eventId }) => eventId),
        events
          .map(({ id }) => id)
          .toSorted()
          .toReversed(),
      )
    const afterwards = new Set((await all(one, late as WebhookEndpoint)).map(({ eventId }) => eventId))
    // An endpoint that is made while events happen may miss those of that moment, but none that happen later.
    const missed = events.findLastIndex(({ id }) => !afterwards.has(id))
    t.equal(afterwards.size, events.length - 1 - missed, 'no gap')
    const begin = events[missed]?.position ?? 0
    t.ok(begin >= (late?.after ?? 0), 'nothing from before it was made')
    await close()
  })

  t.test(`${engine}: events from before the first endpoint are skipped`, async (t) => {
    const store = await openStore(url(), 4)
    const first = await addEndpoint(store)
    await happen(store, 3)
    await fanOutAll(store)
    await store.updateEndpoint(first.id, (current) => ({ ...current, enabled: false }))
    await happen(store, 60)
    t.equal(await store.fanOut(10), false)
    const second = await addEndpoint(store)
    await happen(store, 4)
    t.equal(await store.fanOut(10), false, 'one batch')
    t.equal((await all(store, second)).length, 4)
    await store.updateEndpoint(first.id, (current, _, after) => ({ ...current, enabled: true, after }))
    await happen(store, 1)
    await fanOutAll(store)
    t.equal((await all(store, first)).length, 4)
    t.equal((await all(store, second)).length, 5)
    await store.close()
  })

  t.test(`${engine}: claims a due delivery once, with its event`, async (t) => {
    const [one, two, close] = await openTwo()
    const endpoint = await addEndpoint(one)
    const other = await addEndpoint(one, { enabled: false })
    t.strictSame(await one.nextDeliveriesIn(), new Map())
    await happen(one, 40)
    const own = anOwnEvent()
    t.match(await two.addDelivery(endpoint.id, own), {
      eventId: own.id,
      type: 'webhook.test',
      status: 'pending',
    })
    await fanOutAll(one)
    t.strictSame([...(await one.nextDeliveriesIn()).keys()], [endpoint.id])
    const claims = await Promise.all(
      Array.from({ length: 8 }, (_, index) => {
        const store = index % 2 ? one : two
        return insist(() => store.claimDeliveries(endpoint.id, minute, 7))
      }),
    )
    const rest = await insist(() => one.claimDeliveries(endpoint.id, minute, 99))
    const claimed = [...claims.flat(), ...rest]
    t.equal(claimed.length, 41)
    t.equal(new Set(claimed.map(({ eventId }) => eventId)).size, 41, 'none is claimed twice')
    t.strictSame(await one.claimDeliveries(endpoint.id, minute, 99), [])
    const { last } = await one.eventRange()
    const events = new Map(
      (await one.events({ after: 0, upTo: last, limit: 99 })).map((event) => [event.id, event]),
    )
    for (const { attempts, eventId, event, ...row } of claimed) {
      t.equal(attempts, 1)
      t.strictSame(event, eventId === own.id ? own.body : events.get(eventId))
      t.ok(Math.abs((row.nextAttemptAt ?? 0) - (row.lastAttemptAt ?? 0) - minute) < 10)
    }
    const next = (await one.nextDeliveriesIn()).get(endpoint.id) ?? 0
    t.ok(next > minute / 2 && next <= minute, `${next} ms`)
    t.strictSame(await one.claimDeliveries(other.id, minute, 9), [])
    t.strictSame(await one.claimDeliveries('unknown', minute, 9), [])
    await close()
  })

  t.test(`${engine}: claims the longest due first, and again once the claim has expired`, async (t) => {
    const store = await openStore(url(), 4)
    const endpoint = await addEndpoint(store)
    for (let index = 0; index < 3; index++) {
      await store.addDelivery(endpoint.id, anOwnEvent())
      await sleep(3)
    }
    const ids = (await all(store, endpoint)).map(({ eventId }) => eventId).toReversed()
    const claim = async (ms: number, limit: number) =>
      (await store.claimDeliveries(endpoint.id, ms, limit)).map(({ eventId, attempts }) => [
        eventId,
        attempts,
      ])
    t.strictSame(await claim(0, 2), [
      [ids[0], 1],
      [ids[1], 1],
    ])
    await sleep(3)
    t.strictSame(await claim(minute, 9), [
      [ids[2], 1],
      [ids[0], 2],
      [ids[1], 2],
    ])
    await store.close()
  })

  t.test(`${engine}: only the latest claim may record the result of an attempt`, async (t) => {
    const store = await openStore(url(), 4)
    const endpoint = await addEndpoint(store)
    await happen(store, 3)
    await fanOutAll(store)
    const [a, b, c] = (await store.claimDeliveries(endpoint.id, 0, 9)) as ClaimedDelivery[]
    const settle = (delivery: ClaimedDelivery | undefined, attempts: number, result = delivered) =>
      store.settleDelivery(endpoint.id, delivery?.eventId ?? '', attempts, result)
    const row = async (delivery: ClaimedDelivery | undefined) =>
      (await all(store, endpoint)).find(({ eventId }) => eventId === delivery?.eventId)
    await sleep(2)
    t.equal((await store.claimDeliveries(endpoint.id, hour, 9)).length, 3, 'others have taken over')
    await settle(a, 1)
    t.match(await row(a), { status: 'pending', attempts: 2, responseStatus: null })
    await settle(a, 2)
    t.match(await row(a), { status: 'delivered', attempts: 2, responseStatus: 204, nextAttemptAt: null })
    await settle(a, 2, failed())
    t.match(await row(a), { status: 'delivered' }, 'it has ended')
    await settle(b, 2, failed(minute))
    t.match(await row(b), {
      status: 'pending',
      attempts: 2,
      failure: 'status 500',
      response: failed().response,
    })
    const next = ((await row(b))?.nextAttemptAt ?? 0) - store.now()
    t.ok(next > minute / 2 && next <= minute + 1_000, `${next} ms`)
    await settle(c, 2, failed())
    t.match(await row(c), { status: 'failed', responseStatus: 500, nextAttemptAt: null })
    await settle(undefined, 1)
    const statuses = ['pending', 'delivered', 'failed'] as const
    for (const [index, status] of statuses.entries())
      t.strictSame(
        (await store.deliveries({ endpointId: endpoint.id, status, limit: 9 })).map(({ eventId }) => eventId),
        [[b, a, c][index]?.eventId],
      )
    await store.close()
  })

  t.test(`${engine}: records since when an endpoint has failed`, async (t) => {
    const store = await openStore(url(), 4)
    const { id } = await addEndpoint(store)
    const attempt = async (result = delivered) => {
      await store.addDelivery(id, anOwnEvent())
      for (const { eventId, attempts } of await store.claimDeliveries(id, hour, 9))
        await store.settleDelivery(id, eventId, attempts, result)
      return (await store.findEndpoint(id)) as WebhookEndpoint
    }
    t.equal((await attempt()).failingSince, null)
    const { failingSince, version } = await attempt(failed(hour))
    t.ok(Math.abs((failingSince ?? 0) - store.now()) < minute)
    t.equal(version, 1, 'no new version')
    await sleep(3)
    t.equal((await attempt(failed())).failingSince, failingSince, 'the first failure counts')
    t.equal((await attempt()).failingSince, null)
    await attempt(failed())
    const enabled = await store.updateEndpoint(id, (current) => ({ ...current, failingSince: null }))
    t.equal(enabled?.failingSince, null)
    t.equal((await attempt()).failingSince, null)
    await store.close()
  })

  t.test(`${engine}: deliveries of a disabled endpoint wait`, async (t) => {
    const store = await openStore(url(), 4)
    const endpoint = await addEndpoint(store)
    await happen(store, 2)
    await fanOutAll(store)
    const enable = (enabled: boolean) =>
      store.updateEndpoint(endpoint.id, (current, _, after) => ({ ...current, enabled, after }))
    await enable(false)
    t.strictSame(await store.claimDeliveries(endpoint.id, minute, 9), [])
    t.strictSame(await store.nextDeliveriesIn(), new Map())
    t.equal(await store.oldestPendingDelivery(), undefined)
    await happen(store, 1)
    await enable(true)
    await fanOutAll(store)
    t.equal(
      (await store.claimDeliveries(endpoint.id, minute, 9)).length,
      2,
      'what happened meanwhile is not sent',
    )
    await enable(false)
    await store.deleteEndpoint(endpoint.id)
    t.strictSame(await store.claimDeliveries(endpoint.id, minute, 9), [])
    await store.close()
  })

  t.test(
    `${engine}: an event about an endpoint goes to the other endpoints that subscribe to it`,
    async (t) => {
      const store = await openStore(url(), 4)
      const told = await addEndpoint(store, { events: ['webhook.disabled'] })
      const quiet = [
        await addEndpoint(store),
        await addEndpoint(store, { events: ['video.ready'] }),
        await addEndpoint(store, { events: ['webhook.disabled'], enabled: false }),
      ]
      const endpoint = await addEndpoint(store, { events: ['webhook.disabled'] })
      const news = anOwnEvent('webhook.disabled')
      const disable = (current: WebhookEndpoint) => ({
        ...current,
        enabled: false,
        disabledReason: 'gone' as const,
      })
      await store.updateEndpoint(endpoint.id, disable, (changed) => {
        t.match(changed, { enabled: false, version: 2 })
        return undefined
      })
      t.strictSame(await all(store, told), [])
      await store.updateEndpoint(endpoint.id, disable, () => news)
      await store.updateEndpoint(
        endpoint.id,
        (current) => current,
        () => anOwnEvent('webhook.disabled'),
      )
      t.match(await store.claimDeliveries(told.id, minute, 9), [
        { eventId: news.id, type: 'webhook.disabled', event: news.body, attempts: 1 },
      ])
      for (const other of [...quiet, endpoint]) t.strictSame(await all(store, other), [])
      await store.close()
    },
  )

  t.test(`${engine}: resends one event`, async (t) => {
    const store = await openStore(url(), 4)
    const none = await addEndpoint(store, { events: [] })
    const endpoint = await addEndpoint(store)
    await happen(store, 1)
    await fanOutAll(store)
    const own = anOwnEvent()
    await store.addDelivery(endpoint.id, own)
    const sent = await store.claimDeliveries(endpoint.id, hour, 9)
    for (const { eventId, attempts } of sent)
      await store.settleDelivery(endpoint.id, eventId, attempts, eventId === own.id ? failed() : delivered)
    t.strictSame(await store.claimDeliveries(endpoint.id, hour, 9), [])
    for (const { eventId } of sent)
      t.match(await store.resend(endpoint.id, eventId), {
        eventId,
        status: 'pending',
        attempts: 0,
        lastAttemptAt: null,
        responseStatus: null,
      })
    const again = await store.claimDeliveries(endpoint.id, hour, 9)
    const byId = (rows: ClaimedDelivery[]) =>
      rows
        .map(({ eventId, event, attempts }) => ({ eventId, event, attempts }))
        .toSorted((a, b) => (a.eventId < b.eventId ? -1 : 1))
    t.strictSame(byId(again), byId(sent))
    await store.resend(endpoint.id, own.id)
    await store.settleDelivery(endpoint.id, own.id, 1, delivered)
    t.match(
      await all(store, endpoint),
      [{ status: 'pending', attempts: 0 }, {}],
      'an attempt from before says nothing',
    )

    const event = sent.find(({ eventId }) => eventId !== own.id)?.event as VideoEvent
    t.match(
      await store.resend(none.id, event.id),
      { type: 'video.updated', attempts: 0 },
      'one it had not got',
    )
    t.strictSame((await store.claimDeliveries(none.id, hour, 9))[0]?.event, event)
    t.equal(await store.resend(none.id, own.id), undefined, 'the own event of another')
    t.equal(await store.resend(endpoint.id, 'nothing'), undefined)
    t.equal(await store.resend('unknown', event.id), undefined)
    await happen(store, 1)
    await store.eventRange()
    await store.expireEvents(-1_000, 1)
    t.equal(await store.resend(endpoint.id, event.id), undefined, 'the event is gone')
    t.ok(await store.resend(endpoint.id, own.id), 'a body of its own is not')
    await store.close()
  })

  t.test(`${engine}: a delivery whose event was deleted fails`, async (t) => {
    const store = await openStore(url(), 4)
    const endpoint = await addEndpoint(store)
    await happen(store, 2)
    await fanOutAll(store)
    await store.expireEvents(-1_000, 9)
    t.strictSame(
      (await store.claimDeliveries(endpoint.id, minute, 9))
        .toSorted((a, b) => (a.eventId < b.eventId ? -1 : 1))
        .map(({ event }) => event === null),
      [true, false],
      'the last event is never deleted',
    )
    await store.close()
  })

  t.test(`${engine}: resends all events since a time, in batches that survive a restart`, async (t) => {
    const [one, two, close] = await openTwo()
    const endpoint = await addEndpoint(one)
    const choosy = await addEndpoint(one, { events: ['video.ready'] })
    await happen(one, 5)
    await sleep(10)
    const since = one.now()
    await sleep(10)
    await happen(one, 9)
    await happen(one, 3, makeReady)
    const later = await addEndpoint(one)
    await fanOutAll(one)
    const drain = async ({ id }: WebhookEndpoint) => {
      const claimed = await one.claimDeliveries(id, hour, 99)
      for (const { eventId, attempts } of claimed) await one.settleDelivery(id, eventId, attempts, delivered)
      return claimed.length
    }
    t.strictSame([await drain(endpoint), await drain(choosy), await drain(later)], [15, 1, 0])
    t.equal(await one.fanOut(99), false)

    for (const each of [endpoint, choosy, later]) await two.resendAfter(each.id, since)
    await one.resendAfter('unknown', 0)
    t.equal(await one.fanOut(3), true)
    const calls = await Promise.all([one, two, one].map((store) => insist(() => store.fanOut(3))))
    t.ok(calls.some(Boolean))
    await Promise.all([one, two].map((store) => insist(() => fanOutAll(store, 4))))
    t.strictSame([await drain(endpoint), await drain(choosy), await drain(later)], [10, 1, 10])
    t.equal(await one.fanOut(99), false, 'and that was that')

    await one.resendAfter(endpoint.id, since)
    await one.resendAfter(endpoint.id, one.now() + hour)
    await happen(one, 2)
    await fanOutAll(one)
    t.equal(await drain(endpoint), 12, 'the earlier time counts, and what is new comes once')
    await one.updateEndpoint(endpoint.id, (current) => ({ ...current, enabled: false }))
    await one.resendAfter(endpoint.id, 0)
    t.equal(await one.fanOut(99), false)
    await one.updateEndpoint(endpoint.id, (current, _, after) => ({ ...current, enabled: true, after }))
    await fanOutAll(one)
    t.equal(await drain(endpoint), 17, 'it waits for a disabled endpoint')
    await close()
  })

  t.test(`${engine}: lists deliveries in pages, by status`, async (t) => {
    const store = await openStore(url(), 4)
    const endpoint = await addEndpoint(store)
    await addEndpoint(store)
    await happen(store, 7)
    await fanOutAll(store)
    const claimed = await store.claimDeliveries(endpoint.id, hour, 3)
    for (const { eventId } of claimed) await store.settleDelivery(endpoint.id, eventId, 1, delivered)
    const ids = (await all(store, endpoint)).map(({ eventId }) => eventId)
    t.strictSame(ids, ids.toSorted().toReversed())
    const list = async (query: object) =>
      (await store.deliveries({ endpointId: endpoint.id, limit: 9, ...query })).map(({ eventId }) =>
        ids.indexOf(eventId),
      )
    const done = claimed.map(({ eventId }) => ids.indexOf(eventId)).toSorted((a, b) => a - b)
    const pending = ids.map((_, index) => index).filter((index) => !done.includes(index))
    t.strictSame(await list({ limit: 2 }), [0, 1])
    t.strictSame(await list({ limit: 3, before: ids[1] }), [2, 3, 4])
    t.strictSame(await list({ status: 'delivered' }), done)
    t.strictSame(await list({ status: 'pending' }), pending)
    t.strictSame(await list({ status: 'pending', before: ids[pending[1] ?? 0], limit: 1 }), [pending[2]])
    t.strictSame(await list({ status: 'failed' }), [])
    t.strictSame(await list({ before: ids.at(-1) }), [])
    await store.close()
  })

  t.test(`${engine}: reports the age of the oldest undelivered event`, async (t) => {
    const store = await openStore(url(), 4)
    const isAbout = async (ms: number | undefined) => {
      const age = await store.oldestPendingDelivery()
      t.ok(
        ms === undefined ? age === undefined : Math.abs((age ?? -1e9) - ms) < minute,
        `${age} ms, not ${ms}`,
      )
    }
    await happen(store, 1)
    await isAbout(undefined)
    const { id } = await addEndpoint(store)
    await isAbout(undefined)
    await happen(store, 2)
    await isAbout(0)
    await fanOutAll(store)
    await isAbout(0)
    const claimed = await store.claimDeliveries(id, hour, 9)
    await isAbout(0)
    for (const { eventId } of claimed) await store.settleDelivery(id, eventId, 1, delivered)
    await isAbout(undefined)
    await store.resend(id, claimed[0]?.eventId ?? '')
    await isAbout(0)
    await store.close()
  })

  t.test(`${engine}: removes old deliveries that ended, and all of a deleted endpoint`, async (t) => {
    const store = await openStore(url(), 4)
    const [endpoint, gone, alsoGone] = [
      await addEndpoint(store),
      await addEndpoint(store),
      await addEndpoint(store),
    ]
    await happen(store, 10)
    await fanOutAll(store)
    for (const { id } of [endpoint, gone])
      for (const { eventId } of await store.claimDeliveries(id, hour, 6))
        await store.settleDelivery(id, eventId, 1, eventId < '8' ? delivered : failed())
    t.equal(await store.expireDeliveries(hour, 100), 0)
    await store.deleteEndpoint(gone.id)
    await store.deleteEndpoint(alsoGone.id)
    t.equal(await store.expireDeliveries(hour, 7), 7)
    let deleted = 7
    for (let batch = 9; batch === 9; deleted += batch) batch = await store.expireDeliveries(hour, 9)
    t.equal(deleted, 20)
    for (const { id } of [gone, alsoGone])
      t.strictSame(await store.deliveries({ endpointId: id, limit: 9 }), [])
    t.equal(await store.expireDeliveries(-1_000, 4), 4)
    t.equal(await store.expireDeliveries(-1_000, 4), 2)
    t.match(
      await all(store, endpoint),
      Array.from({ length: 4 }, () => ({ status: 'pending' })),
    )
    await store.close()
  })

  // Nobody else can write to memory.
  if (engine !== 'memory')
    t.test(`${engine}: claims what is planned too far ahead after the clock was set back`, async (t) => {
      const place = url()
      const store = await openStore(place, 4)
      const { id } = await addEndpoint(store)
      for (let index = 0; index < 2; index++) await store.addDelivery(id, anOwnEvent())
      const [one, two] = (await store.claimDeliveries(id, hour, 9)) as [ClaimedDelivery, ClaimedDelivery]
      await store.settleDelivery(id, one.eventId, 1, failed(1_000 * hour))
      const next = ((await store.nextDeliveriesIn()).get(id) ?? 0) / hour
      t.ok(next > 0.9 && next <= 1, `${next} hours`)
      t.strictSame(await store.claimDeliveries(id, hour, 9), [], 'the store plans nothing that far ahead')
      const later = store.now() + 49 * hour
      if (engine === 'postgres')
        await (server as SharedPostgres).query(
          `UPDATE ${schemaOf(place)}.webhook_deliveries SET next_attempt_at = $1 WHERE event_id = $2`,
          [later, two.eventId],
        )
      else {
        const db = new DatabaseSync(place.slice('sqlite:'.length))
        db.prepare('UPDATE webhook_deliveries SET nextAttemptAt = ? WHERE eventId = ?').run(
          later,
          two.eventId,
        )
        db.close()
      }
      t.equal((await store.nextDeliveriesIn()).get(id), 0)
      t.match(await store.claimDeliveries(id, hour, 9), [{ eventId: two.eventId, attempts: 2 }])
      await store.close()
    })

  t.test(`${engine}: does not depend on the clock of the process`, async (t) => {
    const [one, two, close] = await openTwo()
    const { now } = Date
    t.teardown(() => Object.assign(Date, { now }))
    const { id } = await addEndpoint(one)
    for (let index = 0; index < 6; index++) {
      Date.now = () => now() + [0, 100 * hour, -100 * hour][index % 3]!
      const store = index % 2 ? one : two
      await happen(store, 1)
      await fanOutAll(store)
      const [claimed] = await store.claimDeliveries(id, hour, 9)
      t.ok(Math.abs((claimed?.lastAttemptAt ?? 0) - now()) < 2_000)
      t.strictSame(await store.claimDeliveries(id, hour, 9), [], 'neither due nor too far ahead')
      t.ok(((await store.nextDeliveriesIn()).get(id) ?? 0) > hour / 2)
      t.equal(await store.expireDeliveries(hour, 9), 0)
      await store.settleDelivery(id, claimed?.eventId ?? '', 1, failed(hour))
    }
    await close()
  })
}
