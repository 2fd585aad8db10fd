import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { Agent, request } from 'undici'
import { readConnection } from '../../src/store/postgres/connection.ts'

/**
 * The least that a poller over PostgreSQL can do, by `pg` and undici alone: claims the videos that are due, asks for each
 * and plans its next check after `CYCLE` ms. No back-off, no lifecycle, no log.
 */
const target = process.env.TARGET as string
const cycle = Number(process.env.CYCLE)
const places = 32
const { config, schema } = readConnection(process.env.DATABASE_URL as string)
const pool = new pg.Pool({ ...config, max: 10 })
const dispatcher = new Agent()
const now = 'floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint'
const claim = {
  name: 'claim',
  text: `UPDATE ${schema}.videos SET next_check_at = ${now} + 60000, epoch = epoch + 1 WHERE id IN (
    SELECT id FROM ${schema}.videos WHERE platform = 'sandbox' AND stage <> 'ready' AND next_check_at <= ${now}
    ORDER BY next_check_at LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING id, document`,
}
const plan = {
  name: 'plan',
  text: `UPDATE ${schema}.videos SET next_check_at = ${now} + $2::bigint, checks = checks + 1 WHERE id = $1
    AND set_config('synchronous_commit', 'off', true) = 'off'`,
}
let running = 0

process.send?.({ url: target })
process.once('disconnect', () => process.exit())

for (;;) {
  const free = places - running
  if (free < places / 4) {
    await sleep(1)
    continue
  }
  const { rows } = await pool.query({ ...claim, values: [free] })
  for (const row of rows) void check(row)
  if (rows.length < free) await sleep(20)
}

async function check({ id, document }: { id: string; document: { slot: { videoId: string } } }) {
  running += 1
  const headers = { authorization: 'Bearer bench' }
  const { body } = await request(`${target}/clips/${document.slot.videoId}`, { dispatcher, headers })
  await body.json()
  await pool.query({ ...plan, values: [id, cycle] })
  running -= 1
}
