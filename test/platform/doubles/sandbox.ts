import { randomBytes } from 'node:crypto'
import { sandbox } from '../../../src/platform/sandbox/sandbox.ts'
import { createKit, type Exchange, type PlatformDouble } from '../double.ts'

interface Clip {
  id: string
  name: string
  ref: string
  state: string
  failure: { kind: string; text: string } | null
  /** Part of the names of its files. */
  names: string
  content?: Buffer
}

const client = { id: 'suite', secret: 'a secret: of the suite' }

/** A small double of the platform in `sandbox/`; the end-to-end tests run against that one itself. */
export async function startDouble(): Promise<PlatformDouble> {
  const kit = createKit()
  const clips = new Map<string, Clip>()
  const tokens = new Set<string>()
  const issued: string[] = []
  const ingestToken = randomBytes(12).toString('hex')
  let ingestUrl: string | undefined

  const byName = (name: string) => [...clips.values()].find((clip) => clip.name === name)!
  const origin = await kit.listen({
    operations(method, { pathname, searchParams }) {
      if (pathname === '/oauth/token') return ['token']
      if (pathname === '/clips' && method === 'POST') return ['provision']
      if (pathname === '/clips' && searchParams.has('external_ref')) return ['find']
      if (pathname.startsWith('/ingest/') && method === 'PUT') return ['upload']
      if (pathname.endsWith('/media')) return ['info']
      if (pathname.endsWith('/poster')) return ['thumbnail']
      if (/^\/clips\/[^/]+$/.test(pathname)) return [method === 'DELETE' ? 'remove' : 'status']
      return []
    },

    async handle(exchange) {
      const { method, url } = exchange
      const [, kind, id = '', part] = url.pathname.split('/')
      if (kind === 'oauth') return giveToken(exchange)
      if (kind === 'ingest') {
        if (url.searchParams.get('token') !== ingestToken) kit.violations.push('not the ingest URL')
        return ingest(exchange, id)
      }
      if (!tokens.has(exchange.headers.authorization ?? ''))
        return exchange.answer(401, fault('unauthenticated'))
      if (!id && method === 'POST') return create(exchange)
      if (!id) {
        const found = [...clips.values()].filter(({ ref }) => ref === url.searchParams.get('external_ref'))
        return exchange.answer(200, { clips: found.map(present) })
      }
      const clip = clips.get(id)
      if (!clip) return exchange.answer(404, fault('unknown_clip'))
      if (method === 'DELETE') {
        clips.delete(id)
        return exchange.answer(204)
      }
      if (!part) return exchange.answer(200, present(clip))
      if (clip.state !== 'live') return exchange.answer(409, fault('not_live'))
      exchange.answer(200, part === 'media' ? media(clip) : poster(clip))
    },
  })

  async function giveToken(exchange: Exchange) {
    const { bytes } = await exchange.body()
    const form = new URLSearchParams(bytes.toString())
    const basic = Buffer.from(
      exchange.headers.authorization?.replace('Basic ', '') ?? '',
      'base64',
    ).toString()
    const [id, secret] = basic.split(':').map((half) => decodeURIComponent(half.replaceAll('+', ' ')))
    if (form.get('grant_type') !== 'client_credentials') kit.violations.push('no client credentials grant')
    if (id !== client.id || secret !== client.secret) {
      kit.violations.push('wrong client')
      return exchange.answer(401, { error: 'invalid_client' })
    }
    const token = randomBytes(12).toString('hex')
    issued.push(token)
    tokens.add(`Bearer ${token}`)
    exchange.answer(200, { access_token: token, token_type: 'bearer', expires_in: 3600 })
  }

  async function create(exchange: Exchange) {
    const { name, external_ref: ref } = (await exchange.json()) as Record<string, string>
    if (!name || !ref) kit.violations.push('a clip without name or reference')
    const clip: Clip = {
      id: randomBytes(6).toString('hex'),
      name: name!,
      ref: ref!,
      state: 'empty',
      failure: null,
      names: '',
    }
    clips.set(clip.id, clip)
    exchange.answer(201, present(clip))
  }

  async function ingest(exchange: Exchange, id: string) {
    if (exchange.headers.authorization) kit.violations.push('the upload carries our token')
    if (exchange.headers['content-type'] !== 'video/mp4') kit.violations.push('the upload is no video/mp4')
    const { bytes, complete } = await exchange.body()
    const clip = clips.get(id)
    if (!clip || !complete) return
    Object.assign(clip, { content: bytes, state: 'queued' })
    exchange.answer(204)
  }

  const present = (clip: Clip) => ({
    clip_id: clip.id,
    external_ref: clip.ref,
    ingest_url: ingestUrl ?? `${origin}/ingest/${clip.id}?token=${ingestToken}`,
    state: clip.state,
    failure: clip.failure,
  })
  const media = (clip: Clip) => ({
    clip_id: clip.id,
    stream_url: `${origin}/media/${clip.id}/${clip.names}master.m3u8`,
    expires_at: null,
    frame: { w: 1280, h: 720 },
    length_ms: 4_004,
  })
  const poster = (clip: Clip) => ({
    href: `${origin}/media/${clip.id}/${clip.names}poster.jpg`,
    expires_at: null,
    mime: 'image/jpeg',
    w: 640,
    h: 360,
  })

  return {
    ...kit,
    definition: sandbox,
    variables: {
      SANDBOX_BASE_URL: origin,
      SANDBOX_CLIENT_ID: client.id,
      SANDBOX_CLIENT_SECRET: client.secret,
    },
    provisionsAtUpload: false,
    statusWords: {
      empty: 'awaiting-upload',
      receiving: 'awaiting-upload',
      queued: 'processing',
      transcoding: 'processing',
      live: 'ready',
      failed: 'failed',
    },
    unknownStatusWord: 'archived',
    setStatus: (title, word) => void Object.assign(byName(title), { state: word }),
    finish: (title) => void Object.assign(byName(title), { state: 'live' }),
    rename: (title) => void Object.assign(byName(title), { names: 'v2_' }),
    failProcessing(title) {
      const text = 'moov atom not found'
      Object.assign(byName(title), { state: 'failed', failure: { kind: 'no_video', text } })
      return text
    },
    content: (title) => byName(title).content,
    leftovers: () => clips.size,
    expected(title) {
      const { id, names } = byName(title)
      const at = `${origin}/media/${id}`
      return {
        info: {
          launchUrl: `${at}/${names}master.m3u8`,
          mimeType: 'application/vnd.apple.mpegurl',
          width: 1280,
          height: 720,
          duration: 4.004,
        },
        thumbnail: { url: `${at}/${names}poster.jpg`, mimeType: 'image/jpeg', width: 640, height: 360 },
      }
    },
    tokens: { requests: () => kit.calls('token'), revoke: () => tokens.clear() },
    giveUploadUrl(url) {
      ingestUrl = url
    },
    secrets: () => [client.secret, ingestToken, ...issued],
  }
}

const fault = (kind: string) => ({ fault: { kind, text: 'refused' } })
