import { readFileSync } from 'node:fs'
import t from 'tap'
import { form, startGateway } from '../support/gateway.ts'

const file = readFileSync(new URL('../../sandbox/sample.mp4', import.meta.url))

t.test('an optional field of a form that is empty counts as absent', async (t) => {
  const gateway = await startGateway(t)
  const optional = ['description', 'reference', 'platform', 'size', '_charset_']
  const all = Object.fromEntries(optional.map((name) => [name, '']))
  for (const fields of [...optional.map((name) => ({ [name]: '' })), all]) {
    const { status, body } = await gateway.call('POST', '/v1/videos', {
      body: form({ ...fields, title: 'Élan' }, file),
    })
    t.match(
      { status, ...body },
      { status: 'pending', title: 'Élan', description: null, reference: null, platform: { name: 'sandbox' } },
      Object.keys(fields).join(', '),
    )
    t.equal(status, 201)
  }
  const { id } = await gateway.create()
  const { status } = await gateway.call('POST', `/v1/videos/${id}/content`, {
    body: form({ size: '', _charset_: '' }, file),
  })
  t.equal(status, 204)
})

t.test('empty fields do not count for an Idempotency-Key', async (t) => {
  const gateway = await startGateway(t)
  const send = (fields: Record<string, string>) =>
    gateway.call('POST', '/v1/videos', {
      headers: { 'idempotency-key': 'k' },
      body: form({ title: 'x', ...fields }, file),
    })
  const first = await send({})
  const second = await send({ description: '', platform: '' })
  t.equal(second.headers.get('idempotency-replayed'), 'true')
  t.equal(second.body.id, first.body.id)
})

t.test('an empty required, an unknown and a blank field are rejected by name', async (t) => {
  const gateway = await startGateway(t)
  for (const [fields, path] of [
    [{ title: '' }, '/title'],
    [{ title: 'x', platform: ' ' }, /platform/],
    [{ title: 'x', tag: '' }, '/tag'],
  ] as [Record<string, string>, string | RegExp][]) {
    const { status, body } = await gateway.call('POST', '/v1/videos', { body: form(fields, file) })
    t.match({ status, errors: body.errors }, { status: 400, errors: [{ path }] }, JSON.stringify(fields))
  }
  const { status } = await gateway.call('POST', '/v1/videos', { json: { title: 'x', platform: '' } })
  t.equal(status, 400, 'JSON says what it means')
})
