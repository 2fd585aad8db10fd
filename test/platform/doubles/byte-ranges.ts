import type { Exchange } from '../double.ts'

const unit = 256 * 1024

/** Google's resumable upload as a bucket has it: chunks in multiples of 256 KiB, the total open until the last one. */
export function createByteRanges(bucket: {
  violate(text: string): void
  finished(id: string, content: Buffer): void
}) {
  const sessions = new Map<string, { bytes: Buffer; complete: boolean }>()
  const sessionOf = (id: string) => {
    const session = sessions.get(id) ?? { bytes: Buffer.alloc(0), complete: false }
    sessions.set(id, session)
    return session
  }

  async function handle(exchange: Exchange, id: string) {
    const session = sessionOf(id)
    const { bytes, complete } = await exchange.body()
    const range = String(exchange.headers['content-range'])
    const [, from, to, total] = /^bytes (?:(\d+)-(\d+)|\*)\/(\d+|\*)$/.exec(range) ?? []
    if (total === undefined) {
      bucket.violate(`Content-Range: ${range}`)
      return exchange.answer(400)
    }
    if (from !== undefined && !take(session, bytes, complete, Number(from))) return exchange.answer(400)
    if (!complete) return
    if (to !== undefined && bytes.length !== Number(to) - Number(from) + 1)
      bucket.violate(`${bytes.length} bytes as ${range}`)
    if (to !== undefined && total === '*' && bytes.length % unit > 0)
      bucket.violate(`a chunk of ${bytes.length} bytes before the last one`)
    if (!session.complete && session.bytes.length === Number(total)) {
      session.complete = true
      bucket.finished(id, session.bytes)
    }
    if (session.complete) return exchange.answer(200)
    const { length } = session.bytes
    exchange.answer(308, undefined, length > 0 ? { range: `bytes=0-${length - 1}` } : {})
  }

  /** Writes what is new of a chunk; a cut one is kept in whole units. */
  function take(session: { bytes: Buffer }, bytes: Buffer, complete: boolean, from: number): boolean {
    const known = session.bytes.length - from
    if (known < 0) bucket.violate(`a chunk at ${from}, behind a gap`)
    if (known < 0) return false
    const fresh = bytes.subarray(known)
    const kept = complete ? fresh : fresh.subarray(0, fresh.length - (fresh.length % unit))
    session.bytes = Buffer.concat([session.bytes, kept])
    return true
  }

  return {
    handle,
    cut({ headers }: Exchange, id: string, bytes: Buffer) {
      const from = /^bytes (\d+)-/.exec(String(headers['content-range']))?.[1]
      if (from !== undefined) take(sessionOf(id), bytes, false, Number(from))
    },
  }
}
