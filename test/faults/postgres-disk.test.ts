import { spawnSync } from 'node:child_process'
import { chmodSync, chownSync, rmSync, statSync } from 'node:fs'
import { open } from 'node:fs/promises'
import pg from 'pg'
import t from 'tap'
import { startGateway, temporaryDirectory } from '../support/gateway.ts'
import { discardingSandbox, isReady, slowUpload, timed, until } from '../support/outage.ts'
import { type PostgresServer, startPostgres } from '../support/postgres.ts'

/** PostgreSQL's disk is full, and has no more connections to give: each until an operator makes room. */
// A few connections, so that they can all be taken.
const started = await startPostgres({ flags: ['-c', 'max_connections=16'] })
const server = started as PostgresServer
const skip = 'unavailable' in started && started.unavailable
t.teardown(() => server.close?.())

/** A disk of its own, of a few megabytes. @returns undefined where this user may not mount one */
async function smallDisk(mb: number): Promise<string | undefined> {
  const directory = await temporaryDirectory(t)
  const options = ['-t', 'tmpfs', '-o', `size=${mb}m`, 'tmpfs', directory]
  if (spawnSync('mount', options).status !== 0) return undefined
  t.teardown(() => spawnSync('umount', ['-l', directory]))
  return directory
}

/** Writes a file until the disk is full. */
async function fill(file: string): Promise<void> {
  const handle = await open(file, 'w')
  try {
    for (let size = 65_536; size > 0; size = size > 512 ? size / 2 : 0)
      while (
        await handle.write(Buffer.alloc(size)).then(
          () => true,
          () => false,
        )
      );
  } finally {
    await handle.close()
  }
}

const disk = skip ? undefined : await smallDisk(24)
const noDisk = skip || (!disk && 'a small disk cannot be mounted here')

t.test('with a full disk writes return 503, until there is room again', { skip: noDisk }, async (t) => {
  const place = disk as string
  // The server runs as the owner of its cluster.
  const { rows } = await server.query("SELECT current_setting('data_directory') AS directory")
  const { uid, gid } = statSync(rows[0].directory)
  chownSync(place, uid, gid)
  chmodSync(place, 0o700)
  await server.query(`CREATE TABLESPACE small LOCATION '${place}'`)
  await server.query('CREATE DATABASE small TABLESPACE small')
  const url = server.url.replace('/postgres?', '/small?')
  const gateway = await startGateway(t, {
    sandbox: await discardingSandbox(t),
    env: { DATABASE_URL: url, DATABASE_POOL: '4' },
    policy: { uploadLease: 1_000 },
  })
  const video = await gateway.create()
  const upload = slowUpload(gateway, video.id)
  await gateway.until(video.id, ({ stage }) => stage === 'uploading')

  const filler = `${place}/filler`
  await fill(filler)
  const json = { title: 'x', description: 'y'.repeat(4_000) }
  const created: string[] = []
  let refused: Awaited<ReturnType<typeof gateway.call>> | undefined
  for (let count = 0; count < 2_000 && !refused; count++) {
    const answer = await gateway.call('POST', '/v1/videos', { json })
    if (answer.status === 201) created.push(answer.body.id)
    else refused = answer
  }
  t.match(refused, { status: 503, body: { code: 'store-unavailable' } }, `after ${created.length} videos`)
  t.ok(refused?.headers.get('retry-after'))
  await until(async () => !(await isReady(gateway)))
  t.equal((await timed(gateway, `/v1/videos/${video.id}`)).status, 200, 'what is there can be read')

  rmSync(filler)
  await until(() => isReady(gateway))
  upload.finish()
  t.equal((await upload.answer).status, 204, 'the upload has gone on')
  await gateway.until(video.id, ({ status }) => status !== 'pending')
  t.equal((await gateway.call('POST', '/v1/videos', { json })).status, 201)
  for (const id of created) t.equal((await timed(gateway, `/v1/videos/${id}`)).status, 200)
})

t.test('without a free connection calls return 503, until there is one', { skip }, async (t) => {
  const gateway = await startGateway(t, {
    sandbox: await discardingSandbox(t),
    env: { DATABASE_URL: server.newUrl(), DATABASE_POOL: '4' },
    policy: { uploadLease: 1_000 },
  })
  const video = await gateway.create()
  const upload = slowUpload(gateway, video.id)
  await gateway.until(video.id, ({ stage }) => stage === 'uploading')
  // Others take what the gateway's connections leave when they break.
  const others: pg.Client[] = []
  t.teardown(() => Promise.all(others.map((client) => client.end())))
  const takeAll = async (): Promise<void> => {
    for (;;) {
      const client = new pg.Client({ connectionString: server.url })
      client.on('error', () => {})
      try {
        await client.connect()
      } catch (error) {
        t.equal((error as { code?: string }).code, '53300', 'too many connections')
        return
      }
      others.push(client)
    }
  }
  await takeAll()
  await until(async () => {
    await others[0]?.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'video-gateway'",
    )
    await takeAll()
    return !(await isReady(gateway))
  })
  const refused = await timed(gateway, `/v1/videos/${video.id}`)
  t.match(refused, { status: 503, retryAfter: String })
  await Promise.all(others.splice(0).map((client) => client.end()))
  await until(() => isReady(gateway))
  upload.finish()
  t.equal((await upload.answer).status, 204)
})
