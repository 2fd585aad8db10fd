import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import t from 'tap'
import { tokenRateLimit } from '../../src/http/limits.ts'
import { defaultTools } from '../../src/platform/tools.ts'
import { fakeMp4, key, startGateway, temporaryDirectory } from '../support/gateway.ts'
import { missing, proxies, startProxy } from './proxy.ts'

const run = promisify(execFile)

/** Bodies of rejected uploads: a large one first, then such as no buffers on the way hold. */
const largeBytes = 200 * 1024 * 1024
const otherBytes = 8 * 1024 * 1024
const token = ['-H', `Authorization: Bearer ${key}`]
const mp4 = ['-H', 'Content-Type: video/mp4']

/** How curl speaks to the proxy, and how often one client is rejected and another one follows. */
const protocols = [
  { name: 'HTTP/1.1', options: ['--http1.1'], rounds: 3 },
  { name: 'HTTP/1.1 without Expect', options: ['--http1.1', '-H', 'Expect:'], rounds: 5 },
  { name: 'HTTP/2', options: ['--http2'], rounds: 12 },
]

t.test(
  'the operations guide shows the tested proxy configurations, whose timeouts exceed the platform’s',
  async (t) => {
    const guide = await readFile('docs/operations.md', 'utf8')
    for (const { name, file, timeout } of proxies) {
      t.match(guide, `(../deploy/proxy/${file})`)
      const configuration = await readFile(`deploy/proxy/${file}`, 'utf8')
      const { afterUpload, answer } = defaultTools.timeouts
      if (timeout) t.ok(Number(timeout.exec(configuration)?.[1]) * 1000 >= afterUpload + answer, name)
    }
  },
)

for (const kind of proxies) {
  t.test(`the gateway works behind ${kind.name} as documented`, { skip: missing(kind) }, async (t) => {
    const gateway = await startGateway(t, { env: { TRUSTED_PROXIES: '127.0.0.1' } })
    gateway.sandbox.knobs.discard = true
    const directory = await temporaryDirectory(t)
    const url = await startProxy(t, kind, gateway.url, directory)
    const big = join(directory, 'big.mp4')
    const small = join(directory, 'small.mp4')
    await writeFile(small, fakeMp4(3_000_000))
    await writeFile(big, fakeMp4(1000))

    for (const { name, options, rounds } of protocols) {
      const call = (path: string, ...more: string[]) => curl(directory, [...options, ...more, url + path])
      for (let round = 1; round <= rounds; round++) {
        await truncate(big, round === 1 ? largeBytes : otherBytes)
        const { id } = await gateway.create()
        const content = `/v1/videos/${id}/content`
        const rejected = await call(content, '-T', big, ...mp4)
        t.equal(rejected.status, 401, `${name}, ${round}: the rejection arrives; ${rejected.error}`)
        // curl ends its HTTP/2 stream when it has read the status, and Caddy may then drop the rest of the response.
        if (!rejected.error) t.match(rejected.body, /"code":"unauthorized"/)
        const next = await call(`/v1/videos/${id}`, ...token)
        t.match(
          next,
          { status: 200, body: `"id":"${id}"` },
          `${name}, ${round}: and the next client's GET is its own`,
        )
        await truncate(big, otherBytes)
        const again = await call(content, '-T', big, ...mp4, '-H', 'Authorization: Bearer wrong')
        t.equal(again.status, 401, `${name}, ${round}: another one`)
        if (round > 2) continue
        const [method, ...body] =
          round === 1 ? ['-T', small, ...mp4] : ['-F', `file=@${small};type=video/mp4`]
        const uploaded = await call(content, method as string, ...body, ...token)
        t.equal(uploaded.status, 204, `${name}, ${round}: the next client's upload`)
        t.match((await gateway.call('GET', `/v1/videos/${id}`)).body.upload, { bytesReceived: 3_000_000 })
      }
      t.equal((await call('/metrics')).status, 404, `${name}: what is for operators stays inside`)
      t.equal((await call('/openapi.json')).status, 200)
    }

    // The limit of the token endpoint counts per address: with TRUSTED_PROXIES that is the client's.
    const form = ['-X', 'POST', '-d', 'grant_type=client_credentials', '-u', 'nobody:wrong', '--fail-early']
    const from = (address: string, path: string, ...more: string[]) =>
      curl(directory, ['--interface', address, '-o', '/dev/null', ...form, ...more, url + path])
    await from('127.0.0.2', `/oauth2/token?n=[1-${tokenRateLimit.max}]`)
    t.equal((await from('127.0.0.2', '/oauth2/token')).status, 429, 'one client has used its attempts')
    const forged = await from('127.0.0.2', '/oauth2/token', '-H', 'X-Forwarded-For: 203.0.113.9')
    t.equal(forged.status, 429, 'and cannot get more with a header of its own')
    t.equal((await from('127.0.0.3', '/oauth2/token')).status, 401, 'another one has its own')
  })
}

for (const kind of proxies) {
  t.test(`curl reads an event stream through ${kind.name}`, { skip: missing(kind) }, async (t) => {
    // One place: the next reader gets it only when the gateway has noticed that the last one left.
    const gateway = await startGateway(t, { streamLimits: { total: 1, perClient: 1 } })
    const url = await startProxy(t, kind, gateway.url, await temporaryDirectory(t))
    for (const { name, options } of protocols.filter(({ name }) => !name.includes('Expect'))) {
      const reader = await openStream([...options, `${url}/v1/events`], () => gateway.create())
      const { id } = await gateway.create()
      const event = `event: video.created\ndata: {[^\n]*"id":"${id}"`
      t.match(await reader.until(new RegExp(event)), /^retry: \d+\nid: \d+\n\n/, `${name}: it arrives`)
      await reader.leave()
    }
  })
}

/**
 * Follows events with `curl -N`, once the gateway has a place for it. HAProxy and Apache notice that their client has left
 * when they write to it, so an event is sent each time that there is no place yet.
 */
async function openStream(args: string[], sendEvent: () => Promise<unknown>) {
  for (const deadline = Date.now() + 20_000; ; await sendEvent()) {
    const accept = ['-H', 'Accept: text/event-stream']
    const child = spawn('curl', ['-sSN', '--insecure', '--fail', ...token, ...accept, ...args])
    const closed = once(child, 'close')
    let text = ''
    child.stdout.on('data', (chunk) => {
      text += chunk
    })
    const until = async (pattern: RegExp) => {
      while (!pattern.test(text) && child.exitCode === null && Date.now() < deadline) await sleep(10)
      return pattern.test(text) ? text : `only ${JSON.stringify(text)}`
    }
    await until(/^retry/)
    if (child.exitCode === null || Date.now() > deadline)
      return {
        until,
        async leave() {
          child.kill()
          await closed
        },
      }
  }
}

/** One curl process is one client with a connection of its own. @returns status 0 where it got no response */
async function curl(
  directory: string,
  args: string[],
): Promise<{ status: number; body: string; error: string }> {
  const common = ['-sS', '--insecure', '--max-time', '60', '-w', '\n%{http_code}']
  const { stdout, stderr } = await run('curl', [...common, ...args], { cwd: directory }).catch(
    (error) => error,
  )
  const end = stdout.lastIndexOf('\n')
  return { status: Number(stdout.slice(end + 1)), body: stdout.slice(0, end), error: stderr }
}
