import { Type } from '@sinclair/typebox'
import { Id } from '../http/border.ts'
import { type PlatformHttp, parseJson } from '../http/http.ts'

/** Identifies a video: PeerTube stores the name of its source file. */
export interface Source {
  /** The source file's name, made of the gateway's id. */
  file: string
  title: string
}

const Listed = Type.Object({
  data: Type.Array(Type.Object({ uuid: Id, name: Type.String(), createdAt: Type.Optional(Type.String()) })),
})
const Made = Type.Object({
  inputFilename: Type.Optional(Type.String()),
  filename: Type.Optional(Type.String()),
})

/** Page size, the largest possible, and maximum number of pages when the account's videos are listed, newest first. */
const pageSize = 100
const maxPages = 50
/** Tolerated difference between the clocks of the instance and the gateway. Milliseconds. */
const clockMarginMs = 24 * 3_600_000

/** Finds every video of the account with this source file, back to the time of the gateway's id. */
export async function findVideos(
  http: PlatformHttp,
  { file, title }: Source,
  signal: AbortSignal,
): Promise<string[]> {
  const call = { operation: 'find', method: 'GET', signal } as const
  const oldest = bornAt(file) - clockMarginMs
  const found: string[] = []
  for (let start = 0; start < pageSize * maxPages; start += pageSize) {
    const url = `/api/v1/users/me/videos?sort=-createdAt&start=${start}&count=${pageSize}`
    const { data } = await http.json(Listed, { ...call, url })
    for (const { uuid } of data.filter(({ name }) => name === title.trim())) {
      const path = `/api/v1/videos/${encodeURIComponent(uuid)}/source`
      const { status, body } = await http.send({ ...call, url: path, accept: [404] })
      if (status === 404) continue
      const made = parseJson('peertube', Made, body)
      if ((made.inputFilename ?? made.filename) === file) found.push(uuid)
    }
    if (data.length < pageSize || Date.parse(data.at(-1)?.createdAt ?? '') < oldest) break
  }
  return found
}

/** Returns the creation time of the id in the file's name, in ms since the epoch (UUIDv7, RFC 9562 §5.7). */
function bornAt(file: string): number {
  return Number.parseInt(file.replaceAll('-', '').slice(0, 12), 16)
}
