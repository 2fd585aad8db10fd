/** Wakes one sleeper at the earliest time that was set. A time that is set while it is awake ends its next sleep. */
export interface Alarm {
  /** @param ms from now; Infinity sets nothing */
  setIn(ms: number): void
  /** Sleeps until the earliest time that was set. @returns false once the alarm is stopped */
  rings(): Promise<boolean>
  stop(): void
}

export function createAlarm(): Alarm {
  /** Time on the monotonic clock. */
  let next = Number.POSITIVE_INFINITY
  let stopped = false
  let timer: NodeJS.Timeout | undefined
  let wake = () => {}

  function plan(): void {
    clearTimeout(timer)
    if (stopped) wake()
    else if (next < Number.POSITIVE_INFINITY) timer = setTimeout(wake, Math.max(0, next - performance.now()))
  }

  return {
    setIn(ms) {
      const at = performance.now() + ms
      if (at >= next) return
      next = at
      plan()
    },
    async rings() {
      await new Promise<void>((resolve) => {
        wake = resolve
        plan()
      })
      clearTimeout(timer)
      next = Number.POSITIVE_INFINITY
      return !stopped
    },
    stop() {
      stopped = true
      plan()
    },
  }
}
