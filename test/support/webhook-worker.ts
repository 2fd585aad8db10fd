/**
 * A process that changes videos, fans out, claims and settles, over the store of its first argument, until it is killed.
 * It reports each event that it delivers; every third attempt fails. After a message it changes nothing any more, which
 * it reports too.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { openStore } from '../../src/store/open.ts'
import { delivered, failed } from './webhooks.ts'

const [url = '', videoId = ''] = process.argv.slice(2)
process.once('disconnect', () => process.exit())
const store = await openStore(url, 3)
let writes = true
let reported = false
/** Resolves when the message has left the process. */
const report = (message: object) =>
  new Promise((resolve) => process.send?.(message, undefined, undefined, resolve))
process.on('message', () => {
  writes = false
})
process.send?.({ ready: true })
for (let round = 0; ; round++) {
  if (!writes && !reported) {
    reported = true
    await report({ stopped: true })
  }
  try {
    if (writes) await store.update(videoId, (video) => ({ ...video, title: `${process.pid} ${round}` }))
    await store.fanOut(1 + (round % 4))
    for (const { id } of await store.endpoints())
      for (const { eventId, attempts } of await store.claimDeliveries(id, 300, 5)) {
        const fails = Math.random() < 0.3
        if (!fails) await report({ endpointId: id, eventId, at: store.now() })
        await store.settleDelivery(id, eventId, attempts, fails ? failed(10) : delivered)
      }
  } catch {
    // The lock belongs to another process, or the database restarts.
    await sleep(5)
  }
  await sleep(writes ? 15 : 2)
}
