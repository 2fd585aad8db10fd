import { readdir, realpath } from 'node:fs/promises'
import { request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { kindOf, slowly, startClient } from './client.ts'

const chunk = Buffer.alloc(16 * 1024, 1)

/** Starts an upload that can be broken off. */
function startPut(url: string, length?: number) {
  const put = request(url, { method: 'PUT', ...(length && { headers: { 'content-length': length } }) })
  put.on('error', () => {})
  put.write(chunk)
  return put
}

t.test('an invalid upload is rejected with its reason', async (t) => {
  const { sandbox, create, put, call, until } = await startClient(t)
  const { clip_id, ingest_url } = await create()
  const refused = async (answer: Response, status: number, kind: string) => {
    t.equal(answer.status, status)
    t.equal(await kindOf(answer), kind)
  }
  await refused(await put(ingest_url, 'x', { authorization: 'Bearer x' }), 400, 'credentials_leaked')
  t.equal(sandbox.stats().credentials_leaked, 1)
  await refused(await put(ingest_url.replace(/token=.*/, 'token=guess'), 'x'), 403, 'bad_ingest_token')
  await refused(await put(`${sandbox.url}/ingest/none?token=x`, 'x'), 404, 'unknown_clip')
  await refused(await put(ingest_url, null), 422, 'empty_body')
  await refused(await put(ingest_url, slowly([], 0)), 422, 'empty_body')
  sandbox.knobs.require_length = true
  await refused(await put(ingest_url, slowly([chunk], 0)), 411, 'length_required')
  t.match((await call('GET', `/clips/${clip_id}`)).body, { state: 'empty', received_bytes: 0 })

  t.equal((await put(ingest_url, chunk, { 'content-type': 'application/json' })).status, 204)
  await refused(await put(ingest_url, chunk), 409, 'has_content')
  await until(clip_id, 'failed')
  await refused(await put(ingest_url, chunk), 409, 'has_content')
})

t.test('an upload that is cut short leaves the clip empty', async (t) => {
  const { sandbox, create, put, until } = await startClient(t, { knobs: { discard: true } })
  const { clip_id, ingest_url } = await create()
  const first = startPut(ingest_url, 10 * chunk.length)
  await until(clip_id, 'receiving')
  const second = await put(ingest_url, 'x')
  t.equal(second.status, 409)
  t.equal(await kindOf(second), 'busy')
  t.equal(sandbox.stats().open_uploads, 1)
  first.destroy()
  t.match(await until(clip_id, 'empty'), { received_bytes: 0 })
  t.equal(sandbox.stats().open_uploads, 0)
  t.equal((await put(ingest_url, slowly([chunk, chunk], 10))).status, 204)
  t.match(await until(clip_id, 'live'), { received_bytes: 2 * chunk.length })
})

t.test('partial files are removed, and all files at the end', async (t) => {
  const directory = await realpath(t.testdir({}))
  const { TMPDIR } = process.env
  process.env.TMPDIR = directory
  const { sandbox, create, until } = await startClient(t)
  if (TMPDIR === undefined) delete process.env.TMPDIR
  else process.env.TMPDIR = TMPDIR
  const partial = async () =>
    (await readdir(directory, { recursive: true })).filter((name) => name.endsWith('.part'))
  const { clip_id, ingest_url } = await create()
  const put = startPut(ingest_url)
  await until(clip_id, 'receiving')
  while ((await partial()).length === 0) await sleep(5)
  put.destroy()
  await until(clip_id, 'empty')
  for (const deadline = Date.now() + 5000; (await partial()).length > 0 && Date.now() < deadline; )
    await sleep(5)
  t.same(await partial(), [])
  await sandbox.close()
  t.same(await readdir(directory), [])
})

t.test('a deletion aborts the upload', async (t) => {
  const { sandbox, create, call, until } = await startClient(t)
  const { clip_id, ingest_url } = await create()
  const put = startPut(ingest_url)
  const broken = new Promise((resolve) => put.once('error', resolve))
  await until(clip_id, 'receiving')
  t.equal((await call('DELETE', `/clips/${clip_id}`)).status, 204)
  t.match(await broken, { code: 'ECONNRESET' })
  t.equal((await call('GET', `/clips/${clip_id}`)).status, 404)
  t.equal(sandbox.stats().open_uploads, 0)
})

t.test('closing does not wait for an upload', async (t) => {
  const { sandbox, create, until } = await startClient(t, { knobs: { read_bytes_per_second: 10 } })
  const { clip_id, ingest_url } = await create()
  const put = startPut(ingest_url)
  const broken = new Promise((resolve) => put.once('error', resolve))
  await until(clip_id, 'receiving')
  await sandbox.close()
  t.ok(await broken)
})

t.test('a slow reader holds the sender back', async (t) => {
  const rate = 64 * 1024 * 1024
  const { create, until, sandbox } = await startClient(t, {
    knobs: { discard: true, read_bytes_per_second: rate },
  })
  const { clip_id, ingest_url } = await create()
  const size = rate / 2
  const put = request(ingest_url, { method: 'PUT', headers: { 'content-length': size } })
  const answered = new Promise<number | undefined>((resolve) =>
    put.once('response', (r) => resolve(r.statusCode)),
  )
  const started = performance.now()
  const block = Buffer.alloc(1024 * 1024)
  let waited = 0
  for (let sent = 0; sent < size; sent += block.length) {
    if (put.write(block)) continue
    waited += 1
    await new Promise((resolve) => put.once('drain', resolve))
  }
  put.end()
  t.equal(await answered, 204)
  const took = performance.now() - started
  t.ok(took >= 450, `half a second's worth took ${Math.round(took)} ms`)
  t.ok(waited > 0, 'the sender had to wait')
  t.match(await until(clip_id, 'live'), { received_bytes: size })
  t.equal(sandbox.stats().received_bytes, size)
})
