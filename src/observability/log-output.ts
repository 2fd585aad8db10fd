import { fstatSync, writeSync } from 'node:fs'
import { Socket } from 'node:net'

/** Bytes that wait for a reader of a pipe; what comes then is dropped. */
const maxWaitingBytes = 1024 * 1024
/** Maximum time that the exit of the process waits for that reader, in ms. */
const flushTimeoutMs = 1_000

export interface LogOutput {
  write(line: string): void
  /** Resolves when every line was written, after a second at the latest. */
  flush(): Promise<void>
}

/**
 * Writes log lines to a file descriptor, and drops them where they cannot be written: on a full disk, and in an unread pipe.
 * Neither stops the process. Node's own streams and pino's would: they write to a pipe until it accepts the line, and a line
 * that fails is an error that ends the process. Once lines can be written again, one says how
 * many were dropped.
 */
export function createLogOutput(fd: number): LogOutput {
  const { put, isWaiting } = isPipeOrSocket(fd) ? pipeOutput(fd) : fileOutput(fd)
  let dropped = 0
  return {
    write(line) {
      if (dropped > 0 && put(reportOf(dropped))) dropped = 0
      if (dropped > 0 || !put(line)) dropped += 1
    },
    async flush() {
      const deadline = performance.now() + flushTimeoutMs
      while (isWaiting() && performance.now() < deadline)
        await new Promise((resolve) => setTimeout(resolve, 10))
    },
  }
}

interface Output {
  /** @returns whether the line was taken */
  put(line: string): boolean
  /** Whether lines that were taken are not written yet. */
  isWaiting(): boolean
}

function fileOutput(fd: number): Output {
  return {
    isWaiting: () => false,
    put(line) {
      try {
        // A part of a line is on the disk when the disk is full: its end begins the next line.
        for (let rest = Buffer.from(line); rest.length > 0; ) rest = rest.subarray(writeSync(fd, rest))
        return true
      } catch {
        return false
      }
    },
  }
}

/** Without blocking: neither the event loop nor a thread, for which the end of the process would wait. */
function pipeOutput(fd: number): Output {
  const socket = new Socket({ fd, readable: false, writable: true })
  socket.unref()
  // The reader has gone.
  socket.on('error', () => {})
  return {
    isWaiting: () => socket.writableLength > 0 && !socket.destroyed,
    put(line) {
      if (!socket.writable || socket.writableLength > maxWaitingBytes) return false
      socket.write(line)
      return true
    },
  }
}

function isPipeOrSocket(fd: number): boolean {
  const stat = fstatSync(fd)
  return stat.isFIFO() || stat.isSocket()
}

/** As pino writes its lines. */
function reportOf(lines: number): string {
  return `${JSON.stringify({ level: 40, time: Date.now(), lines, msg: 'log lines were dropped: they could not be written' })}\n`
}
