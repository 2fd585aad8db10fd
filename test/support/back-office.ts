import { setTimeout as sleep } from 'node:timers/promises'
import { fakeMp4, type Json } from './gateway.ts'
import type { GatewayProcess } from './process.ts'

/** What a caller heard of one publication. */
export interface Publication {
  key: string
  id?: string
  ready?: boolean
  deleted?: boolean
}

/** The gateway of the moment; undefined between a crash and the restart. */
export interface Line {
  readonly gateway: Pick<GatewayProcess, 'call'> | undefined
}

/**
 * One caller as they should be: every call is repeated until it is answered, creations with the same key, uploads
 * once the slot takes them again. Publishes one video and, for every second one, deletes it.
 * @throws Error when the gateway answers something that such a caller cannot go on with
 */
export async function publishThroughCrashes(
  line: Line,
  publication: Publication,
  remove: boolean,
): Promise<void> {
  const { key } = publication
  const created = await persist(
    line,
    'POST',
    '/v1/videos',
    [201],
    { title: key, reference: key },
    { 'idempotency-key': key },
  )
  publication.id = created.id
  const path = `/v1/videos/${created.id}`

  for (let stage = 'awaiting-upload'; stage === 'awaiting-upload' || stage === 'uploading'; ) {
    await attempt(line, 'PUT', `${path}/content`, fakeMp4(300_000))
    stage = (await persist(line, 'GET', `${path}/status`, [200])).stage
    if (stage === 'uploading') await sleep(50)
  }
  let status = 'pending'
  while (status === 'pending') {
    status = (await persist(line, 'GET', `${path}/status`, [200])).status
    await sleep(20)
  }
  if (status !== 'ready') throw new Error(`${key} ended as ${status}`)
  await persist(line, 'GET', `${path}/info`, [200])
  await persist(line, 'GET', `${path}/thumbnail`, [200])
  publication.ready = true
  if (!remove) return
  await persist(line, 'DELETE', path, [204])
  publication.deleted = true
  await persist(line, 'GET', path, [410])
}

/** Calls until the answer is one of `wanted`; no connection, 409 and 503 mean later. */
async function persist(
  line: Line,
  method: string,
  path: string,
  wanted: number[],
  body?: object,
  headers?: Record<string, string>,
): Promise<Json> {
  for (const deadline = Date.now() + 60_000; Date.now() < deadline; await sleep(30)) {
    const answer = await attempt(line, method, path, body, headers)
    if (answer && wanted.includes(answer.status)) return answer.body
    const later = !answer || [409, 502, 503, 504].includes(answer.status)
    if (!later) throw new Error(`${method} ${path} answered ${answer.status}: ${JSON.stringify(answer.body)}`)
  }
  throw new Error(`${method} ${path} was never answered with ${wanted}`)
}

async function attempt(
  line: Line,
  method: string,
  path: string,
  body?: object | Uint8Array,
  headers?: Record<string, string>,
) {
  try {
    return await line.gateway?.call(method, path, body, headers)
  } catch {
    return undefined
  }
}
