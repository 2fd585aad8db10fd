import t from 'tap'
import { startDouble as startCloudflare } from '../platform/doubles/cloudflare-stream.ts'
import { startDouble as startMux } from '../platform/doubles/mux.ts'
import { startDouble as startPeerTube } from '../platform/doubles/peertube.ts'
import { type FormSender, formOf, formSenders, homemadeForms } from '../support/form-senders.ts'
import { fakeMp4, key, startGateway } from '../support/gateway.ts'
import { rawConnection, requestHead } from '../support/raw.ts'

/** Longer than what the gateway looks at before it says how long the file is. */
const long = 1_300_000

/** An MP4 of boxes with their sizes, the index in front or behind. */
function boxes(length: number, layout: 'faststart' | 'moov-at-end'): Buffer {
  const file = fakeMp4(length)
  const box = (at: number, type: string, size: number) => {
    file.writeUInt32BE(size, at)
    file.write(type, at + 4, 'latin1')
  }
  box(0, 'ftyp', 24)
  if (layout === 'faststart') {
    box(24, 'moov', 5000)
    box(5024, 'mdat', length - 5024)
  } else {
    box(24, 'mdat', length - 5024)
    box(length - 5000, 'moov', 5000)
  }
  return file
}

/** Sends the form over a connection of its own, in pieces as a network would. @returns the answer as it came */
async function send(url: string, sender: FormSender, fields: Record<string, string>, file: Buffer) {
  const { body, type } = formOf(sender, fields, file)
  const connection = await rawConnection(url)
  const headers = {
    authorization: `Bearer ${key}`,
    'content-type': type,
    'content-length': body.length,
    connection: 'close',
  }
  connection.write(requestHead('POST', '/v1/videos', headers))
  for (let at = 0; at < body.length; at += 70_001) connection.write(body.subarray(at, at + 70_001))
  return connection.rest()
}

for (const [platform, startDouble] of [
  ['mux', startMux],
  ['peertube', startPeerTube],
  ['cloudflare-stream', startCloudflare],
] as const)
  t.test(`${platform} gets the bytes of every kind of form sender unchanged`, async (t) => {
    const double = await startDouble()
    t.teardown(() => double.close())
    const gateway = await startGateway(t, { env: { PLATFORM: platform, ...double.variables } })
    for (const sender of [...formSenders, ...homemadeForms])
      for (const [layout, file] of [
        ['short', fakeMp4(4000)],
        ['faststart', boxes(long, 'faststart')],
        ['moov-at-end', boxes(long, 'moov-at-end')],
      ] as const) {
        const title = `${sender.name}, ${layout}`
        const answer = await send(gateway.url, sender, { title }, file)
        t.match(answer, /^HTTP\/1\.1 201 /, title)
        t.ok(double.content(title)?.equals(file), `${title}: every byte`)
      }
    t.strictSame(double.violations, [])
  })

t.test('mux gets a large file of unknown length in chunks', async (t) => {
  const double = await startMux()
  t.teardown(() => double.close())
  const gateway = await startGateway(t, { env: { PLATFORM: 'mux', ...double.variables } })
  const file = boxes(20_000_003, 'moov-at-end')
  for (const sender of formSenders.filter(({ name }) => name.startsWith('undici'))) {
    const before = double.calls('upload')
    t.match(await send(gateway.url, sender, { title: sender.name }, file), /^HTTP\/1\.1 201 /)
    t.ok(double.content(sender.name)?.equals(file), `${sender.name}: every byte`)
    t.equal(double.calls('upload') - before, 3)
  }
  t.strictSame(double.violations, [])
})

t.test('the size limit applies to a file of unknown length', async (t) => {
  const double = await startPeerTube()
  t.teardown(() => double.close())
  const env = { PLATFORM: 'peertube', ...double.variables, UPLOAD_MAX_BYTES: String(long) }
  const gateway = await startGateway(t, { env })
  for (const sender of [...formSenders.filter(({ name }) => name.startsWith('undici')), ...homemadeForms])
    for (const [length, status] of [
      [long, 201],
      [long + 1, 413],
      [2 * long, 413],
    ] as const) {
      const file = boxes(length, 'moov-at-end')
      const answer = await send(gateway.url, sender, { title: 'xyz' }, file)
      t.match(answer, new RegExp(`^HTTP/1.1 ${status} `), `${sender.name}: ${length} bytes`)
    }
})

t.test('the sandbox accepts the same forms, with and without required lengths', async (t) => {
  for (const needed of ['false', 'true']) {
    const gateway = await startGateway(t, { env: { SANDBOX_LENGTH_REQUIRED: needed } })
    gateway.sandbox.knobs.require_length = needed === 'true'
    for (const sender of formSenders)
      t.match(await send(gateway.url, sender, { title: 'x' }, fakeMp4(4000)), /^HTTP\/1\.1 201 /, sender.name)
    t.equal(gateway.sandbox.stats().received_bytes, formSenders.length * 4000)
    await t.test('a form of unknown length is accepted', async (t) => {
      const { body, type } = formOf(formSenders[0] as FormSender, { title: 'x' }, fakeMp4(4000))
      const answer = await gateway.call('POST', '/v1/videos', {
        body: ReadableStream.from([body]) as never,
        duplex: 'half',
        headers: { 'content-type': type },
      })
      t.equal(answer.status, needed === 'true' ? 411 : 201)
      if (needed === 'true') t.match(answer.body.detail, /field `size`/)
    })
    await gateway.close()
  }
})
