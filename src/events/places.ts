import { GatewayError } from '../errors.ts'

/** Largest number of event streams in this process. */
export interface StreamLimits {
  total: number
  perClient: number
}

export const defaultStreamLimits: StreamLimits = { total: 1_000, perClient: 100 }

export interface StreamPlaces {
  /**
   * Takes a place for a stream.
   * @returns a function that frees it
   * @throws GatewayError when the client, or all clients together, have too many
   */
  take(client: string): () => void
  count(): number
}

export function createStreamPlaces({ total, perClient }: StreamLimits): StreamPlaces {
  const taken = new Map<string, number>()
  let count = 0
  return {
    take(client) {
      const own = taken.get(client) ?? 0
      if (own >= perClient)
        throw new GatewayError(
          'too-many-requests',
          `This client has ${perClient} event streams open here. Close one, or read the events as JSON pages.`,
          { retryAfter: 10 },
        )
      if (count >= total) throw new GatewayError('too-many-streams', undefined, { retryAfter: 10 })
      taken.set(client, own + 1)
      count++
      return () => {
        const rest = (taken.get(client) ?? 1) - 1
        if (rest > 0) taken.set(client, rest)
        else taken.delete(client)
        count--
      }
    },
    count: () => count,
  }
}
