import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { platformDefinitions } from '../../src/platform/registry.ts'
import { defaultTools } from '../../src/platform/tools.ts'
import { fakeMp4, startGateway, temporaryDirectory } from '../support/gateway.ts'
import { databaseText, notIn } from '../support/secrets.ts'
import type { Operation, PlatformDouble } from './double.ts'

t.jobs = platformDefinitions.length

for (const { name } of platformDefinitions) {
  t.test(`${name}: its secrets stay in memory with any response`, { buffered: true }, async (t) => {
    const double: PlatformDouble = await (await import(`./doubles/${name}.ts`)).startDouble()
    t.teardown(() => double.close())
    const { gateway, directory, lines, answers, call } = await setUp(t, double)

    /** As far as the faults let it go. @returns the stage of the video, undefined when there is none */
    async function live(title: string): Promise<string | undefined> {
      const created = await call('POST', '/v1/videos', { json: { title } })
      if (created.status !== 201) return undefined
      const path = `/v1/videos/${created.body.id}`
      const headers = { 'content-type': 'video/mp4' }
      const { status } = await call('PUT', `${path}/content`, { body: fakeMp4(300_000) as never, headers })
      if (status === 204) {
        double.finish(title)
        await gateway.until(created.body.id, ({ checkedAt }) => checkedAt)
        double.clearFaults()
        await gateway.until(created.body.id, ({ status }) => status !== 'pending')
      }
      for (const part of ['', '/status', '/info', '/thumbnail']) await call('GET', path + part)
      const { stage } = (await call('GET', path)).body
      await call('DELETE', path)
      return stage
    }

    t.equal(await live('A good day'), 'ready')
    const operations: Operation[] = ['token', 'provision', 'upload', 'status', 'info', 'thumbnail', 'remove']
    const stages = new Set<string | undefined>()
    for (const operation of operations) {
      for (const status of [500, 401, 200]) {
        // The platform gives away all it knows.
        double.fail(operation, { status, body: { error: double.secrets().join(' ') } }, 2)
        if (operation === 'token') double.tokens?.revoke()
        stages.add(await live(`A bad day of ${operation}, ${status}`))
        double.clearFaults()
        // Requests for tokens are paced.
        while (operation === 'token' && (await live('A better day')) !== 'ready') await sleep(100)
      }
    }
    t.ok(stages.has('ready') && stages.size > 1, 'some went well, some did not')
    for (const path of ['/metrics', '/openapi.json', '/v1/videos']) await call('GET', path)

    const database = await databaseText(directory, 'gateway.db')
    t.ok(lines.length > 100 && answers.length > 100 && database.length > 4096, 'there is something to search')
    t.strictSame(double.violations, [])
    const secrets = double.secrets().map((secret): [string, string] => [`a secret of ${name}`, secret])
    notIn(t, { log: lines.join(), answers: answers.join(), database }, secrets)
  })
}

async function setUp(t: Test, double: PlatformDouble) {
  const directory = await temporaryDirectory(t)
  const [lines, answers]: [string[], string[]] = [[], []]
  const gateway = await startGateway(t, {
    logger: { level: 'trace', stream: { write: (line: string) => void lines.push(line) } },
    tools: {
      timeouts: { ...defaultTools.timeouts, answer: 2_000, afterUpload: 2_000 },
      retries: 0,
      chunks: { attempts: 2, firstDelay: 10 },
      circuit: { failures: 1_000, halfOpenAfter: 100 },
    },
    env: {
      ...double.variables,
      PLATFORM: double.definition.name,
      DATABASE_URL: `sqlite:${join(directory, 'gateway.db')}`,
    },
  })
  const call: typeof gateway.call = async (...request) => {
    const answer = await gateway.call(...request)
    answers.push(JSON.stringify([...answer.headers]), JSON.stringify(answer.body))
    return answer
  }
  return { gateway, directory, lines, answers, call }
}
