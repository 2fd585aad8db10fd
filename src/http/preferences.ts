/** Longest wait that a client may ask for, in seconds: proxies end requests without a response after about a minute. */
const longestWaitS = 60

/**
 * Returns the seconds of `Prefer: wait=N` (RFC 7240 §4.3), at most 60; undefined when the header has no valid one,
 * as a preference that is not understood is ignored. The first of several counts.
 */
export function waitPreference(header: string | string[] | undefined): number | undefined {
  if (header === undefined) return undefined
  const preferences = [header].flat().join(',').split(',')
  const wait = preferences.find((text) => /^\s*wait\s*=/i.test(text))
  const seconds = /^\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:;.*)?$/i.exec(wait ?? '')?.[1]
  return seconds === undefined ? undefined : Math.min(Number(seconds), longestWaitS)
}

/** Whether `Accept` asks for an event stream: it names the type, and does not want JSON more (RFC 9110 §12.5.1). */
export function prefersEventStream(accept: string | undefined): boolean {
  const weights = new Map<string, number>()
  for (const range of (accept ?? '').split(',')) {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase())
    const quality = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2)
    weights.set(type, quality === undefined ? 1 : Number(quality) || 0)
  }
  const stream = weights.get('text/event-stream') ?? 0
  return stream > 0 && stream >= (weights.get('application/json') ?? 0)
}
