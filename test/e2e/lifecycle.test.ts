import { readFile } from 'node:fs/promises'
import { imageSize } from 'image-size'
import { ALL_FORMATS, BufferSource, Input } from 'mediabunny'
import t from 'tap'
import { platformDefinitions } from '../../src/platform/registry.ts'
import { form, makeFiles, startGateway } from '../support/gateway.ts'

async function measure(bytes: Uint8Array) {
  const input = new Input({ source: new BufferSource(bytes), formats: ALL_FORMATS })
  const track = await input.getPrimaryVideoTrack()
  return { duration: await input.computeDuration(), width: track?.displayWidth, height: track?.displayHeight }
}

t.test('a video passes through its lifecycle, for every kind of MP4, raw and as a form', async (t) => {
  const files = await makeFiles(t)
  const gateway = await startGateway(t)
  for (const kind of ['faststart', 'moovAtEnd', 'fragmented', 'portrait'] as const) {
    const file = await readFile(files[kind])
    const truth = await measure(file)
    for (const way of ['raw', 'form', 'one call'] as const) {
      await t.test(`${kind}, ${way}`, async (t) => {
        let video =
          way === 'one call'
            ? undefined
            : await gateway.create({ title: `${kind} ${way}`, reference: `${kind}-${way}` })
        if (video) {
          t.match(video, {
            status: 'pending',
            stage: 'awaiting-upload',
            error: null,
            description: null,
            upload: { bytesReceived: 0, bytesTotal: null },
          })
          t.equal(video.upload.url, `${gateway.url}/v1/videos/${video.id}/content`)
          t.ok(video.platform.videoId)
          t.match(video.id, /^[0-9a-f]{8}-[0-9a-f]{4}-7/)
        }
        if (way === 'raw')
          t.strictSame(await gateway.put(video.id, file).then(({ status, body }) => ({ status, body })), {
            status: 204,
            body: '',
          })
        if (way === 'form')
          t.equal(
            (await gateway.call('POST', `/v1/videos/${video.id}/content`, { body: form({}, file) })).status,
            204,
          )
        if (way === 'one call') {
          const { status, headers, body } = await gateway.call('POST', '/v1/videos', {
            body: form({ title: 'one', reference: `${kind}-${way}` }, file),
          })
          t.equal(status, 201)
          t.equal(headers.get('location'), `/v1/videos/${body.id}`)
          video = body
          t.equal(video.stage, 'processing')
        }

        const status = await gateway.until(video.id, ({ status }) => status !== 'pending')
        t.match(status, {
          status: 'ready',
          stage: 'ready',
          error: null,
          upload: { bytesReceived: file.length, bytesTotal: file.length },
        })
        const { body: info, status: infoStatus } = await gateway.call('GET', `/v1/videos/${video.id}/info`)
        t.equal(infoStatus, 200)
        t.match(info, { mimeType: 'application/vnd.apple.mpegurl', width: truth.width, height: truth.height })
        t.ok(Math.abs(info.duration - truth.duration) < 0.1, `${info.duration} is ${truth.duration}`)
        const playlist = await fetch(info.launchUrl).then((response) => response.text())
        t.match(playlist, /^#EXTM3U/)

        const { body: thumbnail } = await gateway.call('GET', `/v1/videos/${video.id}/thumbnail`)
        const picture = imageSize(await fetch(thumbnail.url).then((response) => response.bytes()))
        t.strictSame(
          { width: picture.width, height: picture.height, type: picture.type },
          { width: thumbnail.width, height: thumbnail.height, type: 'jpg' },
        )

        const { body: list } = await gateway.call(
          'GET',
          `/v1/videos?reference=${encodeURIComponent(`${kind}-${way}`)}&status=ready`,
        )
        t.strictSame(
          list.items.map(({ id }: { id: string }) => id),
          [video.id],
        )
        for (const again of [1, 2])
          t.equal((await gateway.call('DELETE', `/v1/videos/${video.id}`)).status, 204, `delete ${again}`)
        for (const path of ['', '/status', '/info', '/thumbnail']) {
          const gone = await gateway.call('GET', `/v1/videos/${video.id}${path}`)
          t.match(gone, { status: 410, body: { code: 'video-deleted' } }, `GET ${path} afterwards`)
        }
        t.match(await gateway.put(video.id, file), { status: 410 })
        t.same(
          (await gateway.call('GET', `/v1/videos?reference=${encodeURIComponent(`${kind}-${way}`)}`)).body
            .items,
          [],
        )
      })
    }
  }
})

t.test('a file that the platform cannot process becomes an error with its reason', async (t) => {
  const files = await makeFiles(t)
  const gateway = await startGateway(t)
  const garbage = Buffer.concat([(await readFile(files.faststart)).subarray(0, 32), Buffer.alloc(5000, 1)])
  for (const [file, reason] of [
    [await readFile(files.audioOnly), /video/],
    [garbage, /./],
  ] as const) {
    const video = await gateway.create()
    t.equal((await gateway.put(video.id, file)).status, 204)
    const status = await gateway.until(video.id, ({ status }) => status !== 'pending')
    t.match(status, {
      status: 'error',
      stage: 'failed',
      error: { code: 'platform-processing-failed', message: reason },
    })
    t.match(await gateway.call('GET', `/v1/videos/${video.id}/info`), {
      status: 409,
      body: { code: 'video-not-ready' },
    })
    t.match(await gateway.put(video.id, file), { status: 409, body: { code: 'content-already-uploaded' } })
    t.equal((await gateway.call('DELETE', `/v1/videos/${video.id}`)).status, 204)
  }
})

t.test('the URLs of a video contain the path of PUBLIC_URL', async (t) => {
  const gateway = await startGateway(t, { env: { PUBLIC_URL: 'https://cms.example/video/' } })
  const { headers, body } = await gateway.call('POST', '/v1/videos', { json: { title: 'one' } })
  t.equal(headers.get('location'), `/video/v1/videos/${body.id}`)
  t.equal(body.upload.url, `https://cms.example/video/v1/videos/${body.id}/content`)
})

t.test('the list has pages, newest first', async (t) => {
  const gateway = await startGateway(t)
  const ids: string[] = []
  for (let count = 0; count < 5; count++) ids.unshift((await gateway.create({ title: `video ${count}` })).id)
  const seen: string[] = []
  for (let cursor = ''; ; ) {
    const { body } = await gateway.call(
      'GET',
      `/v1/videos?limit=2&platform=sandbox&status=pending${cursor && `&cursor=${cursor}`}`,
    )
    seen.push(...body.items.map(({ id }: { id: string }) => id))
    if (!body.nextCursor) break
    cursor = body.nextCursor
  }
  t.strictSame(seen, ids)
  t.match(await gateway.call('GET', '/v1/videos?limit=05'), { status: 200 })
  const numbers = ['0', '201', 'x', '', '1.5', '1e1', 'true', '0x10', '-1', '%2B1', '%201', '9'.repeat(400)]
  const limits = numbers.map((number) => `limit=${number}`)
  for (const query of [...limits, 'limit=1&limit=2', 'cursor=nonsense', 'status=done', 'order=asc']) {
    t.match(
      await gateway.call('GET', `/v1/videos?${query}`),
      { status: 400, body: { code: 'invalid-request' } },
      query,
    )
  }
})

t.test('an unknown platform in a list filter is rejected with the known names', async (t) => {
  const gateway = await startGateway(t)
  await gateway.create()
  const list = (platform: string) =>
    gateway.call('GET', `/v1/videos?platform=${encodeURIComponent(platform)}`)
  t.equal((await list('sandbox')).body.items.length, 1)
  for (const { name } of platformDefinitions)
    t.match(await list(name), { status: 200 }, `${name} may still have videos, configured or not`)
  for (const name of ['vimeo', '', 'Sandbox', 'sandbox ', 'constructor', 'sandbox,mux', '%'])
    t.match(
      await list(name),
      { status: 400, body: { errors: [{ path: 'platform', message: /^must be one of .*sandbox.*mux/ }] } },
      name,
    )
})
