import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Piece } from './case.ts'

export interface Exchange {
  answers: { status: number; headers: string; body: string }[]
  /** What came beside whole answers. */
  rest: string
  /** The gateway closed its side, or reset the connection. */
  closed: boolean
  milliseconds: number
}

/**
 * Sends the pieces over a connection of its own, whose side stays open until the end, whatever the gateway does.
 * Ends when as many answers came as are awaited, when the gateway closes, or after `patience` ms.
 */
export async function exchange(
  url: string,
  pieces: Piece[],
  { answers: awaited, patience }: { answers: number; patience: number },
): Promise<Exchange> {
  const started = performance.now()
  const socket = connect({ port: Number(new URL(url).port), host: '127.0.0.1', allowHalfOpen: true })
  const over = Promise.withResolvers<void>()
  let received = ''
  let closed = false
  const close = () => {
    closed = true
    over.resolve()
  }
  socket.on('data', (chunk) => {
    received += chunk.toString('latin1')
    if (parse(received).answers.length >= awaited) over.resolve()
  })
  socket.on('error', close).on('end', close).on('close', close)
  await Promise.race([once(socket, 'connect'), over.promise])

  const stopped = new AbortController()
  const sending = send(stopped.signal)
  await Promise.race([over.promise, sleep(patience, undefined, { signal: stopped.signal }).catch(() => {})])
  // An answer that should not be there would come right behind the others.
  if (!closed) await sleep(30)
  stopped.abort()
  await sending
  socket.destroy()
  return { ...parse(received), closed, milliseconds: performance.now() - started }

  async function send(signal: AbortSignal) {
    for (const piece of pieces) {
      if (signal.aborted || socket.destroyed) return
      if (piece === 'reset') {
        socket.resetAndDestroy()
        close()
      } else if (typeof piece === 'string') socket.write(piece, 'latin1')
      else if ('pause' in piece) await sleep(piece.pause, undefined, { signal }).catch(() => {})
      else
        while (!signal.aborted && socket.writable) {
          socket.write(piece.drip, 'latin1')
          await sleep(piece.every, undefined, { signal }).catch(() => {})
        }
    }
  }
}

function parse(received: string): Pick<Exchange, 'answers' | 'rest'> {
  const answers: Exchange['answers'] = []
  let rest = received
  for (;;) {
    const [, head = '', status, headers = ''] =
      /^(HTTP\/1\.1 (\d{3})[^\r]*\r\n(.*?)\r\n\r\n)/s.exec(rest) ?? []
    if (status === undefined) return { answers, rest }
    const length = Number(/^content-length: (\d+)/im.exec(headers)?.[1] ?? 0)
    if (rest.length < head.length + length) return { answers, rest }
    if (status !== '100') {
      answers.push({ status: Number(status), headers, body: rest.slice(head.length, head.length + length) })
    }
    rest = rest.slice(head.length + length)
  }
}
