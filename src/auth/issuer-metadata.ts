import * as jose from 'jose'
import { allowInsecureRequests, customFetch, discovery } from 'openid-client'

/** The issuer's own spelling of its identifier, and its public keys. */
export interface IssuerMetadata {
  issuer: string
  keys: ReturnType<typeof jose.createLocalJWKSet>
}

/** Most bytes of an answer, after decompression. Published key sets have less than 50 KiB. */
const maxAnswerBytes = 512 * 1024

/**
 * Fetches the metadata of an issuer (OpenID Connect Discovery, else RFC 8414) and then its keys. Redirects are not
 * followed.
 * @param signal ends the whole of it
 * @throws Error when the issuer is unavailable, or what it answers cannot be used
 */
export async function fetchIssuerMetadata(issuerUrl: URL, signal: AbortSignal): Promise<IssuerMetadata> {
  const { issuer, jwks_uri } = await discover(issuerUrl, 'oidc', signal).catch((error) => {
    signal.throwIfAborted()
    return discover(issuerUrl, 'oauth2', signal).catch(() => Promise.reject(error))
  })
  if (!jwks_uri) throw new Error('the metadata of the issuer have no jwks_uri')
  const url = new URL(jwks_uri)
  if (!isSecure(url) && !(isLoopback(issuerUrl) && isLoopback(url)))
    throw new Error('the jwks_uri of the issuer is not https')
  const response = await boundedFetch(url.href, { signal, headers: { accept: 'application/json' } })
  if (response.status !== 200) throw new Error(`the jwks_uri of the issuer answers ${response.status}`)
  return { issuer, keys: jose.createLocalJWKSet((await response.json()) as jose.JSONWebKeySet) }
}

async function discover(issuerUrl: URL, algorithm: 'oidc' | 'oauth2', signal: AbortSignal) {
  // Only metadata are read: the client id that the library requires is never sent.
  const configuration = await discovery(issuerUrl, 'video-gateway', undefined, undefined, {
    algorithm,
    [customFetch]: (url, { headers }) => boundedFetch(url, { headers, signal }),
    execute: isSecure(issuerUrl) ? [] : [allowInsecureRequests],
  })
  return configuration.serverMetadata()
}

/** A fetch whose answer is complete, and not larger than the limit. */
async function boundedFetch(url: string, init: RequestInit): Promise<Response> {
  const response = await fetch(url, { ...init, redirect: 'manual' })
  const chunks: Uint8Array[] = []
  let size = 0
  // Leaving the loop cancels the rest.
  for await (const chunk of response.body ?? []) {
    size += chunk.length
    if (size > maxAnswerBytes)
      throw new Error(`the answer of the issuer is larger than ${maxAnswerBytes} bytes`)
    chunks.push(chunk)
  }
  const { status } = response
  const headers = { 'content-type': response.headers.get('content-type') ?? '' }
  return new Response(Buffer.concat(chunks), { status, headers })
}

export function isSecure(url: URL): boolean {
  return url.protocol === 'https:'
}

export function isLoopback({ protocol, hostname }: URL): boolean {
  return protocol === 'http:' && /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname)
}
