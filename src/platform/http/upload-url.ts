import { GatewayError } from '../../errors.ts'
import { isPublicUrl, isUrlText } from './border.ts'

/**
 * A URL that a platform gave (absolute, or relative to its base), if we may send anything there: the base's own
 * origin, or https on one of `hosts` (`*.example.com` stands for any host below). So nobody who can forge an answer
 * makes us reach into the private network. A base on loopback is a double: another port there is fine, as uploads go
 * to another origin at the vendor.
 * @throws GatewayError `platform-protocol-error`
 */
export function trustedUrl(platform: string, text: string, base: URL, hosts: readonly string[]): string {
  const url = isUrlText(text) && URL.canParse(text, base.href) ? new URL(text, base) : undefined
  const trusted =
    url &&
    (url.origin === base.origin ||
      (isLoopback(base.hostname) && url.protocol === base.protocol && url.hostname === base.hostname) ||
      (url.protocol === 'https:' && hosts.some((host) => matches(url.hostname, host))))
  if (trusted && isPublicUrl(url.href)) return url.href
  throw new GatewayError('platform-protocol-error', `${platform} returned a URL on a foreign host`)
}

/**
 * A URL of a platform as clients may get it: absolute, without credentials, and https unless the platform's own base
 * URL is http.
 * @throws GatewayError `platform-protocol-error`
 */
export function publicUrl(platform: string, text: string, base: URL): string {
  const url = isPublicUrl(text) ? new URL(text) : undefined
  if (url && (url.protocol === 'https:' || base.protocol === 'http:')) return url.href
  throw new GatewayError('platform-protocol-error', `${platform} returned a URL that clients cannot use`)
}

function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d+){3}$/.test(hostname)
}

function matches(hostname: string, pattern: string): boolean {
  return pattern.startsWith('*.') ? hostname.endsWith(pattern.slice(1)) : hostname === pattern
}
