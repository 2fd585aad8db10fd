import type { Socket } from 'node:net'
import { stopParsing } from './parsing.ts'

/** Bounds of a drain. A proxy such as Apache sends the whole body before it reads the response. */
export const drainLimits = {
  /** Bytes per second that a client must send to keep its drain open: those of a line of 128 kbit/s. */
  minBytesPerSecond: 16 * 1024,
  /** Consecutive seconds below that rate after which the connection is closed. */
  maxSlowSeconds: 10,
  /** Bytes discarded on one connection. */
  maxBytes: 1024 ** 3,
  /** Duration of one drain: 200 MB at 1 Mbit/s take 27 minutes. */
  maxMs: 30 * 60_000,
  /** Connections that drain at the same time. Beyond that the oldest is closed. */
  maxDrains: 1_000,
  /** Duration of one drain once the process is shutting down. */
  shutdownMs: 3_000,
}

interface Drain {
  /** On the monotonic clock, ms. */
  deadline: number
  /** `bytesRead` of the socket at the start and at the last tick. */
  start: number
  last: number
  slowSeconds: number
}

export interface Drains {
  /**
   * Closes a connection so that its last response stays readable (RFC 9112 §9.6): half-closes it, discards what the
   * client still sends, for a bounded time and amount, and only then closes the socket. Closing a socket with unread
   * bytes would reset the connection, and the reset can overtake the response.
   */
  close(socket: Socket): void
  /** From now on no drain takes longer than `shutdownMs`. */
  shorten(): void
}

/** Keeps the connections that are being closed. One timer serves them all. */
export function createDrains(limits = drainLimits): Drains {
  const drains = new Map<Socket, Drain>()
  let { maxMs } = limits
  let timer: NodeJS.Timeout | undefined

  function close(socket: Socket): void {
    if (drains.has(socket) || socket.destroyed) return
    const [oldest] = drains.keys()
    if (drains.size >= limits.maxDrains) oldest?.destroy()
    const start = socket.bytesRead
    drains.set(socket, { deadline: performance.now() + maxMs, start, last: start, slowSeconds: 0 })
    timer ??= setInterval(tick, 1_000).unref()
    socket.once('close', () => forget(socket))
    stopParsing(socket)
    socket.on('data', () => {
      if (socket.bytesRead - start > limits.maxBytes) socket.destroy()
    })
    socket.end()
  }

  function tick(): void {
    const now = performance.now()
    for (const [socket, drain] of drains) {
      const slow = socket.bytesRead - drain.last < limits.minBytesPerSecond
      drain.slowSeconds = slow ? drain.slowSeconds + 1 : 0
      drain.last = socket.bytesRead
      if (drain.slowSeconds >= limits.maxSlowSeconds || now > drain.deadline) socket.destroy()
    }
  }

  function forget(socket: Socket): void {
    drains.delete(socket)
    if (drains.size > 0) return
    clearInterval(timer)
    timer = undefined
  }

  function shorten(): void {
    maxMs = limits.shutdownMs
    const deadline = performance.now() + maxMs
    for (const drain of drains.values()) drain.deadline = Math.min(drain.deadline, deadline)
  }

  return { close, shorten }
}
