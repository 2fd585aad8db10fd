import { once } from 'node:events'
import type { Requests, RequestsResult } from '../processes/requests.ts'
import { forkProcess, key } from './processes.ts'

/** A process that sends many small requests. */
export interface Requester {
  run(requests: Omit<Requests, 'authorization'>): Promise<RequestsResult>
  stop(): void
}

export function startRequester(): Requester {
  const child = forkProcess('requests')
  return {
    async run(requests) {
      const answered = once(child, 'message')
      child.send({ ...requests, authorization: `Bearer ${key}` })
      const [result] = (await answered) as [RequestsResult]
      if (result.failed) throw new Error(`${result.failed} requests to ${requests.url} failed`)
      return result
    },
    stop: () => child.disconnect(),
  }
}
