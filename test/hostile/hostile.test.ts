import { readdirSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { fakeMp4, key, startGateway, type TestGateway } from '../support/gateway.ts'
import type { HostileCase } from './case.ts'
import { bodies } from './cases/bodies.ts'
import { forms } from './cases/forms.ts'
import { framing } from './cases/framing.ts'
import { heads } from './cases/heads.ts'
import { paths } from './cases/paths.ts'
import { slow } from './cases/slow.ts'
import { type Exchange, exchange } from './exchange.ts'

const groups = { framing, heads, paths, bodies, forms, slow }

/** The promise: an answer or a clean end within ten seconds. */
const patience = 10_000

t.test('hostile input causes no error 500 and no crash', async (t) => {
  const errors: string[] = []
  const stream = { write: (line: string) => void errors.push(line) }
  const gateway = await startGateway(t, {
    env: { UPLOAD_IDLE_TIMEOUT: '2s', UPLOAD_MAX_BYTES: '1MiB' },
    logger: { level: 'error', stream },
  })
  const cases = Object.entries(groups).flatMap(([group, list]) =>
    list.map((one) => ({ ...one, name: `${group}: ${one.name}` })),
  )
  t.match(await readFile('docs/reliability.md', 'utf8'), `| ${cases.length} cases on raw sockets |`)
  t.equal(new Set(cases.map(({ name }) => name)).size, cases.length, 'each with a name of its own')

  await exchange(gateway.url, ['GET /health/live HTTP/1.1\r\nhost: g\r\n\r\n'], { answers: 1, patience })
  // As many connections as are used at once: those that stay open for the next call count as idle.
  let published = 24
  await Promise.all(Array.from({ length: published }, () => gateway.create({ title: 'warm' })))
  const idle = openDescriptors()
  const play = async (one: HostileCase) => {
    const more = await survives(t, gateway, one)
    published += more
  }
  const quick = cases.filter(({ slow }) => !slow)
  const lanes = [0, 1, 2, 3].map((lane) => quick.filter((_, index) => index % 4 === lane))
  await Promise.all([
    ...cases.filter(({ slow }) => slow).map(play),
    ...lanes.map((lane) => inTurn(lane, play)),
  ])

  t.strictSame(errors, [], 'nothing went wrong inside')
  t.equal(gateway.app.gateway.uploads.size, 0, 'no upload is left under way')
  const { body } = await gateway.call('GET', '/v1/videos?limit=200')
  t.equal(body.items.length, published, 'there are exactly the videos whose creation returned 201')
  t.notMatch(JSON.stringify(body), /\\u0000|\uFFFD|smuggled|__proto__/, 'nothing odd was stored')
  const clips = Object.values(gateway.sandbox.stats().clips).reduce((sum, count) => sum + count, 0)
  t.equal(clips, published, 'nor is more on the platform')
  t.equal((Object.prototype as { stage?: string }).stage, undefined, 'no prototype was touched')

  const video = await gateway.create({ title: 'afterwards' })
  t.equal((await gateway.put(video.id, fakeMp4(5000))).status, 204, 'and it works as before')
  await returnsTo(t, gateway, idle)
})

/** @returns how many videos there are more than before */
async function survives(t: Test, gateway: TestGateway, one: HostileCase): Promise<number> {
  const needsVideo = one.send.some((piece) => typeof piece === 'string' && piece.includes('$ID'))
  const id: string | undefined = needsVideo ? (await gateway.create({ title: 'target' })).id : undefined
  const pieces = one.send.map((piece) =>
    typeof piece === 'string' ? piece.replaceAll('$KEY', key).replaceAll('$ID', id ?? '') : piece,
  )
  const seen = await exchange(gateway.url, pieces, { answers: one.answers ?? 1, patience })
  judge(t, one, seen)
  const alive = ['GET /health/live HTTP/1.1\r\nhost: g\r\n\r\n']
  const health = await exchange(gateway.url, alive, { answers: 1, patience })
  t.equal(health.answers[0]?.status, 200, `${one.name}: it is alive`)
  if (id) await gateway.until(id, ({ stage }) => stage === 'awaiting-upload')
  return Number(needsVideo) + seen.answers.filter(({ status }) => status === 201).length
}

function judge(t: Test, { name, answer, answers = 1 }: HostileCase, seen: Exchange) {
  const outcomes = seen.answers.map(({ status }) => status)
  const right =
    outcomes.length > 0
      ? outcomes.every((status) => answer.includes(status))
      : seen.closed && answer.includes('close')
  t.ok(right, `${name}: ${outcomes.slice(0, 3).join() || (seen.closed ? 'closed' : 'hangs')}`, {
    expected: answer,
    received: seen.answers.slice(0, 2),
    rest: seen.rest.slice(0, 200),
  })
  t.ok(outcomes.length <= answers, `${name}: no more than ${answers} answers`, { outcomes })
  t.equal(seen.rest, '', `${name}: nothing beside the answers`)
  t.ok(seen.milliseconds < patience, `${name}: in time`)
  for (const { status, headers, body } of seen.answers) {
    t.notMatch(
      headers + body,
      /node_modules|\/work\/|\/src\/|\.ts\b|\.js:\d|\bat \w+.*\(|FST_|ERR_|SQLITE/,
      `${name}: tells nothing of the inside`,
    )
    t.notMatch(headers, /^set-cookie|^server:|^x-powered-by/im, name)
    if (status < 400) continue
    const problem = JSON.parse(Buffer.from(body, 'latin1').toString())
    const [, requestId] = /^x-request-id: ([\w.:-]+)\r?$/im.exec(headers) ?? []
    t.ok(requestId, `${name}: has an X-Request-Id`)
    if (!problem.error) t.equal(problem.requestId, requestId, `${name}: and says it`)
    if (problem.error) t.match(problem, { error: String, error_description: String }, name)
    else {
      t.not(problem.detail, problem.title, `${name}: the detail says more than the title`)
      t.match(
        problem,
        { type: /^\/problems\//, title: String, status, detail: String, code: /^[a-z-]+$/ },
        name,
      )
    }
    t.match(headers, problem.error ? /application\/json/ : /application\/problem\+json/, name)
  }
}

async function inTurn<T>(list: T[], work: (one: T) => Promise<void>): Promise<void> {
  for (const one of list) await work(one)
}

/** Where the system cannot tell, the sockets of this process stand for all. */
function openDescriptors(): number {
  try {
    return readdirSync('/proc/self/fd').length
  } catch {
    return process.getActiveResourcesInfo().filter((name) => /TCP|Pipe/.test(name)).length
  }
}

async function returnsTo(t: Test, gateway: TestGateway, idle: number) {
  const { server } = gateway.app.server
  server.closeIdleConnections()
  const connections = () => promisify(server.getConnections.bind(server))()
  for (const deadline = Date.now() + 5000; (await connections()) > 0 && Date.now() < deadline; )
    await sleep(20)
  t.equal(await connections(), 0, 'no connection is left that is not idle')
  for (const deadline = Date.now() + 15_000; openDescriptors() > idle && Date.now() < deadline; )
    await sleep(100)
  t.ok(openDescriptors() <= idle, `descriptors: ${idle} before, ${openDescriptors()} afterwards`)
}
