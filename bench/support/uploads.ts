import { once } from 'node:events'
import type { Load, LoadResult } from '../processes/load.ts'
import { forkProcess, key, type Server } from './processes.ts'

/** A process that sends uploads; one at a time is asked of it. */
export interface Sender {
  send(load: Omit<Load, 'authorization'>): Promise<LoadResult>
  stop(): void
}

export function startSender(): Sender {
  const child = forkProcess('load')
  return {
    async send(load) {
      const answered = once(child, 'message')
      child.send({ ...load, authorization: `Bearer ${key}` })
      const [result] = await answered
      return result as LoadResult
    },
    stop: () => child.disconnect(),
  }
}

/** Provisions videos through the gateway. @returns the URLs that take their content */
export async function provision({ url }: Server, count: number): Promise<string[]> {
  const create = async () => {
    const response = await fetch(`${url}/v1/videos`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: '{"title":"bench"}',
    })
    const video = (await response.json()) as { id: string }
    return `${url}/v1/videos/${video.id}/content`
  }
  return Promise.all(Array.from({ length: count }, create))
}
