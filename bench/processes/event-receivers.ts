import { createServer } from 'node:http'
import type { ReadersReport } from './event-readers.ts'
import { listen } from './listening.ts'

/** Endpoints of webhooks that accept everything, and report what came since the last report. */
let events = 0
let lags: number[] = []

process.on('message', () => {
  process.send?.({ events, lags } satisfies ReadersReport)
  events = 0
  lags = []
})

listen(
  createServer((request, response) => {
    let text = ''
    request.on('data', (chunk) => {
      text += chunk
    })
    request.on('end', () => {
      const [, time] = /"timestamp":"([^"]+)"/.exec(text) ?? []
      lags.push(Date.now() - Date.parse(time as string))
      events++
      response.writeHead(204).end()
    })
  }),
)
