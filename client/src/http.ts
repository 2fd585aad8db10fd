import { GatewayProblem, readProblem } from './problem.ts'

/** Returns the bearer token; `renew` requests a new one, because the gateway rejected the last one. */
export type TokenSource = (options: { renew: boolean }) => string | Promise<string>

/** What the generated types say of an operation's request. */
export interface Operation {
  url: string
  path?: Record<string, string>
  query?: Record<string, string | number | undefined>
  headers?: Record<string, string | undefined>
  body?: unknown
}

/** A request to one operation, with only the parameters of that operation. */
export type RequestOf<O extends Operation> = Omit<O, 'url'> & { signal?: AbortSignal | undefined }

export interface Http {
  /** Calls an operation with JSON. @throws GatewayProblem, or the exception of fetch */
  call<O extends Operation>(method: string, url: O['url'], request: RequestOf<O>): Promise<Response>
  /** The same, and reads the response. */
  json<O extends Operation, R>(method: string, url: O['url'], request: RequestOf<O>): Promise<R>
  /** Sends a body that can be read only once. @throws the same */
  send(method: string, path: string, init: RequestInit & { duplex?: 'half' }): Promise<Response>
}

/** Requests to the gateway at `baseUrl`, with its token, and with its problem documents as errors. */
export function createHttp(baseUrl: string, token: TokenSource, fetcher: typeof fetch): Http {
  const base = checkBase(baseUrl)

  async function send(method: string, path: string, init: RequestInit, renew = false): Promise<Response> {
    const headers = new Headers(init.headers)
    headers.set('authorization', `Bearer ${await token({ renew })}`)
    const response = await fetcher(base + path, { ...init, method, headers })
    if (!response.ok) throw await readProblem(response)
    return response
  }

  const call: Http['call'] = async (method, url, { path, query, headers, body, signal }) => {
    const target = expand(url, path) + search(query)
    const init = {
      headers: {
        ...defined(headers),
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      ...(signal && { signal }),
    }
    try {
      return await send(method, target, init)
    } catch (error) {
      if (!(error instanceof GatewayProblem) || error.status !== 401) throw error
      return send(method, target, init, true)
    }
  }

  return {
    call,
    send,
    json: async (method, url, request) => (await call(method, url, request)).json() as never,
  }
}

/** @returns the gateway's address without a slash at its end @throws TypeError that says what it must be */
export function checkBase(url: string): string {
  const example = 'such as https://video-gateway.example'
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (!parsed || !/^https?:$/.test(parsed.protocol))
    throw new TypeError(`the address of the gateway must begin with https:// or http://, ${example}`)
  if (parsed.username || parsed.password || parsed.search || parsed.hash)
    throw new TypeError(`the address of the gateway has no user, query or fragment, ${example}`)
  if (/\/v1\/*$/.test(parsed.pathname))
    throw new TypeError(`the address of the gateway ends before /v1, ${example}`)
  return parsed.href.replace(/\/+$/, '')
}

/** Fills in the parameters of a path such as `/v1/videos/{id}`. */
export function expand(template: string, parameters: Record<string, string> = {}): string {
  return template.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(parameters[name] ?? ''))
}

function search(query: Operation['query']): string {
  const text = new URLSearchParams(defined(query)).toString()
  return text && `?${text}`
}

function defined(values: Record<string, string | number | undefined> = {}): Record<string, string> {
  const given = Object.entries(values).filter(([, value]) => value !== undefined)
  return Object.fromEntries(given.map(([name, value]) => [name, String(value)]))
}
