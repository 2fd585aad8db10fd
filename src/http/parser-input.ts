import type { Socket } from 'node:net'

/** The part of Node's HTTP internals that this file relies on (lib/_http_server.js); `test/http/pipelining.test.ts` tries it. */
interface HttpSocket extends Socket {
  parser: { consume(handle: unknown): void; _consumed: boolean } | null
  _handle: { isStreamBase: boolean } | null
}

type Listener = (chunk: Buffer) => void

export interface ParserInput {
  /** Hands bytes to the parser. */
  parse(bytes: Buffer): void
  /** From now on the bytes of the socket go to `onData`. Node itself provides for this: the parser lets go of the socket. */
  intercept(): void
  /**
   * From now on they go straight to the parser, which costs less: they are not put into a buffer of their own first.
   * @returns false if this is not possible now
   */
  release(): boolean
}

/** Takes the place between the socket of an HTTP server and its parser. For use in a listener of `connection`. */
export function interposeParser(socket: Socket, onData: Listener): ParserInput {
  const [parse] = socket.listeners('data') as [Listener]
  // Node drops these two when the parser lets go of the socket.
  const [onPause] = socket.listeners('pause').slice(-1) as [() => void]
  const [onResume] = socket.listeners('resume').slice(-1) as [() => void]
  socket.off('data', parse)

  return {
    parse: (bytes) => parse.call(socket, bytes),
    intercept() {
      // Reading may have stopped without the stream of the socket being paused.
      onResume.call(socket)
      socket.on('data', onData)
    },
    release() {
      const { parser, _handle: handle } = socket as HttpSocket
      if (!parser || !handle?.isStreamBase || socket.readableLength > 0) return false
      socket.off('data', onData).on('pause', onPause).on('resume', onResume)
      parser.consume(handle)
      parser._consumed = true
      if (socket.isPaused()) onPause.call(socket)
      return true
    },
  }
}
