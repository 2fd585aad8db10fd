import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { type Sandbox, type SandboxOptions, startSandbox } from '../../sandbox/server.ts'

// biome-ignore lint/suspicious/noExplicitAny: tests look at what came, whatever it is
export type Json = any

export interface Client {
  sandbox: Sandbox
  token: string
  /** Calls the API with a token; a body is sent as JSON. */
  call(
    method: string,
    path: string,
    json?: unknown,
  ): Promise<{ status: number; headers: Headers; body: Json }>
  create(fields?: object): Promise<Json>
  /** Uploads without credentials, as the platform wants it. */
  put(url: string, body: RequestInit['body'], headers?: Record<string, string>): Promise<Response>
  /** Polls the clip until it is in the state, for ten seconds at most. */
  until(id: string, state: string): Promise<Json>
}

/** A started platform and a client with a token; both end with the test. */
export async function startClient(t: Test, options: SandboxOptions = {}): Promise<Client> {
  const sandbox = await startSandbox({ ...options, knobs: { processing_delay_ms: 10, ...options.knobs } })
  t.teardown(() => sandbox.close())
  const token = await fetchToken(sandbox)
  const call: Client['call'] = async (method, path, json) => {
    const response = await fetch(sandbox.url + path, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(json !== undefined && { 'content-type': 'application/json' }),
      },
      ...(json !== undefined && { body: JSON.stringify(json) }),
    })
    const text = await response.text()
    return { status: response.status, headers: response.headers, body: text ? JSON.parse(text) : null }
  }
  return {
    sandbox,
    token,
    call,
    create: async (fields = {}) => (await call('POST', '/clips', { name: 'Evening news', ...fields })).body,
    put: (url, body, headers = {}) =>
      fetch(url, { method: 'PUT', headers, duplex: 'half', ...(body && { body }) } as RequestInit),
    async until(id, state) {
      for (const deadline = Date.now() + 10_000; ; await sleep(10)) {
        const { body } = await call('GET', `/clips/${id}`)
        if (body.state === state) return body
        if (Date.now() > deadline) throw new Error(`not ${state}: ${JSON.stringify(body)}`)
      }
    },
  }
}

export async function fetchToken(sandbox: Sandbox): Promise<string> {
  const { url, clientId, clientSecret } = sandbox
  const answer = await fetch(`${url}/oauth/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa(`${clientId}:${encodeURIComponent(clientSecret)}`)}` },
    body: new URLSearchParams({ grant_type: 'client_credentials' }),
  })
  return ((await answer.json()) as { access_token: string }).access_token
}

/** The kind of the fault that a raw answer carries. */
export async function kindOf(response: Response): Promise<string> {
  return ((await response.json()) as Json).fault.kind
}

/** A body that is sent in chunks, with a pause before each but the first. */
export function slowly(chunks: Uint8Array[], pause: number): ReadableStream {
  let next = 0
  return new ReadableStream({
    async pull(controller) {
      const chunk = chunks[next++]
      if (!chunk) return controller.close()
      if (next > 1) await sleep(pause)
      controller.enqueue(chunk)
    },
  })
}
