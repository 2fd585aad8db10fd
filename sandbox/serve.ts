import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { extname, join } from 'node:path'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Fault } from './fault.ts'
import { findClip, type Platform } from './platform.ts'
import { fileOf } from './urls.ts'

const TYPES: Record<string, string> = {
  '.m3u8': 'application/vnd.apple.mpegurl',
  '.m4s': 'video/mp4',
  '.mp4': 'video/mp4',
  '.jpg': 'image/jpeg',
}

const CORS = {
  'access-control-allow-origin': '*',
  'access-control-allow-methods': 'GET, HEAD, OPTIONS',
  'access-control-allow-headers': 'Range',
  'access-control-expose-headers': 'Accept-Ranges, Content-Length, Content-Range',
}

/** The files of live clips, for anyone, in whole or by one byte range (RFC 9110, 14). */
export function serveRoutes(app: FastifyInstance, platform: Platform): void {
  app.options('/media/:id/:file', async (_request, reply) => reply.code(204).headers(CORS).send())

  app.route<{ Params: { id: string; file: string }; Querystring: Record<string, string> }>({
    method: ['GET', 'HEAD'],
    url: '/media/:id/:file',
    handler: async (request, reply) => {
      const { id } = request.params
      const file = fileOf(platform, id, request.params.file, request.query)
      const clip = findClip(platform, id)
      const type = TYPES[extname(file)]
      const path = join(clip.directory, file)
      // Names are flat and plain: nothing outside of the clip's directory can be asked for.
      const found = clip.state === 'live' && type && /^\w+\.\w+$/.test(file) && (await sizeOf(path))
      if (!found) throw new Fault(404, 'unknown_file', `the clip serves no ${file}`)
      reply.headers({ ...CORS, 'accept-ranges': 'bytes', 'content-type': type })
      return sendFile(request, reply, path, found)
    },
  })
}

function sendFile(request: FastifyRequest, reply: FastifyReply, path: string, size: number) {
  const range = request.method === 'GET' ? parseRange(request.headers.range, size) : null
  if (range === 'unsatisfiable') {
    reply.headers({ 'content-range': `bytes */${size}`, 'content-type': 'application/json' }).code(416)
    return reply.send(JSON.stringify(new Fault(416, 'range', `the file has ${size} bytes`)))
  }
  const { start, end } = range ?? { start: 0, end: size - 1 }
  if (range) reply.code(206).header('content-range', `bytes ${start}-${end}/${size}`)
  reply.header('content-length', end - start + 1)
  return request.method === 'HEAD' ? reply.send() : reply.send(createReadStream(path, { start, end }))
}

/** One range as offsets, both inclusive; null when there is none, or one to be ignored (a list, another unit). */
export function parseRange(header: string | undefined, size: number) {
  const [, first, last] = /^bytes=(\d*)-(\d*)$/.exec(header ?? '') ?? []
  if (first === undefined || last === undefined || (first === '' && last === '')) return null
  if (first === '') {
    const length = Math.min(Number(last), size)
    return length === 0 ? 'unsatisfiable' : { start: size - length, end: size - 1 }
  }
  const start = Number(first)
  const end = last === '' ? size - 1 : Math.min(Number(last), size - 1)
  if (last !== '' && Number(last) < start) return null
  return start >= size ? 'unsatisfiable' : { start, end }
}

async function sizeOf(path: string): Promise<number | null> {
  const found = await stat(path).catch(() => null)
  return found?.isFile() ? found.size : null
}
