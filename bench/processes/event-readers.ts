import { Agent, request } from 'undici'

/** One stream in so many has the times of its events read: to read those of all takes more than a core. */
const measuredShare = 20

export interface ReadersReport {
  events: number
  /** From the change to its arrival, in ms. */
  lags: number[]
}

/** Opens `STREAMS` event streams at `TARGET`, and reports what came since the last report. */
const { TARGET = '', STREAMS = '0', AUTHORIZATION = '' } = process.env
const dispatcher = new Agent({ bodyTimeout: 0, headersTimeout: 60_000 })
const marker = Buffer.from('\ndata: ')
let events = 0
let lags: number[] = []

for (let index = 0; index < Number(STREAMS); index += 100)
  await Promise.all(
    Array.from({ length: Math.min(100, Number(STREAMS) - index) }, (_, at) =>
      open((index + at) % measuredShare === 7),
    ),
  )
process.send?.({ url: TARGET })
process.once('disconnect', () => process.exit())
process.on('message', () => {
  process.send?.({ events, lags } satisfies ReadersReport)
  events = 0
  lags = []
})

async function open(isMeasured: boolean): Promise<void> {
  const { body, statusCode } = await request(`${TARGET}/v1/events`, {
    dispatcher,
    headers: { accept: 'text/event-stream', authorization: AUTHORIZATION },
  })
  if (statusCode !== 200) throw new Error(`${statusCode}: ${await body.text()}`)
  body.on('error', () => {})
  body.on('data', (chunk: Buffer) => {
    for (let at = chunk.indexOf(marker); at >= 0; at = chunk.indexOf(marker, at + 1)) events++
    if (!isMeasured) return
    const now = Date.now()
    for (const [, time] of chunk.toString('latin1').matchAll(/"timestamp":"([^"]+)"/g))
      lags.push(now - Date.parse(time as string))
  })
}
