import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo, Server, Socket } from 'node:net'
import { Webhook } from 'standardwebhooks'
import type { Test } from 'tap'
import type { Json } from './gateway.ts'

/** A webhook that has arrived. */
export interface Received {
  /** `webhook-id` */
  id: string
  headers: Record<string, string>
  body: string
  event: Json
  /** On the monotonic clock, in ms. */
  at: number
}

export interface Receiver {
  url: string
  /** In the order in which they came, repetitions included. */
  received: Received[]
  /** Ids of the events, each once. */
  ids(): Set<string>
  /** Waits until it is true, twenty seconds at most. */
  until(isTrue: () => boolean): Promise<void>
  close(): Promise<void>
}

export type Respond = (webhook: Received, response: ServerResponse, request: IncomingMessage) => void

/** An endpoint for webhooks. Without `respond` it answers 204. */
export async function startReceiver(
  t: Test,
  respond: Respond = (_, response) => response.writeHead(204).end(),
  port = 0,
): Promise<Receiver> {
  const received: Received[] = []
  let news = Promise.withResolvers<void>()
  const server = createServer(async (request, response) => {
    const body = await textOf(request)
    const headers = request.headers as Record<string, string>
    const webhook = {
      id: headers['webhook-id'] ?? '',
      headers,
      body,
      event: JSON.parse(body),
      at: performance.now(),
    }
    received.push(webhook)
    respond(webhook, response, request)
    news.resolve()
    news = Promise.withResolvers()
  })
  const { port: bound, close } = await listen(t, server, '127.0.0.1', port)
  return {
    url: `http://127.0.0.1:${bound}/hook`,
    received,
    ids: () => new Set(received.map(({ id }) => id)),
    async until(isTrue) {
      const late = Promise.withResolvers<never>()
      const timer = setTimeout(() => late.reject(new Error(`${received.length} webhooks came`)), 20_000)
      try {
        while (!isTrue()) await Promise.race([news.promise, late.promise])
      } finally {
        clearTimeout(timer)
      }
    },
    close,
  }
}

/** A server that is closed, with its connections, at the end of the test. */
export async function listen(t: Test, server: Server, host = '127.0.0.1', port = 0) {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket.on('error', () => {}))
    socket.once('close', () => sockets.delete(socket))
  })
  server.listen(port, host)
  await once(server, 'listening')
  const close = async () => {
    for (const socket of sockets) socket.destroy()
    if (!server.listening) return
    server.close()
    await once(server, 'close')
  }
  t.teardown(close)
  return { port: (server.address() as AddressInfo).port, close }
}

/** Calls `behave` with a socket of an endpoint each time that a request with its whole body has come. */
export function bodyReader(behave: (socket: Socket) => void): (socket: Socket) => void {
  return (socket) => {
    let text = ''
    socket.on('error', () => {})
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
      const [head = '', body] = text.split('\r\n\r\n')
      const [, length] = /content-length: (\d+)/i.exec(head) ?? []
      if (body === undefined || body.length < Number(length)) return
      text = ''
      behave(socket)
    })
  }
}

/** The event of a webhook whose signature is right. @throws Error */
export function verified({ body, headers }: Received, secret: string): Json {
  return new Webhook(secret).verify(body, headers)
}

async function textOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}
