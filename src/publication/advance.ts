import type { Gateway } from './gateway.ts'
import { type Hold, isHeld } from './hold.ts'
import { type TransitionName, transition, transitions } from './lifecycle.ts'
import type { Along } from './store.ts'
import type { Video } from './video.ts'

/** Changes of a transition in addition to the stage: values, or a function of the database's time. */
type Changes = Partial<Video> | ((now: number) => Partial<Video>)

/**
 * Applies a transition under a hold, as a compare-and-set, with one log line. May be repeated if its effect is unknown:
 * the transition that this hold has already made is not made again.
 * @param holder the hold, or the row as its holder last saw it: it is read only if it has changed since
 * @returns the resulting row; undefined when the hold was lost in the meantime
 * @throws GatewayError when the lifecycle does not allow it
 */
export async function advance(
  gateway: Gateway,
  holder: Pick<Hold, 'id' | 'epoch'> | Video,
  name: TransitionName,
  changes: Changes = {},
  along?: Along,
): Promise<Video | undefined> {
  let done: Video | undefined
  const isToDo = (current: Video) => {
    const held = isHeld(holder, current)
    done = held && current.stage === transitions[name].to ? current : undefined
    return held && !done
  }
  const row = 'version' in holder ? holder : holder.id
  return (await begin(gateway, row, name, changes, isToDo, along)) ?? done
}

/**
 * The same without a hold, for transitions that take hold of the row.
 * @param row its id, or the row as it was last read
 * @param guard if it rejects the current row, the row is not changed
 */
export async function begin(
  gateway: Gateway,
  row: string | Video,
  name: TransitionName,
  changes: Changes = {},
  guard: (current: Video) => boolean = () => true,
  along?: Along,
): Promise<Video | undefined> {
  let before: Video | undefined
  let storeTime = 0
  const change = (current: Video, now: number) => {
    storeTime = now
    before = guard(current) ? current : undefined
    if (!before) return current
    return transition(current, name, now, typeof changes === 'function' ? changes(now) : changes)
  }
  const after = await gateway.store.update(row, change, along)
  if (!before || !after) return undefined
  const { stage: from, stageSince } = before
  const { stage: to, platform, slot, error } = after
  gateway.log.info(
    { video: after.id, platform, platformVideo: slot.videoId, from, to, ...(error && { error }) },
    name,
  )
  // Not below zero, in case the clock was set back.
  const seconds = Math.max(0, after.stageSince - stageSince) / 1000
  gateway.observer.stageChanged({ video: after, from, seconds })
  if (after.nextCheckAt !== null) gateway.wakePoller(platform, after.nextCheckAt - storeTime)
  return after
}
