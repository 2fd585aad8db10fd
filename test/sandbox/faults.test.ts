import { fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { FaultRule } from '../../sandbox/knobs.ts'
import { fetchToken, kindOf, startClient } from './client.ts'

t.test('faults apply in the order of the list, as often as configured', async (t) => {
  const { sandbox, call } = await startClient(t)
  sandbox.knobs.faults.push(
    { operation: 'list', times: 2, status: 503, headers: { 'retry-after': '1' } },
    { operation: 'create', times: 1, status: 200, body: '<html>', headers: { 'content-type': 'text/html' } },
    { operation: 'list', times: 1, status: 429, body: { odd: true } },
  )
  for (const status of [503, 503]) {
    const answer = await call('GET', '/clips')
    t.equal(answer.status, status)
    t.equal(answer.headers.get('retry-after'), '1')
    t.equal(answer.body.fault.kind, 'injected')
  }
  t.match(await call('GET', '/clips'), { status: 429, body: { odd: true } })
  t.equal((await call('GET', '/clips')).status, 200)
  await t.rejects(call('POST', '/clips', { name: 'x' }), SyntaxError)
  t.same(sandbox.knobs.faults, [])
  t.equal(sandbox.stats().calls.list, 4)
})

t.test('a fault can delay a response, withhold it or reset the connection', async (t) => {
  const { sandbox, call, token } = await startClient(t)
  const started = performance.now()
  sandbox.knobs.faults = [{ operation: 'list', times: 1, delay_ms: 60 }]
  t.equal((await call('GET', '/clips')).status, 200)
  t.ok(performance.now() - started >= 55)

  sandbox.knobs.faults = [
    { operation: 'list', times: 1, reset: true },
    { operation: 'list', times: 1, hang: true },
  ]
  const reset = await call('GET', '/clips').catch((error) => error.cause)
  t.match(reset.code, /ECONNRESET|UND_ERR_SOCKET/)
  const headers = { authorization: `Bearer ${token}` }
  await t.rejects(fetch(`${sandbox.url}/clips`, { headers, signal: AbortSignal.timeout(80) }), {
    name: 'TimeoutError',
  })
  t.equal((await call('GET', '/clips')).status, 200)

  sandbox.knobs.token_delay_ms = 60
  const asked = performance.now()
  await fetchToken(sandbox)
  t.ok(performance.now() - asked >= 55)
})

t.test('a fault can lose the response to work that was done', async (t) => {
  const { sandbox, call } = await startClient(t)
  sandbox.knobs.faults = [{ operation: 'create', times: 1, reset: true, late: true }]
  await t.rejects(call('POST', '/clips', { name: 'x', external_ref: 'lost' }))
  t.equal((await call('GET', '/clips?external_ref=lost')).body.clips.length, 1)
  sandbox.knobs.faults = [
    { operation: 'create', times: 1, status: 502, late: true, body: { bad: 'gateway' } },
  ]
  t.match(await call('POST', '/clips', { name: 'x', external_ref: 'bad' }), {
    status: 502,
    body: { bad: 'gateway' },
  })
  t.equal((await call('GET', '/clips?external_ref=bad')).body.clips.length, 1)
})

t.test('a fault can interrupt an upload', async (t) => {
  const { sandbox, create, put, until, call } = await startClient(t, { knobs: { discard: true } })
  const { clip_id, ingest_url } = await create()
  const body = Buffer.alloc(1024 * 1024)
  const fault = (rule: Partial<FaultRule>) => {
    sandbox.knobs.faults = [{ operation: 'ingest', times: 1, ...rule }]
  }
  fault({ status: 507, after_bytes: 100_000 })
  const full = await put(ingest_url, body)
  t.equal(full.status, 507)
  t.equal(await kindOf(full), 'injected')
  t.match(await until(clip_id, 'empty'), { received_bytes: 0 })

  fault({ reset: true, after_bytes: 100_000 })
  await t.rejects(put(ingest_url, body))
  await until(clip_id, 'empty')

  fault({ hang: true, stall_ms: 150, after_bytes: 100_000 })
  const abort = AbortSignal.timeout(100)
  await t.rejects(fetch(ingest_url, { method: 'PUT', body, signal: abort }), { name: 'TimeoutError' })
  await until(clip_id, 'empty')

  fault({ status: 500, after_bytes: 10 * body.length })
  t.equal((await put(ingest_url, body)).status, 500, 'bodies that end earlier meet it at their end')

  fault({ reset: true, late: true })
  await t.rejects(put(ingest_url, body))
  t.equal((await until(clip_id, 'live')).received_bytes, body.length, 'the answer only was lost')

  sandbox.knobs.fail_processing = { kind: 'too_dull', text: 'nobody would watch it' }
  const next = await create()
  await put(next.ingest_url, body)
  const { failure } = await until(next.clip_id, 'failed')
  t.same(failure, { kind: 'too_dull', text: 'nobody would watch it' })
  t.equal(sandbox.knobs.fail_processing, null)
  t.equal((await call('GET', '/_stats')).body.open_uploads, 0)
})

t.test('the sandbox runs as a process of its own', async (t) => {
  const child = fork(new URL('../../sandbox/main.ts', import.meta.url), ['0'], { silent: true })
  const [{ url }] = (await once(child, 'message')) as [{ url: string }]
  t.equal((await fetch(`${url}/_stats`)).status, 200)
  child.disconnect()
  const [code] = await once(child, 'exit')
  t.equal(code, 0)
})

t.test('a response can be held back after its work was done', async (t) => {
  const { sandbox, call } = await startClient(t)
  sandbox.knobs.hold = ['create']
  const creating = call('POST', '/clips', { name: 'x' })
  while (sandbox.stats().held_answers === 0) await sleep(5)
  t.equal((await call('GET', '/clips')).body.clips.length, 1, 'the others are answered')
  t.equal(sandbox.stats().held_answers, 1)
  sandbox.knobs.hold = []
  t.equal((await creating).status, 201)
  t.equal(sandbox.stats().held_answers, 0)
})
