import type { WebhookEndpoint } from '../publication/webhooks.ts'

/** Time after a renewal in which messages are signed with the secret before it too, in ms. */
const overlapMs = 24 * 3_600_000

/**
 * Returns the generations of an endpoint's secret whose signatures its messages carry, the current one first: after a
 * renewal the one before it too, for a day. A second renewal within that day leaves the last two.
 * @param now in ms since the epoch
 */
export function validGenerations(
  { generation, renewedAt }: Pick<WebhookEndpoint, 'generation' | 'renewedAt'>,
  now: number,
): number[] {
  const overlaps = renewedAt !== null && now - renewedAt < overlapMs
  return overlaps ? [generation, generation - 1] : [generation]
}
