import { createHmac } from 'node:crypto'
import { Fault } from './fault.ts'
import { PLAYLIST, POSTER } from './media.ts'
import type { Platform } from './platform.ts'

/** Files whose URLs the API gives out: these are renamed and signed, as the knobs say. */
const published = [PLAYLIST, POSTER]

/** A URL of a clip's file, and when it stops working (ISO 8601; null when it does not). */
export function publicUrl({ url, knobs, secret }: Platform, id: string, file: string) {
  const address = `${url}/media/${id}/${knobs.rename}${file}`
  if (knobs.url_lifetime_s === 0) return { href: address, expires_at: null }
  const expires = Date.now() + knobs.url_lifetime_s * 1000
  const query = `expires=${expires}&signature=${sign(secret, id, file, expires)}`
  return { href: `${address}?${query}`, expires_at: new Date(expires).toISOString() }
}

/**
 * The file behind a name in a URL. Throws a Fault: 404 for a name that no longer counts, 403 for a URL whose signature
 * is wrong or has expired.
 */
export function fileOf({ knobs, secret }: Platform, id: string, name: string, query: Record<string, string>) {
  const file = published.find((candidate) => `${knobs.rename}${candidate}` === name)
  if (!file) {
    if (published.includes(name)) throw new Fault(404, 'unknown_file', `the clip serves no ${name}`)
    return name
  }
  if (knobs.url_lifetime_s === 0) return file
  const expires = Number(query.expires)
  if (!(expires > Date.now()) || query.signature !== sign(secret, id, file, expires))
    throw new Fault(403, 'expired', 'the URL is not signed, or has expired')
  return file
}

function sign(secret: string, id: string, file: string, expires: number): string {
  return createHmac('sha256', secret).update(`${id}/${file}/${expires}`).digest('base64url')
}
