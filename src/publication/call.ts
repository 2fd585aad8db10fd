import type { Call } from '../platform/platform.ts'
import type { Gateway } from './gateway.ts'
import { type Hold, holdLost, isHeld } from './hold.ts'
import { askStore, storeResult } from './store-retry.ts'

/** Returns the context of a platform call under a hold. */
export function callFor(gateway: Gateway, hold: Hold): Call {
  const { store, policy } = gateway
  return {
    signal: hold.signal,
    creating: () => askStore(gateway, () => store.expectLeftover(hold.id, hold.epoch, policy.claim)),
    async keep(slot) {
      const along = { leftover: { epoch: hold.epoch, searchIn: null } }
      const current = await storeResult(gateway, () =>
        store.update(hold.id, (row) => (isHeld(hold, row) ? { ...row, slot } : row), along),
      )
      if (!isHeld(hold, current)) throw holdLost(current)
    },
  }
}
