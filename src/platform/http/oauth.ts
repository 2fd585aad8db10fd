import * as oauth from 'openid-client'
import { GatewayError } from '../../errors.ts'
import type { PlatformHttp } from './http.ts'
import type { Grant, Token } from './token-cache.ts'

/** The OAuth2 client of a platform whose token endpoint is known, without discovery. */
export interface OAuthClient {
  /** Carries the token requests too: they share its timeouts, limits, circuit and metrics. */
  http: PlatformHttp
  tokenEndpoint: string
  clientId: string
  authentication: oauth.ClientAuth
}

/** The client credentials grant (RFC 6749 §4.4). The client is asked for at the first request. */
export function clientCredentials(client: () => OAuthClient): Grant {
  return (_previous, signal) => requestToken(client(), 'client_credentials', {}, signal)
}

/**
 * Sends a token request (RFC 6749 §3.2). Redirects are not followed, so the credentials stay with the endpoint.
 * @throws GatewayError with a `platform-…` code. It contains nothing of the response, which may hold secrets.
 */
export async function requestToken(
  client: OAuthClient,
  grantType: string,
  parameters: Record<string, string>,
  signal: AbortSignal,
): Promise<Token> {
  try {
    const response = await oauth.genericGrantRequest(configure(client, signal), grantType, parameters)
    return {
      accessToken: response.access_token,
      expiresIn: response.expires_in,
      refreshToken: response.refresh_token,
    }
  } catch (error) {
    if (!(error instanceof oauth.ClientError)) throw error
    if (error.cause instanceof GatewayError) throw error.cause
    throw invalidResponse()
  }
}

function configure(client: OAuthClient, signal: AbortSignal): oauth.Configuration {
  const { http, tokenEndpoint, clientId, authentication } = client
  const { origin } = new URL(tokenEndpoint)
  const server = { issuer: origin, token_endpoint: tokenEndpoint }
  const configuration = new oauth.Configuration(server, clientId, undefined, authentication)
  // The deadline of `signal` replaces the library's own timeout.
  configuration.timeout = 0
  // The operator chooses the base URL; plain http is for test doubles and private networks.
  if (origin.startsWith('http:')) oauth.allowInsecureRequests(configuration)
  configuration[oauth.customFetch] = async (url, { headers, body }) => {
    const answer = await http.send({
      operation: 'token',
      method: 'POST',
      url,
      headers,
      body: String(body),
      authorized: false,
      signal,
    })
    if (answer.status !== 200) throw invalidResponse()
    const type = answer.headers['content-type']
    return new Response(new Uint8Array(answer.body), { headers: { 'content-type': String(type) } })
  }
  return configuration
}

function invalidResponse(): GatewayError {
  return new GatewayError('platform-protocol-error', 'The token endpoint returned an invalid response.')
}
