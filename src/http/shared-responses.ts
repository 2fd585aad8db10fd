import type { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'

/**
 * Keeps every response of this scope in memory and sends the same buffer each time. A response of its own takes up to its
 * whole length for as long as the client does not read it. For a few files only: nothing is dropped by itself.
 * @returns drops them all: what they are made from has changed
 */
export function shareFiles(app: FastifyInstance): () => void {
  const files = new Map<string, Promise<Buffer>>()
  app.addHook('onRequest', ({ raw }, _reply, done) => {
    // Parts of a file would have to be cut out of the buffer. A server may ignore ranges (RFC 9110 §14.2).
    delete raw.headers.range
    done()
  })
  app.addHook('onSend', async ({ method, url }, { statusCode }, payload) => {
    if (method !== 'GET' || statusCode !== 200) return payload
    const stream = typeof (payload as Readable)?.pipe === 'function' ? (payload as Readable) : undefined
    if (!stream && typeof payload !== 'string') return payload
    const path = url.split('?', 1)[0] as string
    const known = files.get(path)
    if (known) {
      stream?.destroy()
      return known
    }
    const reading = stream
      ? stream.toArray().then((chunks) => Buffer.concat(chunks))
      : Promise.resolve(Buffer.from(payload as string))
    files.set(path, reading)
    return reading.catch((error) => {
      files.delete(path)
      throw error
    })
  })
  return () => files.clear()
}
