import * as jose from 'jose'

/** The issuer's own spelling of its identifier, and its public keys. */
export interface IssuerMetadata {
  issuer: string
  keys: ReturnType<typeof jose.createLocalJWKSet>
}

/** Address of the issuer. */
export interface IssuerAddress {
  /** Issuer identifier, as configured. */
  url: URL
  /** Accept http elsewhere than on a loopback address. */
  allowHttp: boolean
}

/** Maximum size of a response, after decompression. Published key sets have less than 50 KiB. */
const maxResponseBytes = 512 * 1024

/**
 * Fetches the metadata of an issuer (OpenID Connect Discovery, else RFC 8414) and then its keys. Redirects are not
 * followed.
 * @param signal aborts all requests
 * @throws Error when the issuer is unavailable or its responses cannot be used
 */
export async function fetchIssuerMetadata(
  address: IssuerAddress,
  signal: AbortSignal,
): Promise<IssuerMetadata> {
  const { issuer, jwks_uri } = await discover(address.url, signal)
  if (typeof issuer !== 'string') throw new Error('the metadata of the issuer has no issuer')
  // OpenID Connect Discovery §4.3, RFC 8414 §3.3: the metadata must be about this issuer. Only a trailing slash may
  // differ, a common mistake; the `iss` of tokens is then compared with the issuer's own spelling.
  if (!isSameIssuer(issuer, address.url))
    throw new Error(`the metadata belongs to ${issuer}: set OAUTH_ISSUER to it if that is the right issuer`)
  if (typeof jwks_uri !== 'string') throw new Error('the metadata of the issuer has no jwks_uri')
  const keysUrl = new URL(jwks_uri)
  if (!mayFetch(keysUrl, address))
    throw new Error('the jwks_uri of the issuer must use https, or http on the host of an issuer with http')
  const keys = (await fetchJson(keysUrl, signal)) as unknown as jose.JSONWebKeySet
  return { issuer, keys: jose.createLocalJWKSet(keys) }
}

/** Whether a text is the identifier of this issuer, apart from slashes at its end. */
export function isSameIssuer(text: string, url: URL): boolean {
  const bare = ({ href }: URL) => href.replace(/\/+$/, '')
  return URL.canParse(text) && bare(new URL(text)) === bare(url)
}

/** Whether the gateway may fetch trusted data from this URL: http can be changed in transit. */
export function mayFetch(url: URL, { url: issuer, allowHttp }: IssuerAddress): boolean {
  if (url.protocol === 'https:') return true
  if (url.protocol !== 'http:') return false
  return (isLoopback(issuer) && isLoopback(url)) || (allowHttp && url.hostname === issuer.hostname)
}

async function discover({ origin, pathname }: URL, signal: AbortSignal): Promise<Record<string, unknown>> {
  const path = pathname.replace(/\/+$/, '')
  // OpenID Connect Discovery §4.1 appends to the path of the issuer, RFC 8414 §3.1 inserts before it.
  const [oidc, oauth] = [
    `${origin}${path}/.well-known/openid-configuration`,
    `${origin}/.well-known/oauth-authorization-server${path}`,
  ]
  return fetchJson(new URL(oidc), signal).catch((error: unknown) => {
    signal.throwIfAborted()
    return fetchJson(new URL(oauth), signal).catch(() => Promise.reject(error))
  })
}

/** Fetches a JSON object. @throws Error for an incomplete response, or one that is larger than the limit */
async function fetchJson(url: URL, signal: AbortSignal): Promise<Record<string, unknown>> {
  const headers = { accept: 'application/json' }
  const response = await fetch(url, { headers, signal, redirect: 'manual' })
  const chunks: Uint8Array[] = []
  let size = 0
  // Leaving the loop cancels the rest.
  for await (const chunk of response.body ?? []) {
    size += chunk.length
    if (size > maxResponseBytes)
      throw new Error(`the response of the issuer is larger than ${maxResponseBytes} bytes`)
    chunks.push(chunk)
  }
  if (response.status !== 200) throw new Error(`${url.href} returned ${response.status}`)
  const value: unknown = JSON.parse(Buffer.concat(chunks).toString())
  if (typeof value !== 'object' || value === null) throw new Error(`${url.href} did not return a JSON object`)
  return value as Record<string, unknown>
}

function isLoopback({ protocol, hostname }: URL): boolean {
  return protocol === 'http:' && /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname)
}
