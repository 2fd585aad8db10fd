import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { listen } from './listening.ts'

/**
 * The platform that costs least: speaks what the gateway needs of the sandbox's API, keeps nothing, throws uploads
 * away. `READ_BYTES_PER_SECOND` slows each upload down; every video stays in processing.
 */
const rate = Number(process.env.READ_BYTES_PER_SECOND ?? 0)
/** Of any clip, before its upload and ever after. */
const clip = JSON.stringify({ state: 'transcoding', failure: null, ingest_url: '/ingest' })
let clips = 0
/**
 * When a clip was first asked for (ms since the epoch), how often, and how often again within `DOUBLE_WITHIN` ms; an
 * upload asks for it once.
 */
const polls = { firstAt: 0, count: 0, doubles: 0 }
const doubleWithin = Number(process.env.DOUBLE_WITHIN ?? 0)
const polledAt = new Map<string, number>()

const server = createServer((request, response) => {
  const { method, url = '/' } = request
  if (method === 'GET' && url.startsWith('/clips/')) {
    polls.firstAt ||= Date.now()
    polls.count += 1
    if (doubleWithin > 0) countDouble(url)
    return answer(response, 200, clip)
  }
  if (url === '/_polls') return answer(response, 200, JSON.stringify(polls))
  if (rate > 0) readSlowly(request)
  else request.resume()
  request.once('end', () => answerBody(request, response, url))
})
server.on('connection', (socket) => socket.on('error', () => {}))

function countDouble(url: string) {
  const now = performance.now()
  if (now - (polledAt.get(url) ?? Number.NEGATIVE_INFINITY) < doubleWithin) polls.doubles += 1
  polledAt.set(url, now)
}

function answerBody({ method }: IncomingMessage, response: ServerResponse, url: string) {
  if (url.startsWith('/ingest') || method === 'DELETE') return answer(response, 204)
  if (url === '/oauth/token') {
    return answer(response, 200, '{"access_token":"bench","token_type":"bearer","expires_in":86400}')
  }
  if (method === 'POST' && url === '/clips') {
    return answer(response, 201, JSON.stringify({ clip_id: `c${++clips}` }))
  }
  answer(response, 404, '{}')
}

function answer(response: ServerResponse, status: number, body = '') {
  const length = Buffer.byteLength(body)
  response.writeHead(
    status,
    status === 204 ? {} : { 'content-type': 'application/json', 'content-length': length },
  )
  response.end(body)
}

/** Takes a chunk and then nothing for as long as the chunk may last. */
function readSlowly(request: IncomingMessage) {
  request.on('data', (chunk: Buffer) => {
    request.pause()
    setTimeout(() => request.resume(), (chunk.length / rate) * 1000)
  })
  request.on('error', () => {})
}

listen(server)
