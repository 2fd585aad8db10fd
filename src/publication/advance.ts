import type { Gateway } from './gateway.ts'
import { type Hold, isHeld } from './hold.ts'
import { type TransitionName, transition } from './lifecycle.ts'
import type { Video } from './video.ts'

/**
 * Moves a video along the lifecycle under a hold, as a compare-and-set, with one log line.
 * @returns the row after it; undefined when the hold was lost meanwhile
 * @throws GatewayError when the lifecycle does not allow it
 */
export function advance(
  gateway: Gateway,
  hold: Pick<Hold, 'id' | 'epoch'>,
  name: TransitionName,
  changes: Partial<Video> = {},
): Video | undefined {
  return begin(gateway, hold.id, name, changes, (current) => isHeld(hold, current))
}

/**
 * The same without a hold, for the transitions that take one.
 * @param guard when it rejects the current row, nothing happens
 */
export function begin(
  gateway: Gateway,
  id: string,
  name: TransitionName,
  changes: Partial<Video> = {},
  guard: (current: Video) => boolean = () => true,
): Video | undefined {
  let before: Video | undefined
  const after = gateway.store.update(id, (current) => {
    before = guard(current) ? current : undefined
    return before ? transition(current, name, Date.now(), changes) : current
  })
  if (!before || !after) return undefined
  const { stage: from, stageSince } = before
  const { stage: to, platform, slot, error } = after
  gateway.log.info(
    { video: id, platform, platformVideo: slot.videoId, from, to, ...(error && { error }) },
    name,
  )
  // Not below zero, should the clock have been set back.
  const seconds = Math.max(0, after.stageSince - stageSince) / 1000
  gateway.observer.stageChanged({ video: after, from, seconds })
  if (after.nextCheckAt !== null) gateway.wakePoller(platform, after.nextCheckAt)
  return after
}
