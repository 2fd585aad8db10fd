import { spawn } from 'node:child_process'
import diagnostics from 'node:diagnostics_channel'
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import { type Line, type Publication, publishThroughCrashes } from '../support/back-office.ts'
import { fakeMp4, type Json, key, startGateway, temporaryDirectory } from '../support/gateway.ts'
import { freePort } from '../support/ports.ts'
import { type PostgresServer, schemaOf, startPostgres } from '../support/postgres.ts'
import { callTo, type GatewayProcess } from '../support/process.ts'
import { startReplicas } from '../support/replicas.ts'

/** How often a replica is killed at a random moment; `npm run soak` asks for more. */
const kills = Number(process.env.REPLICA_KILLS ?? 4)
/** How many videos go through nginx: `npm run soak` asks for 1,000; none here. */
const throughNginx = Number(process.env.REPLICA_PUBLICATIONS ?? 0)
const nginx = '/usr/sbin/nginx'

const started = await startPostgres()
const server = started as PostgresServer
const options = { skip: 'unavailable' in started && started.unavailable, timeout: 180_000 + kills * 5_000 }
t.teardown(() => server.close?.())

/** Longer than a busy machine keeps a process waiting, in ms: a hold that ends under a living replica is not meant here. */
const leases = { living: 9_000, dying: 2_000 }

/** @param replicasAre whether the test kills them, and would wait for the holds of the dead */
async function setUp(t: Test, replicasAre: keyof typeof leases) {
  const lease = String(leases[replicasAre])
  const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 10 } })
  t.teardown(() => sandbox.close())
  const url = server.newUrl()
  const replicas = await startReplicas(t, sandbox, { DATABASE_URL: url, LEASE: lease, CLAIM: lease })
  const clips = () => Object.values(sandbox.stats().clips).reduce((sum, count) => sum + count, 0)
  const stages = async (): Promise<Record<string, number>> => {
    const { rows } = await server.query(
      `SELECT stage, count(*)::int AS n FROM ${schemaOf(url)}.videos GROUP BY stage`,
    )
    return Object.fromEntries(rows.map(({ stage, n }) => [stage, n]))
  }
  const settled = async () => {
    for (const deadline = Date.now() + 30_000; Date.now() < deadline; await sleep(30)) {
      const { provisioning = 0, uploading = 0, processing = 0, deleting = 0 } = await stages()
      if (provisioning + uploading + processing + deleting === 0) return
    }
    throw new Error(`rows are stuck: ${JSON.stringify(await stages())}`)
  }
  return { sandbox, replicas, clips, stages, settled }
}

/** Watches how many status calls the platform gets at the same time for one clip. @returns the largest number */
function watchChecks(t: Test, { url }: Sandbox): () => number {
  const { port } = new URL(url)
  const underWay = new Map<string, number>()
  let most = 0
  const count = (message: unknown, by: 1 | -1) => {
    const { request } = message as { request: IncomingMessage; response: ServerResponse }
    if (request.method !== 'GET' || request.headers.host?.split(':')[1] !== port) return
    const [, id] = /^\/clips\/([^/?]+)$/.exec(request.url ?? '') ?? []
    if (!id) return
    const now = (underWay.get(id) ?? 0) + by
    underWay.set(id, now)
    most = Math.max(most, now)
  }
  const begin = (message: unknown) => count(message, 1)
  const end = (message: unknown) => count(message, -1)
  diagnostics.subscribe('http.server.request.start', begin)
  diagnostics.subscribe('http.server.response.finish', end)
  t.teardown(() => {
    diagnostics.unsubscribe('http.server.request.start', begin)
    diagnostics.unsubscribe('http.server.response.finish', end)
  })
  return () => most
}

t.test('every replica accepts every call, and one of them checks a video', options, async (t) => {
  const { sandbox, replicas } = await setUp(t, 'living')
  // A check takes longer than the pause before the next one.
  sandbox.knobs.processing_delay_ms = 1_500
  sandbox.knobs.faults.push({ operation: 'get', times: 1_000_000, delay_ms: 200 })
  const most = watchChecks(t, sandbox)
  const next = () => replicas.gateway as GatewayProcess
  const videos = await Promise.all(
    Array.from({ length: 30 }, async (_, index) => {
      const made = await next().call(
        'POST',
        '/v1/videos',
        { title: `${index}` },
        { 'idempotency-key': `k${index}` },
      )
      t.equal(made.status, 201)
      return made.body as Json
    }),
  )
  for (const [index, { id }] of videos.entries()) {
    const again = await next().call(
      'POST',
      '/v1/videos',
      { title: `${index}` },
      { 'idempotency-key': `k${index}` },
    )
    t.match(again, { status: 201, body: { id } }, 'a repetition, answered by another one')
  }
  const puts = videos.map(({ id }) => next().call('PUT', `/v1/videos/${id}/content`, fakeMp4(100_000)))
  t.ok((await Promise.all(puts)).every(({ status }) => status === 204))
  const deadline = Date.now() + 30_000
  for (const { id } of videos)
    for (; ; await sleep(20)) {
      const { body } = await next().call('GET', `/v1/videos/${id}/status`)
      if (body.status === 'ready' || Date.now() > deadline) {
        t.equal(body.status, 'ready')
        break
      }
    }
  t.equal(most(), 1, 'no video is checked twice at a time')
  t.ok(sandbox.stats().calls.get >= 2 * videos.length)
  t.equal(sandbox.stats().calls.create, videos.length)
  const statuses = await Promise.all(videos.map(({ id }) => next().call('DELETE', `/v1/videos/${id}`)))
  t.ok(statuses.every(({ status }) => status === 204))
  const { body: list } = await next().call('GET', '/v1/videos')
  t.strictSame(list.items, [])
})

t.test('a DELETE stops the upload of another replica within a third of the lease', options, async (t) => {
  const { replicas, clips, settled } = await setUp(t, 'living')
  const [first, second] = replicas.processes as GatewayProcess[]
  const { body: video } = await first!.call('POST', '/v1/videos', { title: 'x' })
  let sending = true
  const body = new ReadableStream({
    async start(controller) {
      controller.enqueue(fakeMp4(20_000))
      for (; sending; await sleep(20)) controller.enqueue(Buffer.alloc(2_000))
      controller.close()
    },
  })
  const upload = fetch(`${first!.url}/v1/videos/${video.id}/content`, {
    method: 'PUT',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'video/mp4' },
    body,
    duplex: 'half',
  } as RequestInit).then(
    ({ status }) => status,
    () => 'connection closed',
  )
  const stageIs = async (wanted: string) => {
    while ((await second!.call('GET', `/v1/videos/${video.id}`)).body.stage !== wanted) await sleep(20)
  }
  await stageIs('uploading')
  t.equal((await second!.call('DELETE', `/v1/videos/${video.id}`)).status, 204)
  const deleted = performance.now()
  const answer = await Promise.race([upload, sleep(20_000, 'still uploading')])
  const ms = Math.round(performance.now() - deleted)
  sending = false
  // The uploader looks at every third of the lease; the other two are for a slow machine.
  t.ok(ms < leases.living, `stopped after ${ms} ms`)
  t.ok([410, 'connection closed'].includes(answer as number | string), `${answer}`)
  await settled()
  for (const deadline = Date.now() + 10_000; clips() > 0 && Date.now() < deadline; ) await sleep(20)
  t.equal(clips(), 0)
})

t.test('a DELETE stops the upload of another replica at its next renewal', options, async (t) => {
  const sandbox = await startSandbox({ knobs: { discard: true } })
  t.teardown(() => sandbox.close())
  const env = { DATABASE_URL: server.newUrl() }
  const policy = { uploadLease: 3_000 }
  const [first, second] = [
    await startGateway(t, { sandbox, env, policy }),
    await startGateway(t, { sandbox, env, policy }),
  ] as const
  const { id } = await first.create()
  const { store } = first.app.gateway
  const { plan } = store
  /** When the upload was renewed. Nothing else plans anything: no row is due. */
  const renewals: number[] = []
  store.plan = (...args) => {
    renewals.push(performance.now())
    return plan(...args)
  }
  let sending = true
  const body = new ReadableStream({
    async start(controller) {
      controller.enqueue(fakeMp4(20_000))
      for (; sending; await sleep(20)) controller.enqueue(Buffer.alloc(2_000))
      controller.close()
    },
  })
  const upload = first.put(id, body).then(
    ({ status }) => status,
    () => 410,
  )
  while (renewals.length < 2) await sleep(10)
  t.ok(renewals[1]! - renewals[0]! >= policy.uploadLease / 3 - 5, 'a renewal every third')
  t.equal((await second.call('DELETE', `/v1/videos/${id}`)).status, 204)
  const started = renewals.length
  t.equal(await upload, 410)
  sending = false
  // None, if one that was under way has seen it.
  t.ok(renewals.length - started <= 1, `${renewals.length - started} renewals after the answer`)
})

t.test('a rolling restart costs clients at most a retry', options, async (t) => {
  const { sandbox, replicas, clips, stages, settled } = await setUp(t, 'living')
  const most = watchChecks(t, sandbox)
  const answers = new Map<number, number>()
  let unexplained = 0
  const line: Line = {
    get gateway() {
      const gateway = replicas.gateway
      if (!gateway) return undefined
      const call: GatewayProcess['call'] = async (...request) => {
        const answer = await gateway.call(...request)
        answers.set(answer.status, (answers.get(answer.status) ?? 0) + 1)
        if (answer.status === 503 && !answer.headers.get('retry-after')) unexplained++
        return answer
      }
      return { ...gateway, call }
    },
  }
  const { publications, stop } = publish(line, 6)
  const ends: unknown[] = []
  for (const index of [0, 1, 2]) {
    await sleep(400)
    ends.push(await replicas.restart(index, 'SIGTERM'))
  }
  t.same(await stop(), [])
  t.strictSame(ends, [0, 0, 0], 'each ends by itself')
  await settled()
  t.ok(publications.every(({ ready }) => ready))
  t.ok(
    [...answers.keys()].every((status) => [200, 201, 204, 409, 410, 503].includes(status)),
    JSON.stringify([...answers]),
  )
  t.equal(unexplained, 0, 'each 503 says when to come again')
  t.equal(most(), 1)
  const kept = publications.filter(({ deleted }) => !deleted).length
  t.equal(clips(), kept)
  t.strictSame((await stages()).ready, kept)
  t.equal(sandbox.stats().calls.create, publications.length, 'nothing was provisioned twice')
})

t.test(`${kills} kills of replicas, and a restart of the database, lose nothing`, options, async (t) => {
  const { sandbox, replicas, clips, stages, settled } = await setUp(t, 'dying')
  const most = watchChecks(t, sandbox)
  const { publications, stop } = publish(replicas, 6)
  for (let count = 0; count < kills; count++) {
    await sleep(50 + Math.random() * 400)
    await replicas.restart(Math.floor(Math.random() * 3), 'SIGKILL')
    if (count === Math.floor(kills / 2)) {
      await server.kill()
      await sleep(300)
      await server.start()
    }
  }
  t.same(await stop(), [], 'every caller got what it asked for')
  await settled()
  await checkNothingLost(t, { sandbox, publications, clips, stages })
  t.equal(most(), 1, 'no video was checked twice at a time')
  t.comment(`${kills} kills, ${publications.length} publications, 0 lost`)
})

if (throughNginx > 0)
  t.test(
    `${throughNginx} publications through nginx while replicas die and the database restarts twice`,
    {
      ...options,
      timeout: 60_000 + throughNginx * 600,
      skip: options.skip || (!existsSync(nginx) && `no ${nginx}`),
    },
    async (t) => {
      const { sandbox, replicas, clips, stages, settled } = await setUp(t, 'dying')
      const url = await startNginx(
        t,
        replicas.processes.map((one) => one?.url as string),
      )
      const { publications, stop, count } = publish({ gateway: { call: callTo(url) } }, 8, throughNginx)
      let restarts = 0
      for (let killed = 0; count() < throughNginx; killed++) {
        await sleep(300 + Math.random() * 1_500)
        await replicas.restart(killed % 3, 'SIGKILL')
        if (count() > ((restarts + 1) * throughNginx) / 3 && restarts < 2) {
          restarts++
          await server[restarts === 1 ? 'kill' : 'stop']()
          await sleep(2_000)
          await server.start()
        }
      }
      t.same(await stop(), [], 'every caller got what it asked for')
      t.equal(restarts, 2)
      await settled()
      await checkNothingLost(t, { sandbox, publications, clips, stages })
      t.comment(`${publications.length} publications, 0 lost`)
    },
  )

/** Callers that publish one video after the other. */
function publish(line: Line, callers: number, most = Number.POSITIVE_INFINITY) {
  const publications: Publication[] = []
  const failures: unknown[] = []
  let going = true
  let done = 0
  const running = Array.from({ length: callers }, async (_, caller) => {
    for (let count = 0; going && publications.length < most; count++) {
      const publication: Publication = { key: `p-${caller}-${count}` }
      publications.push(publication)
      await publishThroughCrashes(line, publication, count % 2 === 1).catch((error) => failures.push(error))
      done++
    }
  })
  return {
    publications,
    count: () => done,
    /** Lets each finish what it is at. @returns what went wrong */
    async stop() {
      going = false
      await Promise.all(running)
      return failures
    },
  }
}

interface Outcome {
  sandbox: Sandbox
  publications: Publication[]
  clips: () => number
  stages: () => Promise<Record<string, number>>
}

async function checkNothingLost(t: Test, { sandbox, publications, clips, stages }: Outcome): Promise<void> {
  t.ok(
    publications.every(({ ready }) => ready),
    `${publications.length} publications became ready`,
  )
  const kept = publications.filter(({ deleted }) => !deleted).length
  for (const deadline = Date.now() + 20_000; clips() !== kept && Date.now() < deadline; ) await sleep(50)
  t.equal(clips(), kept, 'the platform holds what was not deleted, and nothing else')
  const { deleted = 0, ...others } = await stages()
  t.strictSame(others, { ready: kept }, 'no row is left in the middle')
  t.ok(deleted >= publications.length - kept)
  t.equal(sandbox.stats().calls.create, publications.length, 'nothing was provisioned twice')
}

/** Debian's nginx in front of these. @returns its URL */
async function startNginx(t: Test, urls: string[]): Promise<string> {
  const directory = await temporaryDirectory(t)
  const port = await freePort()
  const servers = urls.map((url) => `server ${new URL(url).host} max_fails=0;`).join(' ')
  await mkdir(`${directory}/logs`, { recursive: true })
  await writeFile(
    `${directory}/nginx.conf`,
    `daemon off; pid ${directory}/nginx.pid; error_log ${directory}/error.log;
    events {}
    http {
      access_log off;
      client_body_temp_path ${directory}/body; proxy_temp_path ${directory}/proxy;
      fastcgi_temp_path ${directory}/fastcgi; uwsgi_temp_path ${directory}/uwsgi; scgi_temp_path ${directory}/scgi;
      upstream gateway { ${servers} }
      server {
        listen 127.0.0.1:${port};
        client_max_body_size 0; proxy_request_buffering off; proxy_http_version 1.1;
        location / { proxy_pass http://gateway; proxy_set_header Host $host:$server_port; }
      }
    }`,
  )
  const child = spawn(nginx, ['-p', directory, '-c', `${directory}/nginx.conf`], { stdio: 'inherit' })
  t.teardown(() => child.kill())
  const url = `http://127.0.0.1:${port}`
  for (let tries = 0; tries < 200; tries++, await sleep(20))
    if (
      await fetch(url).then(
        () => true,
        () => false,
      )
    )
      break
  return url
}
