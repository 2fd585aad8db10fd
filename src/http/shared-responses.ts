import type { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'

/**
 * Keeps every file that this scope serves in memory and sends the same buffer in every response. A file read per response
 * takes up to 128 KiB for as long as the client does not read it. For a few files only: nothing is ever dropped.
 */
export function shareFiles(app: FastifyInstance): void {
  const files = new Map<string, Promise<Buffer>>()
  app.addHook('onRequest', ({ raw }, _reply, done) => {
    // Parts of a file would have to be cut out of the buffer. A server may ignore ranges (RFC 9110 section 14.2).
    delete raw.headers.range
    done()
  })
  app.addHook('onSend', async ({ method, url }, { statusCode }, payload) => {
    const stream = payload as Readable
    if (method !== 'GET' || statusCode !== 200 || typeof stream?.pipe !== 'function') return payload
    const path = url.split('?', 1)[0] as string
    const known = files.get(path)
    if (known) {
      stream.destroy()
      return known
    }
    const reading = stream.toArray().then((chunks) => Buffer.concat(chunks))
    files.set(path, reading)
    return reading.catch((error) => {
      files.delete(path)
      throw error
    })
  })
}
