import { GatewayError } from '../../errors.ts'
import { isPublicUrl, isUrlText } from './border.ts'

/**
 * Returns a URL from a platform (absolute, or relative to its base), if the gateway may send requests to it: on the
 * base's own origin, or with https on one of `hosts` (`*.example.com` is any host below). So a forged response cannot
 * make the gateway call the private network. A base on loopback is a test double: other ports there are allowed,
 * because uploads go to another origin at the vendor.
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
 * Returns a URL from a platform, if clients may get it: absolute, without credentials, and https unless the platform's
 * own base URL is http.
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
