import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import t from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { loadConfig } from '../../src/config/config.ts'
import { defaultTools } from '../../src/platform/tools.ts'
import { startDouble } from '../platform/doubles/sandbox.ts'
import { slow, type Wire } from '../platform/wire.ts'
import { type Json, key, startGateway } from '../support/gateway.ts'
import { type GatewayProcess, startProcess } from '../support/process.ts'

t.test('a platform call ends before the claim on its row expires', async (t) => {
  t.ok(
    defaultTools.timeouts.whole <
      loadConfig({ PLATFORM: 'sandbox', SANDBOX_BASE_URL: 'http://x' }).policy.claim,
  )
})

t.test('a platform that drips its response causes a 504, on every endpoint', async (t) => {
  const double = await startDouble()
  t.teardown(() => double.close())
  const gateway = await startGateway(t, {
    env: double.variables,
    tools: {
      timeouts: { ...defaultTools.timeouts, whole: 500 },
      circuit: { failures: 1_000, halfOpenAfter: 100 },
    },
  })
  const create = () => gateway.call('POST', '/v1/videos', { json: { title: 'x' } })
  while ((await create()).status !== 201) await sleep(100)
  for (const wire of Object.keys(slow) as Wire[]) {
    double.fail('provision', { wire })
    t.match(await create(), { status: 504, body: { code: 'platform-timeout' } }, wire)
  }
  double.tokens?.revoke()
  double.fail('token', { wire: 'a train of 103 Early Hints' })
  t.match(await create(), { status: 504, body: { code: 'platform-timeout' } }, 'a token')
  t.strictSame(double.violations, [])
})

const linux = process.platform === 'linux' ? false : 'reads /proc'
t.test('compressed responses of a gigabyte are not inflated', { skip: linux }, async (t) => {
  const double = await startDouble()
  t.teardown(() => double.close())
  const gateway = await startProcess(t, { ...double.variables, DATABASE_URL: 'memory:' })
  // Members of a gzip file may follow one another (RFC 1952 §2.2).
  const body = Buffer.concat(Array(64).fill(gzipSync(Buffer.alloc(16 * 2 ** 20))))
  const bomb = {
    status: 200,
    headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' },
    body,
  }
  const create = () => gateway.call('POST', '/v1/videos', { title: 'x' })
  double.fail('token', bomb)
  t.match(await create(), { status: 502, body: { code: 'platform-protocol-error' } }, 'a token')
  await sleep(1_100)
  t.equal((await create()).status, 201)
  double.fail('provision', bomb, 10)
  const answers = await Promise.all(Array.from({ length: 10 }, create))
  t.ok(answers.every(({ status }) => status === 502))
  const peak = Number(
    /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${gateway.child.pid}/status`, 'utf8'))?.[1],
  )
  t.ok(peak < 400 * 1024, `${Math.round(peak / 1024)} MiB at most`)
})

const prlimit = spawnSync('prlimit', ['--version']).status === 0
const skip = prlimit ? false : 'needs prlimit (util-linux) to take a running process its descriptors'

for (const host of ['127.0.0.1', 'localhost']) {
  t.test(
    `exhausted file descriptors do not count as a failure of the platform: ${host}`,
    { skip },
    async (t) => {
      const first = await startSandbox()
      const { port } = new URL(first.url)
      const gateway = await startProcess(t, {
        SANDBOX_BASE_URL: `http://${host}:${port}`,
        DATABASE_URL: 'memory:',
      })
      // One connection, which is there before none can be made.
      const agent = new Agent({ keepAlive: true, maxSockets: 1 })
      t.teardown(() => agent.destroy())
      const create = () => post(agent, `${gateway.url}/v1/videos`, { title: 'x' })
      t.equal((await create()).status, 201)
      // So that kept connections to the platform are of no use.
      await first.close()
      const second = await startSandbox({ port: Number(port) })
      t.teardown(() => second.close())

      // 0 to 2 are taken, and what is open stays so: nothing can be opened.
      limitDescriptors(gateway, 3)
      for (let i = 0; i < 12; i++) {
        const answer = await create()
        t.match(answer, { status: 503, body: { code: 'platform-unavailable', detail: /no free socket/ } })
        t.equal(answer.retryAfter, '5')
      }
      limitDescriptors(gateway, 1_000)
      t.equal((await create()).status, 201, 'immediately, because the circuit is closed')
      t.notMatch(gateway.output(), /platform circuit changed state/)
    },
  )
}

/** Sets how many files and sockets a running process may have open (getrlimit(2)). */
function limitDescriptors({ child }: GatewayProcess, count: number): void {
  execFileSync('prlimit', ['--pid', String(child.pid), `--nofile=${count}:`])
}

function post(agent: Agent, url: string, json: object) {
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
  return new Promise<{ status: number | undefined; retryAfter: string | undefined; body: Json }>(
    (resolve, reject) => {
      const call = request(url, { agent, method: 'POST', headers }, async (response) => {
        let text = ''
        for await (const piece of response) text += piece
        const retryAfter = response.headers['retry-after']
        resolve({ status: response.statusCode, retryAfter, body: JSON.parse(text) })
      })
      call.on('error', reject).end(JSON.stringify(json))
    },
  )
}
