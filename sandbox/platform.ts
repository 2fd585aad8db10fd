import { randomBytes } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Fault } from './fault.ts'
import { defaultKnobs, type Knobs, OPERATIONS, type Operation } from './knobs.ts'
import type { Facts } from './media.ts'

export type ClipState = 'empty' | 'receiving' | 'queued' | 'transcoding' | 'live' | 'failed'

export interface Clip {
  id: string
  name: string
  summary: string
  externalRef: string | null
  state: ClipState
  progress: number
  failure: null | { kind: string; text: string }
  receivedBytes: number
  ingestToken: string
  /** Known once live. */
  facts: Facts | null
  /** Directory of its files; empty before the upload. */
  directory: string
  /** Aborted when the clip is deleted: stops its upload and its processing. */
  gone: AbortController
  /** The upload or processing in progress; never rejects. */
  work: Promise<unknown>
}

export interface Stats {
  token_requests: number
  calls: Record<Operation, number>
  clips: Record<ClipState, number>
  received_bytes: number
  open_uploads: number
  held_answers: number
  /** Webhooks by outcome; every attempt counts. */
  notifications: { delivered: number; failed: number }
  /** Uploads that carried an Authorization header to the ingest URL. */
  credentials_leaked: number
}

/** The state of the platform, which all routes share. */
export interface Platform {
  /** Its public origin, set once it listens. */
  url: string
  readonly directory: string
  readonly client: { id: string; secret: string }
  /** Signs the URLs of files. */
  readonly secret: string
  readonly knobs: Knobs
  readonly clips: Map<string, Clip>
  /** Access tokens and when they expire, in epoch milliseconds. */
  readonly tokens: Map<string, number>
  readonly counters: Omit<Stats, 'clips' | 'token_requests'>
}

export function createPlatform(directory: string, client: Platform['client']): Platform {
  return {
    url: '',
    directory,
    client,
    secret: randomBytes(24).toString('base64url'),
    knobs: defaultKnobs(),
    clips: new Map(),
    tokens: new Map(),
    counters: noCounters(),
  }
}

/** Adds an empty clip. Names are not unique, and neither are external references. */
export function addClip(
  platform: Platform,
  about: { name: string; summary: string; externalRef: string | null },
) {
  const id = randomBytes(9).toString('base64url')
  const clip: Clip = {
    id,
    ...about,
    state: 'empty',
    progress: 0,
    failure: null,
    receivedBytes: 0,
    ingestToken: randomBytes(24).toString('base64url'),
    facts: null,
    directory: join(platform.directory, id),
    gone: new AbortController(),
    work: Promise.resolve(),
  }
  platform.clips.set(id, clip)
  return clip
}

/** Throws the Fault `unknown_clip` (404). */
export function findClip(platform: Platform, id: string): Clip {
  const clip = platform.clips.get(id)
  if (!clip) throw new Fault(404, 'unknown_clip', `there is no clip ${id}`)
  return clip
}

/** Deletes the clip immediately, stops its work in progress and deletes its files. */
export async function dropClip(platform: Platform, clip: Clip): Promise<void> {
  platform.clips.delete(clip.id)
  clip.gone.abort()
  await clip.work
  await rm(clip.directory, { recursive: true, force: true })
}

/** Resets everything: no clips, tokens and counts, default knobs. */
export async function resetPlatform(platform: Platform): Promise<void> {
  Object.assign(platform.knobs, defaultKnobs())
  await Promise.all([...platform.clips.values()].map((clip) => dropClip(platform, clip)))
  platform.tokens.clear()
  Object.assign(platform.counters, noCounters())
}

/** A snapshot of the counts. */
export function statsOf({ counters, clips }: Platform): Stats {
  const states: Stats['clips'] = { empty: 0, receiving: 0, queued: 0, transcoding: 0, live: 0, failed: 0 }
  for (const clip of clips.values()) states[clip.state] += 1
  return {
    token_requests: counters.calls.token,
    ...counters,
    calls: { ...counters.calls },
    notifications: { ...counters.notifications },
    clips: states,
  }
}

function noCounters(): Platform['counters'] {
  const calls = Object.fromEntries(OPERATIONS.map((operation) => [operation, 0]))
  return {
    calls: calls as Record<Operation, number>,
    received_bytes: 0,
    open_uploads: 0,
    held_answers: 0,
    notifications: { delivered: 0, failed: 0 },
    credentials_leaked: 0,
  }
}
