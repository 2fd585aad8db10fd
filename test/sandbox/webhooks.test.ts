import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { sign } from '../../sandbox/webhooks.ts'
import { startClient } from './client.ts'

t.test(
  'the sandbox sends a webhook for a live or failed clip, and repeats it until it is accepted',
  async (t) => {
    const received: { signature: string; body: string }[] = []
    const server = createServer(async (request, response) => {
      const body = Buffer.concat(await request.toArray()).toString()
      received.push({ signature: String(request.headers['sandbox-signature']), body })
      response.writeHead(received.length === 1 ? 500 : 204).end()
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.teardown(() => server.close())
    const { port } = server.address() as AddressInfo
    const client = await startClient(t)
    const { knobs, stats } = client.sandbox
    Object.assign(knobs, { discard: true, processing_delay_ms: 1 })
    knobs.webhook = { url: `http://127.0.0.1:${port}/hook`, secret: 'shared' }

    const clip = await client.create({ external_ref: 'ref-1' })
    await client.put(clip.ingest_url, Buffer.from('bytes'))
    while (received.length < 2) await sleep(10)
    for (const { signature, body } of received) {
      const [time = '', given] = signature.split(';')
      t.equal(given, sign('shared', time, body))
      t.strictSame(JSON.parse(body), { event: 'clip.live', clip_id: clip.clip_id, external_ref: 'ref-1' })
    }
    knobs.fail_processing = { kind: 'broken', text: 'for the test' }
    const second = await client.create({ external_ref: 'ref-2' })
    await client.put(second.ingest_url, Buffer.from('bytes'))
    while (received.length < 3) await sleep(10)
    t.match(JSON.parse(received[2]!.body), { event: 'clip.failed', external_ref: 'ref-2' })
    while (stats().notifications.delivered < 2) await sleep(10)
    t.strictSame(stats().notifications, { delivered: 2, failed: 1 })
  },
)
