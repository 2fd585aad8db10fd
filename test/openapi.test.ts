import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import t from 'tap'
import { problems } from '../src/errors.ts'
import { type Json, startGateway } from './support/gateway.ts'

const file = readFileSync(new URL('../openapi/openapi.json', import.meta.url), 'utf8')
const operations: [string, Json][] = Object.entries(JSON.parse(file).paths).flatMap(([path, item]) =>
  Object.entries(item as object).map(([method, operation]): [string, Json] => [
    `${method} ${path}`,
    operation,
  ]),
)

t.test('the document in the repository is what the gateway serves', async (t) => {
  const gateway = await startGateway(t)
  const { body } = await gateway.call('GET', '/openapi.json', { headers: { authorization: '' } })
  t.strictSame(body, JSON.parse(file), 'if not: npm run openapi')
  const docs = await gateway.call('GET', '/docs/', { headers: { authorization: '' } })
  t.match(docs, { status: 200, body: /swagger-ui/ })
})

t.test('the linter reports nothing', async (t) => {
  t.doesNotThrow(() => execFileSync('redocly', ['lint', 'openapi/openapi.json'], { stdio: 'pipe' }))
})

t.test('every operation is complete', async (t) => {
  for (const [name, operation] of operations) {
    t.ok(
      operation.summary && operation.operationId && operation.tags?.length === 1,
      `${name} has a summary, an id, a tag`,
    )
    const answers: [string, Json][] = Object.entries(operation.responses)
    for (const [status, { content, description }] of answers) {
      t.ok(description, `${name} ${status} is described`)
      if (Number(status) >= 400 && content?.['application/problem+json']) {
        t.ok(
          Object.keys(content['application/problem+json'].examples).every((code) => code in problems),
          `${name} ${status} has its codes`,
        )
      }
    }
    const guarded = operation.security?.length > 0
    t.equal(
      answers.some(([status]) => status === '401'),
      guarded || name.includes('oauth2/token') || name.includes('/webhook'),
      `${name} tells of 401`,
    )
    t.equal(
      answers.some(([status]) => status === '403'),
      guarded,
      `${name} tells of 403`,
    )
    const good = answers.find(([status]) => status.startsWith('2'))?.[1]
    if (good?.content) t.match(JSON.stringify(good), /example|\$ref/, `${name} has an example`)
  }
})
