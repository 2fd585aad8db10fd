import type { EventRange } from '../../publication/store.ts'
import { longestDeliveryPauseMs, type WebhookStore } from '../../publication/webhooks.ts'
import {
  claimedOf,
  deliveryOf,
  endpointOf,
  endpointValues,
  fanOutBatch,
  resultText,
} from '../webhook-rows.ts'
import type { Database } from './pool.ts'
import { deliveriesStatement, webhookStatementsFor } from './webhook-statements.ts'

/**
 * Webhook endpoints and deliveries in PostgreSQL.
 * @param eventRange gives events that are committed their positions
 */
export function createWebhookStore(
  { query, write }: Pick<Database, 'query'> & { write: Database['query'] },
  eventRange: () => Promise<EventRange>,
  schema: string,
): WebhookStore {
  const statements = webhookStatementsFor(schema)

  async function find(id: string) {
    const [row] = await query(statements.findEndpoint, [id])
    return row && endpointOf(row)
  }

  return {
    async insertEndpoint(make, limit) {
      const { last } = await eventRange()
      const [counted] = await query(statements.endpointCount)
      let count: number = counted?.count
      const endpoint = make(counted?.now, last)
      while (count < limit) {
        const rows = await write(statements.insertEndpoint, [...endpointValues(endpoint), limit])
        if (rows.length > 0) return endpoint
        // Else another one was added at the same moment.
        count = (await query(statements.endpointCount))[0]?.count
      }
      return undefined
    },
    findEndpoint: find,
    endpoints: async () => (await query(statements.endpoints)).map(endpointOf),
    async updateEndpoint(id, change, notice) {
      for (;;) {
        const { last } = await eventRange()
        const [row] = await query(statements.currentEndpoint, [id])
        if (!row) return undefined
        const current = endpointOf(row)
        const changed = change(current, row.now, last)
        if (changed === current) return current
        const next = { ...changed, version: current.version + 1 }
        const event = notice?.(next)
        const rows = await write(statements.updateEndpoint, [
          ...endpointValues(next),
          current.version,
          current.failingSince,
          ...(event ? [event.id, event.type, event.body] : [null, null, null]),
        ])
        if (rows.length > 0) return next
      }
    },
    deleteEndpoint: async (id) => (await write(statements.deleteEndpoint, [id])).length > 0,

    async fanOut(limit) {
      const [state] = await query(statements.fanOutState)
      if (!state?.endpoints) return false
      let hasMore = false
      if (state.unplaced || state.behind) {
        if (state.unplaced) await eventRange()
        if (!state.begun) await write(statements.beginFanOut)
        const size = fanOutBatch(limit, state.endpoints)
        hasMore = (await write(statements.fanOut, [size]))[0]?.events === size
      }
      if (state.resends === 0) return hasMore
      const [resent] = await write(statements.continueResend, [limit])
      return hasMore || (resent !== undefined && (resent.events === limit || state.resends > 1))
    },
    async claimDeliveries(...values) {
      const rows = await write(statements.claimDeliveries, [...values, longestDeliveryPauseMs])
      // An update returns its rows in any order.
      return rows.toSorted((a, b) => a.dueAt - b.dueAt).map(claimedOf)
    },
    async nextDeliveriesIn() {
      const rows = (await query(statements.nextDeliveries)).filter(({ first }) => first !== null)
      return new Map(
        rows.map(({ id, now, first, last }) => [id, last > now + longestDeliveryPauseMs ? 0 : first - now]),
      )
    },
    async settleDelivery(endpointId, eventId, attempts, result) {
      const hasFailed = result.failure !== undefined
      const retryIn = hasFailed ? result.retryIn : undefined
      const status = !hasFailed ? 'delivered' : retryIn === undefined ? 'failed' : 'pending'
      const pause = retryIn === undefined ? null : Math.round(Math.min(retryIn, longestDeliveryPauseMs))
      const values = [endpointId, eventId, attempts, status, pause, resultText(result)]
      const [row] = await write(statements.settleDelivery, values)
      // A transaction of its own: one that holds a delivery must not wait for its endpoint, which a resend may hold.
      if (row && (row.failingSince !== null) !== hasFailed)
        await write(statements.keepFailing, [endpointId, hasFailed])
    },

    async deliveries(asked) {
      const { statement, values } = deliveriesStatement(schema, asked)
      return (await query(statement, values)).map(deliveryOf)
    },
    async resend(endpointId, eventId) {
      const [row] = await write(statements.resend, [endpointId, eventId])
      return row && deliveryOf(row)
    },
    async resendAfter(endpointId, since) {
      await eventRange()
      await write(statements.beginResend, [endpointId, since])
    },
    async addDelivery(endpointId, { id, type, body }) {
      const [row] = await write(statements.addOwn, [endpointId, id, type, body])
      return deliveryOf(row ?? {})
    },
    async oldestPendingDelivery() {
      const [row] = await query(statements.oldestPending)
      return typeof row?.at === 'number' ? Math.max(0, row.now - row.at) : undefined
    },
    async expireDeliveries(age, limit) {
      let deleted = (await write(statements.expireDeliveries, [age, limit])).length
      while (deleted < limit) {
        const [orphan] = await query(statements.orphan)
        const rows = orphan && (await write(statements.deleteOrphans, [orphan.id, limit - deleted]))
        // Another process may be deleting them.
        if (!rows?.length) break
        deleted += rows.length
      }
      return deleted
    },
  }
}
