import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { type Delivery, VideoGateway } from '../../client/src/index.ts'
import { generateGatewaySecret } from '../../src/auth/gateway-secret.ts'
import { key, startGateway, temporaryDirectory } from '../support/gateway.ts'
import { codeInGuide, startProgram } from '../support/guide.ts'
import { installPackages } from '../support/packages.ts'
import { freePort } from '../support/ports.ts'

/** A receiver that uses a third-party library. */
const receiverWith = (library: string) => `
import { createServer } from 'node:http'
import { Webhook } from ${JSON.stringify(library)}
const webhook = new Webhook(process.env.WEBHOOK_SECRET)
createServer(async (request, response) => {
  try {
    const event = webhook.verify(Buffer.concat(await request.toArray()).toString(), request.headers)
    console.log(event.type, event.data.id, event.data.version)
    response.writeHead(204).end()
  } catch (error) {
    response.writeHead(401).end(error.message)
  }
}).listen(process.env.PORT)
`

const directory = await temporaryDirectory(t)
const guide = codeInGuide('webhook-receiver')
/** The receivers, and why one cannot be tried. */
const receivers: [name: string, code: string, skip: string | undefined][] = [
  ['the guide’s', guide.replace('@video-gateway/client', resolve('client/src/index.ts')), undefined],
  ['standardwebhooks', receiverWith(import.meta.resolve('standardwebhooks')), undefined],
  ['svix', receiverWith('svix'), await installPackages(directory, ['svix@1'])],
]

t.test('receivers with several libraries verify webhooks, and reject forged ones', async (t) => {
  t.ok(guide.trim().split('\n').length <= 16, 'the receiver of the guide is short')
  const env = { GATEWAY_SECRET: generateGatewaySecret() }
  // An attempt that fails is made again at once.
  const gateway = await startGateway(t, { env, webhooks: { retryIn: () => 100, interval: 100 } })
  const client = new VideoGateway({ url: gateway.url, token: key })

  /** Waits for a delivery of an endpoint, ten seconds at most. */
  async function delivery(id: string, matches: (delivery: Delivery) => boolean): Promise<Delivery> {
    for (const deadline = Date.now() + 10_000; ; await sleep(50)) {
      const { items } = await client.webhooks.deliveries(id)
      const found = items.find(matches)
      if (found) return found
      if (Date.now() > deadline) throw new Error(`only ${JSON.stringify(items)}`)
    }
  }

  for (const [name, code, skip] of receivers)
    await t.test(name, skip ? { skip } : {}, async (t) => {
      const path = join(directory, 'receiver.mjs')
      await writeFile(path, code)
      const port = await freePort()
      const created = await client.webhooks.create({ url: `http://127.0.0.1:${port}/`, description: name })
      const { id, secret } = created
      const wrong = await startProgram(t, path, { WEBHOOK_SECRET: `whsec_${btoa('x'.repeat(32))}` }, port)
      const { eventId } = await client.webhooks.test(id)
      const rejected = await delivery(id, ({ responseStatus }) => responseStatus === 401)
      t.match(rejected, { eventId, status: 'pending', failure: 'status', response: /signature/i })
      t.equal(wrong.output(), '')
      await wrong.stop()

      const right = await startProgram(t, path, { WEBHOOK_SECRET: secret }, port)
      t.match(await delivery(id, ({ status }) => status === 'delivered'), { eventId, failure: null })
      const video = await gateway.create({ title: `Öffnung “${name}”` })
      await gateway.put(video.id, readFileSync('sandbox/sample.mp4'))
      const ready = await delivery(id, ({ type, status }) => type === 'video.ready' && status === 'delivered')
      t.match(right.output(), `webhook.test ${id} 1\n`)
      t.match(right.output(), `video.created ${video.id} `)
      t.match(right.output(), `video.ready ${video.id} `)

      const before = right.output().length
      const { secret: next } = await client.webhooks.renewSecret(id)
      await client.webhooks.resend(id, ready.eventId)
      const again = await delivery(id, (one) => one.eventId === ready.eventId && one.status === 'delivered')
      t.equal(again.responseStatus, 204, 'the secret before the renewal still fits')
      if (name === 'the guide’s') t.equal(right.output().length, before, 'and what comes again is ignored')
      await right.stop()

      if (name !== 'the guide’s') return
      const renewed = await startProgram(t, path, { WEBHOOK_SECRET: next }, port)
      await client.webhooks.resendSince(id, new Date(Date.now() - 60_000))
      for (const deadline = Date.now() + 10_000; Date.now() < deadline; await sleep(50))
        if (renewed.output().includes(`video.ready ${video.id}`)) break
      t.match(renewed.output(), `video.created ${video.id} `, 'everything since a time')
      await renewed.stop()

      const disabled = await client.webhooks.update(id, { enabled: false })
      t.match(disabled, { id, enabled: false })
      t.strictSame(await client.webhooks.get(id), disabled)
      t.strictSame(await client.webhooks.list(), [disabled])
      await t.rejects(client.webhooks.test(id), { status: 409, code: 'webhook-disabled' })
      await client.webhooks.remove(id)
      await t.rejects(client.webhooks.get(id), { status: 404, code: 'webhook-not-found' })
    })
})
