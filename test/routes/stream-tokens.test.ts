import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { VideoGateway } from '../../client/src/index.ts'
import { audience, startIssuer } from '../auth/issuer-double.ts'
import { openStream } from '../support/event-stream.ts'
import { startGateway } from '../support/gateway.ts'

const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

t.test('a stream ends when its access token expires, and continues with the next one', async (t) => {
  const issuer = await startIssuer(t)
  const gateway = await startGateway(t, { env: { OAUTH_ISSUER: issuer.url, OAUTH_AUDIENCE: audience } })
  const { url } = gateway
  const signFor = (seconds: number, scope = 'videos:read') =>
    issuer.sign({ exp: Math.floor(Date.now() / 1000) + seconds, scope })
  const token = await signFor(3)
  const stream = await openStream(t, url, '', bearer(token))
  const [lasting, key] = [await openStream(t, url, '', bearer(await signFor(600))), await openStream(t, url)]
  await gateway.create({ title: 'before' })
  const { id = '' } = await stream.until(({ event }) => event === 'video.created')
  const late = await Promise.race([stream.ended, sleep(15_000, 'late', { ref: false })])
  t.equal(late, undefined, 'the stream has ended')
  await gateway.create({ title: 'meanwhile' })

  const again = await openStream(t, url, '', { ...bearer(await signFor(600)), 'last-event-id': id })
  t.match(await again.until(({ event }) => event === 'video.created'), {
    data: { data: { title: 'meanwhile' } },
  })
  for (const open of [lasting, key])
    t.ok(await open.until(({ data }) => data?.data.title === 'meanwhile'), 'other streams go on')
  const lost = await openStream(t, url, '', {
    ...bearer(await signFor(600, 'videos:write')),
    'last-event-id': id,
  })
  t.equal(lost.status, 403, 'scopes are checked again')
  // The gateway allows for five seconds between clocks.
  for (let tries = 0; tries < 100; tries++, await sleep(100)) {
    const { status, ended } = await openStream(t, url, '', { ...bearer(token), 'last-event-id': id })
    if (status === 401) break
    t.equal(status, 200)
    await ended
  }
  t.equal((await openStream(t, url, '', bearer(token))).status, 401, 'the old token opens no stream')
  for (const open of [again, lasting, key]) open.close()
})

t.test('the client continues with a new token each time', async (t) => {
  const issuer = await startIssuer(t)
  const gateway = await startGateway(t, { env: { OAUTH_ISSUER: issuer.url, OAUTH_AUDIENCE: audience } })
  let tokens = 0
  const client = new VideoGateway({
    url: gateway.url,
    token() {
      tokens++
      return issuer.sign({ exp: Math.floor(Date.now() / 1000) + 2 })
    },
  })
  const made: string[] = []
  const received = new Set<string>()
  const signal = AbortSignal.timeout(30_000)
  const reading = (async () => {
    for await (const { data } of client.events({ after: '0', type: 'video.created', signal })) {
      received.add(data.title)
      if (data.title === 'last') return
    }
  })()
  for (; tokens < 3 && !signal.aborted; await sleep(100)) {
    made.push(`video ${made.length}`)
    await gateway.create({ title: made.at(-1) })
  }
  await gateway.create({ title: 'last' })
  await reading
  t.strictSame([...received], [...made, 'last'])
})
