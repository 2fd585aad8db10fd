import pg, { type QueryResult } from 'pg'
import t, { type Test } from 'tap'
import type { Stage, Video } from '../../src/publication/video.ts'
import { openStore } from '../../src/store/open.ts'
import { eventStatement } from '../../src/store/postgres/events.ts'
import { listStatement } from '../../src/store/postgres/list.ts'
import { type Statement, statementsFor } from '../../src/store/postgres/statements.ts'
import { deliveriesStatement, webhookStatementsFor } from '../../src/store/postgres/webhook-statements.ts'
import { type PostgresServer, schemaOf, sharedPostgres } from '../support/postgres.ts'
import { aVideo } from '../support/video.ts'
import { expectLists, queries, seed, stages } from './listing.ts'

const started = await sharedPostgres()
const server = started as PostgresServer
const options = { skip: 'unavailable' in started && started.unavailable }
t.teardown(() => server.close?.())

t.test('every combination of filters lists the same rows as a scan', options, async (t) => {
  const store = await openStore(server.newUrl(), 10)
  await expectLists(t, store)
  await store.close()
})

interface Plan {
  'Node Type': string
  'Relation Name'?: string
  'Index Name'?: string
  'Actual Rows': number
  'Actual Loops': number
  'Rows Removed by Filter'?: number
  Plans?: Plan[]
}

function* nodesOf(plan: Plan): Generator<Plan> {
  yield plan
  for (const part of plan.Plans ?? []) yield* nodesOf(part)
}

interface Mix {
  /** SQL over a video's number `n`. */
  stage: string
  platform: string
}

/** What 60,000 videos are. */
const mixes: Record<string, Mix> = {
  'nearly all finished': {
    stage: `CASE WHEN n % 100 = 0 THEN 'processing' WHEN n % 5 = 0 THEN 'failed' WHEN n % 7 = 0 THEN 'deleted'
      ELSE 'ready' END`,
    platform: "(ARRAY['sandbox', 'mux', 'peertube'])[1 + n % 3]",
  },
  'nearly all pending, on one platform': {
    stage: "CASE WHEN n % 5000 = 0 THEN 'failed' WHEN n % 100 = 1 THEN 'ready' ELSE 'processing' END",
    platform: "'mux'",
  },
}
for (const [name, mix] of Object.entries(mixes))
  t.test(`no statement reads more rows than it returns: ${name}`, options, (t) => expectFewRows(t, mix))

async function expectFewRows(t: Test, { stage, platform }: Mix): Promise<void> {
  const url = server.newUrl()
  const schema = schemaOf(url)
  const store = await openStore(url, 10)
  const model = aVideo()
  await server.query(
    `INSERT INTO ${schema}.videos (id, platform, stage, reference, version, epoch, next_check_at, checks, bytes_received,
       updated_at, document)
     SELECT '01900000-0000-7000-8000-' || lpad(n::text, 12, '0'), ${platform},
       ${stage},
       CASE WHEN n % 10 = 0 THEN 'shared' END, 1, 1,
       CASE ${stage} WHEN 'processing' THEN n WHEN 'ready' THEN 1000000000 + n END, 0, 0, 0, $1
     FROM generate_series(1, 60000) AS n`,
    [JSON.stringify(model)],
  )
  await server.query(
    `INSERT INTO ${schema}.idempotency_keys SELECT 'cms', n, '', n, NULL, n FROM generate_series(1, 20000) AS n`,
  )
  await server.query(
    `INSERT INTO ${schema}.leftovers SELECT n, 1, 0, n, n FROM generate_series(1, 20000) AS n`,
  )
  await server.query(
    `INSERT INTO ${schema}.video_events (position, id, video_id, type, created_at, video)
     SELECT n, n, n % 5000, CASE WHEN n % 100 = 0 THEN 'video.ready' ELSE 'video.updated' END, n, '{}'
     FROM generate_series(1, 20000) AS n`,
  )
  // One endpoint's deliveries all wait; nearly all of two others are finished.
  await server.query(
    `INSERT INTO ${schema}.webhook_endpoints (id, slot, document, enabled, events, begins_after, version, resend_since,
       resend_after, resend_up_to)
     SELECT n, n, '{"description":null}', CASE n WHEN 9 THEN 0 ELSE 1 END, CASE n WHEN 3 THEN '["video.ready"]' END, 0, 1,
       CASE n WHEN 1 THEN 0 END, CASE n WHEN 1 THEN 10000 END, CASE n WHEN 1 THEN 20000 END
     FROM generate_series(1, 10) AS n`,
  )
  await server.query(`INSERT INTO ${schema}.webhook_fan_out VALUES (1, 10000)`)
  await server.query(
    `INSERT INTO ${schema}.webhook_deliveries (endpoint_id, event_id, position, type, status, attempts, created_at,
       next_attempt_at, last_attempt_at, result)
     SELECT 1 + n % 3, n, n, 'video.updated',
       CASE WHEN n % 3 = 1 OR n > 39900 THEN 'pending' ELSE 'delivered' END, 1, n,
       CASE WHEN n % 3 = 1 OR n > 39900 THEN n END, n, '{}'
     FROM generate_series(1, 40000) AS n`,
  )
  while ((await server.query(statementsFor(schema).foldCounts.text, [5000])).rows[0].folded > 0);
  await server.query(
    `VACUUM ANALYZE ${schema}.videos, ${schema}.idempotency_keys, ${schema}.leftovers, ${schema}.video_events`,
  )
  await server.query(`VACUUM ANALYZE ${schema}.video_count_changes, ${schema}.video_counts`)
  await server.query(`VACUUM ANALYZE ${schema}.webhook_endpoints, ${schema}.webhook_deliveries`)

  const id = '01900000-0000-7000-8000-000000000100'
  const row = [id, null, 'mux', 'processing', null, 1, 1, 7, null, 0, 0, 0]
  const s = statementsFor(schema)
  const w = webhookStatementsFor(schema)
  const now = Date.now()
  const cases: [string, Statement, unknown[]][] = [
    ['find', s.find, [id]],
    ['current', s.current, [id]],
    ['update', s.update, row],
    ['plan', s.plan, row],
    ['update along', s.updateAlong, [...row, 1, null, true, 'e', 'video.ready', '{}']],
    ['range of events', s.eventRange, []],
    ['place events', s.placeEvents, [500]],
    ['expire events', s.expireEvents, [0, 200]],
    ['claim', s.claimDue, ['mux', 40_000, 50_000, 10 ** 15, 10]],
    ['claim what is planned too far ahead', s.claimDue, ['mux', 0, 50_000, 30_000 - now, 10]],
    ['claim ready', s.claimReady, ['mux', 1_000_000_500, 2_000_000_000, 10 ** 15, 10]],
    ['next due', s.nextDue, ['mux']],
    ['counts', s.counts, []],
    ['fold', s.foldCounts, [5000]],
    ['find key', s.findKey, ['cms', '77']],
    ['answer key', s.saveResponse, ['77', 'f', '{}']],
    ['release key', s.releaseKey, ['78']],
    ['expire keys', s.expireKeys, [now - 10_000, 100]],
    ['expire deleted', s.expireDeleted, [0, 100]],
    ['settle leftover', s.settleLeftover, ['77', 1]],
    ['claim leftover', s.claimLeftover, [30_000]],
    ['plan leftover', s.planLeftover, ['78', 1, 1, 5]],
    ['ping', s.ping, []],
    ['endpoint', w.findEndpoint, ['1']],
    ['what is to be fanned out', w.fanOutState, []],
    ['fan out', w.fanOut, [100]],
    ['continue a resend', w.continueResend, [100]],
    ['begin a resend', w.beginResend, ['4', 5]],
    ['resend', w.resend, ['1', '77']],
    ['resend one that is gone', w.resend, ['1', 'x']],
    ['claim deliveries', w.claimDeliveries, ['1', 60_000, 100, 10 ** 15]],
    ['claim the last pending deliveries', w.claimDeliveries, ['2', 60_000, 100, 10 ** 15]],
    ['claim what is planned too far ahead', w.claimDeliveries, ['3', 60_000, 100, 0]],
    ['settle', w.settleDelivery, ['1', '4', 1, 'delivered', null, '{}']],
    ['keep failing', w.keepFailing, ['1', true]],
    ['next deliveries', w.nextDeliveries, []],
    ['oldest pending', w.oldestPending, []],
    ['expire deliveries', w.expireDeliveries, [0, 100]],
    ['orphan', w.orphan, []],
    ['delete orphans', w.deleteOrphans, ['2', 100]],
  ]
  for (const status of [undefined, 'pending', 'delivered'] as const)
    for (const before of [undefined, '39000']) {
      const { statement, values } = deliveriesStatement(schema, {
        endpointId: '1',
        status,
        before,
        limit: 100,
      })
      cases.push([`deliveries ${status} ${before}`, statement, values])
    }
  for (const video of [undefined, '77'])
    for (const type of [undefined, 'video.ready'] as const) {
      const asked = { after: 10_000, upTo: 20_000, video, type, limit: 100 }
      const { statement, values } = eventStatement(schema, asked)
      cases.push([`events ${JSON.stringify(asked)}`, statement, values])
    }
  for (const query of queries('01900000-0000-7000-8000-000000030000', id)) {
    const { statement, values } = listStatement(schema, query)
    cases.push([`list ${JSON.stringify(query)}`, statement, values])
  }
  const most = 2_000
  for (const [name, { text }, values] of cases) {
    // Named statements are planned once for all values, after a few calls with plans of their own.
    const plans = { values: await planFor(text, values), 'any values': await planForAny(text, values) }
    for (const [which, plan] of Object.entries(plans)) {
      const costly = [...nodesOf(plan)].filter(
        (node) =>
          (node['Node Type'] === 'Seq Scan' &&
            /^(videos|idempotency_keys|leftovers|video_events|webhook_deliveries)$/.test(
              node['Relation Name'] ?? '',
            )) ||
          (node['Actual Rows'] + (node['Rows Removed by Filter'] ?? 0)) * node['Actual Loops'] > most,
      )
      if (costly.length > 0) t.strictSame(costly, [], `${name}, planned for ${which}\n${text}`)
    }
  }
  t.ok(cases.length > 100, `${cases.length} statements`)
  await store.close()
}

async function planFor(text: string, values: unknown[]): Promise<Plan> {
  const { rows } = await server.query(`EXPLAIN (ANALYZE, FORMAT JSON) ${text}`, values)
  return rows[0]['QUERY PLAN'][0].Plan
}

async function planForAny(text: string, values: unknown[]): Promise<Plan> {
  const literals = values.map((value) => (value === null ? 'NULL' : pg.escapeLiteral(String(value))))
  const call = literals.length > 0 ? `tried(${literals})` : 'tried'
  // Several statements in one message run on one connection.
  const results: unknown = await server.query(
    `SET plan_cache_mode = force_generic_plan; PREPARE tried AS ${text};
     EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE ${call}; DEALLOCATE tried; RESET plan_cache_mode`,
  )
  return (results as QueryResult[])[2]!.rows[0]['QUERY PLAN'][0].Plan
}

t.test('the counts include the changes of every process', options, async (t) => {
  const url = server.newUrl()
  const schema = schemaOf(url)
  const [one, two] = [await openStore(url, 4), await openStore(url, 4)]
  const counted = async () =>
    (
      await server.query(
        `SELECT platform, stage, count(*)::int AS count FROM ${schema}.videos GROUP BY 1, 2 ORDER BY 1, 2`,
      )
    ).rows
  const agree = async (what: string) => t.same(await one.counts(), await counted(), what)
  await agree('empty')
  const videos = await seed(one)
  await agree('inserted')
  await Promise.all(
    videos.map(async ({ id }, index) => {
      const store = index % 2 ? one : two
      await store.update(id, (video) => ({ ...video, stage: stages[(index * 5) % 8] as Stage }))
      await store.plan(id, (video) => ({ ...video, nextCheckAt: index }))
    }),
  )
  await agree('updated')
  const { foldCounts } = statementsFor(schema)
  const folds = await Promise.all(Array.from({ length: 4 }, () => server.query(foldCounts.text, [10])))
  t.ok(folds.some(({ rows }) => rows[0].folded > 0))
  await agree('some were added up')
  await server.query(foldCounts.text, [5000])
  t.equal((await server.query(`SELECT count(*)::int AS n FROM ${schema}.video_count_changes`)).rows[0].n, 0)
  await agree('all were added up')
  await one.claimDue({ platform: 'mux', ready: false, claim: 200, horizon: 300, limit: 10 })
  await agree('claimed')
  await t.rejects(one.insert(videos[0] as Video))
  await agree('a write that failed')
  await server.query(`DELETE FROM ${schema}.videos WHERE id < $1`, [videos[9]?.id])
  await agree('deleted by hand')
  for (const store of [one, two]) await store.close()
})
