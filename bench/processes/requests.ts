import autocannon from 'autocannon'

/** What autocannon is to send; `paths` are taken in turn. */
export interface Requests {
  url: string
  paths: string[]
  method: 'GET' | 'POST'
  body?: string
  authorization: string
  connections: number
  seconds: number
}

/** Latencies in milliseconds. */
export interface RequestsResult {
  perSecond: number
  p50: number
  p99: number
  failed: number
}

process.on('message', async ({ url, paths, method, body, authorization, connections, seconds }: Requests) => {
  const headers = { authorization, ...(body !== undefined && { 'content-type': 'application/json' }) }
  const result = await autocannon({
    url,
    connections,
    duration: seconds,
    requests: paths.map((path) => ({ path, method, headers, ...(body !== undefined && { body }) })),
  })
  const { errors, non2xx, timeouts, latency, duration } = result
  const answer: RequestsResult = {
    perSecond: result['2xx'] / duration,
    p50: latency.p50,
    p99: latency.p99,
    failed: errors + non2xx + timeouts,
  }
  process.send?.(answer)
})
process.once('disconnect', () => process.exit())
