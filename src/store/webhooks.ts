import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { setImmediate as turn } from 'node:timers/promises'
import { type Delivery, longestDeliveryPauseMs, type WebhookStore } from '../publication/webhooks.ts'
import { claimedOf, deliveryOf, endpointOf, endpointValues, fanOutBatch, resultText } from './webhook-rows.ts'
import { deliveriesStatement, prepareWebhookStatements } from './webhook-statements.ts'

type Result = Parameters<WebhookStore['settleDelivery']>

/** The ways of the store to write. */
interface Writes {
  now(): number
  /** Runs a transaction, perhaps several times until the lock is there. */
  durably<T>(work: () => T): Promise<T>
  /** As `durably`, without waiting for the disk. */
  withoutFsync<T>(work: () => T): Promise<T>
}

/** Webhook endpoints and deliveries in SQLite. One process writes at a time, so each transaction sees what is. */
export function createWebhookStore(db: DatabaseSync, { now, durably, withoutFsync }: Writes): WebhookStore {
  const statements = prepareWebhookStatements(db)
  const lists = new Map<string, StatementSync>()
  const lastPosition = () => (statements.lastPosition.get() as { last: number }).last
  const find = (id: string) => {
    const row = statements.findEndpoint.get(id)
    return row && endpointOf(row)
  }

  /** @returns whether there may be more */
  function fanOutEvents(limit: number): boolean {
    const start = statements.fanOutStart.get() as { position: number | null; endpoints: number }
    if (start.position === null) return false
    const size = fanOutBatch(limit, start.endpoints)
    const { events, last } = batchAfter(start.position, lastPosition(), size)
    if (last === null) return false
    statements.addDeliveries.run(now(), start.position, last)
    statements.fannedOut.run(last)
    return events === size
  }

  function batchAfter(position: number, upTo: number, limit: number) {
    return statements.batch.get(position, upTo, limit) as { events: number; last: number | null }
  }

  /** Continues the first resend of an enabled endpoint. @returns whether there is more */
  function continueResend(limit: number): boolean {
    const [first, second] = statements.resends.all() as {
      id: string
      resendAfter: number
      resendUpTo: number
    }[]
    if (!first) return false
    const { id, resendAfter, resendUpTo } = first
    const { events, last } = batchAfter(resendAfter, resendUpTo, limit)
    if (last !== null) statements.resendBatch.run(now(), resendAfter, last, id)
    const ended = events < limit
    if (ended) statements.endResend.run(id)
    else statements.resent.run(id, last)
    return !ended || second !== undefined
  }

  /** Results of one turn of the event loop share a transaction, which costs more than the result itself. */
  let results: Result[] = []
  let settling: Promise<void> | undefined

  function settle(...[endpointId, eventId, attempts, result]: Result): void {
    const { failure, retryIn } = result
    const time = now()
    const retries = failure !== undefined && retryIn !== undefined
    const status = failure === undefined ? 'delivered' : retries ? 'pending' : 'failed'
    const next = retries ? time + Math.round(Math.min(retryIn, longestDeliveryPauseMs)) : null
    const key = [endpointId, eventId, attempts] as const
    if (statements.settle.run(...key, status, next, resultText(result)).changes === 0) return
    statements.keepFailing.run(endpointId, failure === undefined ? null : time)
  }

  return {
    insertEndpoint: (make, limit) =>
      durably(() => {
        const taken = new Set(statements.slots.all().map(({ slot }) => slot))
        if (taken.size >= limit) return undefined
        const endpoint = make(now(), lastPosition())
        let slot = 1
        while (taken.has(slot)) slot++
        statements.insertEndpoint.run(slot, ...endpointValues(endpoint))
        return endpoint
      }),
    findEndpoint: async (id) => find(id),
    endpoints: async () => statements.endpoints.all().map(endpointOf),
    updateEndpoint: (id, change, notice) =>
      durably(() => {
        const current = find(id)
        if (!current) return undefined
        const time = now()
        const changed = change(current, time, lastPosition())
        if (changed === current) return current
        const next = { ...changed, version: current.version + 1 }
        statements.updateEndpoint.run(...endpointValues(next))
        const event = notice?.(next)
        if (event) statements.notify.run(id, event.id, event.type, event.body, time)
        return next
      }),
    deleteEndpoint: (id) => durably(() => statements.deleteEndpoint.run(id).changes > 0),

    async fanOut(limit) {
      if (!(statements.unsent.get() as { any: number }).any) return false
      return withoutFsync(() => {
        const hasMore = fanOutEvents(limit)
        return continueResend(limit) || hasMore
      })
    },
    async claimDeliveries(endpointId, claim, limit) {
      const time = now()
      const due = [endpointId, time, time + longestDeliveryPauseMs] as const
      if (!statements.anyDue.get(...due, 1)) return []
      return withoutFsync(() => {
        const rows = statements.due.all(...due, limit)
        const begun = now()
        const claimed = { lastAttemptAt: begun, nextAttemptAt: begun + claim }
        const ids = JSON.stringify(rows.map(({ eventId }) => eventId))
        statements.claim.run(endpointId, claimed.lastAttemptAt, claimed.nextAttemptAt, ids)
        return rows
          .toSorted((a, b) => Number(a.dueAt) - Number(b.dueAt))
          .map((row) => claimedOf({ ...row, ...claimed, attempts: Number(row.attempts) + 1 }))
      })
    },
    async nextDeliveriesIn() {
      const rows = statements.nextDeliveries.all() as { id: string; first: number; last: number }[]
      const time = now()
      return new Map(
        rows.map(({ id, first, last }) => [id, last > time + longestDeliveryPauseMs ? 0 : first - time]),
      )
    },
    settleDelivery(...result) {
      results.push(result)
      settling ??= turn().then(() => {
        const batch = results
        results = []
        settling = undefined
        return withoutFsync(() => {
          for (const each of batch) settle(...each)
        })
      })
      return settling
    },

    async deliveries({ endpointId, status, before, limit }) {
      const sql = deliveriesStatement(status !== undefined, before !== undefined)
      const statement = lists.get(sql) ?? db.prepare(sql)
      lists.set(sql, statement)
      const values = [endpointId, status, before].filter((value) => value !== undefined)
      return statement.all(...values, limit).map(deliveryOf)
    },
    resend: (endpointId, eventId) =>
      durably(() => {
        const key = [now(), endpointId, eventId] as const
        const row = statements.resendOwn.get(...key) ?? statements.resendEvent.get(...key)
        return row && deliveryOf(row)
      }),
    resendAfter: (endpointId, since) => durably(() => void statements.beginResend.run(endpointId, since)),
    addDelivery: (endpointId, { id, type, body }) =>
      durably(() => deliveryOf(statements.addOwn.get(now(), endpointId, id, type, body) ?? {}) as Delivery),
    async oldestPendingDelivery() {
      const { at } = statements.oldestPending.get() as { at: number | null }
      return at === null ? undefined : Math.max(0, now() - at)
    },
    async expireDeliveries(age, limit) {
      return withoutFsync(() => {
        let deleted = Number(statements.expireDeliveries.run(now() - age, limit).changes)
        while (deleted < limit) {
          const orphan = statements.orphan.get() as { id: string } | undefined
          if (!orphan) break
          deleted += Number(statements.deleteOrphans.run(orphan.id, limit - deleted).changes)
        }
        return deleted
      })
    },
  }
}
