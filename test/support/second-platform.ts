import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'
import type { Config } from '../../src/config/config.ts'
import { sandbox } from '../../src/platform/sandbox/sandbox.ts'
import type { PlatformTools } from '../../src/platform/tools.ts'

/** Another platform in addition to the sandbox, named `second`, that speaks the sandbox's API at this URL. */
export function secondPlatform(url: string): Config['platforms'][number] {
  const create = (variables: never, tools: PlatformTools) => {
    const { observer } = tools
    const named: PlatformTools['observer'] = {
      call: (call) => observer.call({ ...call, platform: 'second' }),
      circuit: (_, state) => observer.circuit('second', state),
      tokenRequest: (_, outcome) => observer.tokenRequest('second', outcome),
    }
    return { ...sandbox.create(variables, { ...tools, observer: named }), name: 'second' }
  }
  const variables = { SANDBOX_BASE_URL: url, SANDBOX_CLIENT_ID: 'x', SANDBOX_CLIENT_SECRET: 'y' }
  return { definition: { ...sandbox, name: 'second', create }, variables }
}

/**
 * A platform that gives tokens and deletes; what it does with a question for a clip's state is up to the test.
 * @returns its URL, how many of these questions were asked, and how many connections wait for an answer now
 */
export async function startOddPlatform(
  t: Test,
  answer: (response: ServerResponse, request: IncomingMessage) => void,
  token: (response: ServerResponse) => void = giveToken,
) {
  const counts = { asked: 0, open: 0, most: 0 }
  const server = createServer((request, response) => {
    if (request.url === '/oauth/token') return token(response)
    if (request.method === 'DELETE') return response.writeHead(204).end()
    counts.asked += 1
    counts.most = Math.max(counts.most, ++counts.open)
    response.once('close', () => {
      counts.open -= 1
    })
    answer(response, request)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, counts }
}

function giveToken(response: ServerResponse): void {
  const token = { access_token: 'a', token_type: 'bearer', expires_in: 3600 }
  response.setHeader('content-type', 'application/json').end(JSON.stringify(token))
}

/** A state as in the sandbox's API. */
export const stateOf = (state: string) =>
  JSON.stringify({ clip_id: 'clip-1', state, failure: null, progress: 0, ingest_url: 'http://127.0.0.1/' })
