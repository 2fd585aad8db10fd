import type { CreateAccessTokenResponse } from './generated/types.gen.ts'
import { checkBase, type TokenSource } from './http.ts'
import { readProblem } from './problem.ts'

export interface ClientCredentials {
  /** The gateway's address. */
  url: string
  clientId: string
  clientSecret: string
  /** Scopes, separated by spaces; by default all scopes of the client. */
  scope?: string
  fetch?: typeof fetch
}

/** Time before its expiry at which a token is no longer used, in seconds. */
const margin = 30

/** A client of the gateway's token endpoint (RFC 6749 §4.4): one token is shared by all calls until it expires. */
export function clientCredentials(options: ClientCredentials): TokenSource {
  checkBase(options.url)
  let current: { token: Promise<string>; until: number } | undefined
  return ({ renew }) => {
    if (!renew && current && Date.now() < current.until) return current.token
    const fresh = { token: request(), until: Number.POSITIVE_INFINITY }
    current = fresh
    // A failed request is not kept: the next call requests a token again.
    fresh.token.catch(() => {
      if (current === fresh) current = undefined
    })
    return fresh.token

    async function request(): Promise<string> {
      const answer = await requestToken(options)
      fresh.until = Date.now() + Math.max(0, answer.expires_in - margin) * 1000
      return answer.access_token
    }
  }
}

async function requestToken(options: ClientCredentials): Promise<CreateAccessTokenResponse> {
  const { url, clientId, clientSecret, scope, fetch: fetcher = fetch } = options
  const body = new URLSearchParams({
    grant_type: 'client_credentials',
    client_id: clientId,
    client_secret: clientSecret,
    ...(scope && { scope }),
  })
  const response = await fetcher(`${checkBase(url)}/oauth2/token`, { method: 'POST', body })
  if (!response.ok) throw await readProblem(response)
  return (await response.json()) as CreateAccessTokenResponse
}
