import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib'
import { ClientSecretBasic } from 'openid-client'
import t from 'tap'
import { clientCredentials } from '../../../src/platform/http/oauth.ts'
import { createTokenCache } from '../../../src/platform/http/token-cache.ts'
import { defaultTools } from '../../../src/platform/tools.ts'
import { get, post, setUp } from './http-setup.ts'
import { toolsFor } from './token-setup.ts'

const token = JSON.stringify({ access_token: 'abc', token_type: 'bearer', expires_in: 60 })
/** 20 MiB of spaces in front: whoever decompresses sees a valid body, or its size. */
const body = ' '.repeat(20 * 2 ** 20) + token
const codings: Record<string, Buffer> = {
  gzip: gzipSync(body),
  'x-gzip': gzipSync(body),
  GZIP: gzipSync(body),
  deflate: deflateSync(body),
  br: brotliCompressSync(body),
  zstd: zstdCompressSync(body),
  'gzip, gzip': gzipSync(gzipSync(body)),
  'deflate, br': brotliCompressSync(deflateRawSync(body)),
  'identity, gzip': gzipSync(body),
  nonsense: Buffer.from(token),
}
const type = { 'content-type': 'application/json' }

t.test('no response is decompressed', async (t) => {
  const { http, fail, seen, origin } = await setUp(t, {
    tools: { retries: 0, timeouts: defaultTools.timeouts },
  })
  const ask = () =>
    createTokenCache(
      'acme',
      clientCredentials(() => ({
        http,
        tokenEndpoint: `${origin}/token`,
        clientId: 'gateway',
        authentication: ClientSecretBasic('secret'),
      })),
      toolsFor(),
    ).header()
  for (const [coding, bytes] of Object.entries(codings)) {
    const fault = { status: 200, headers: { ...type, 'content-encoding': coding }, body: bytes }
    const works: (() => Promise<unknown>)[] = [() => http.send(get), () => http.send(post), ask]
    for (const work of works) {
      fail(fault)
      await t.rejects(work, { code: 'platform-protocol-error', message: /compressed/ }, coding)
    }
    fail({ ...fault, status: 503 })
    await t.rejects(http.send(get), { code: 'platform-unavailable' }, 'a refusal is one by its status')
  }
  fail({ status: 200, headers: { ...type, 'content-encoding': 'identity' }, body: token })
  t.equal(await ask(), 'Bearer abc')
  fail({ status: 200, headers: { 'content-encoding': 'gzip' }, body: '' })
  t.match(await http.send(get), { status: 200 }, 'no body, no coding')
  await http.send(get)
  await http.send(post)
  t.ok(seen.every(({ headers }) => headers['accept-encoding'] === 'identity'))
})
