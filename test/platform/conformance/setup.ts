import { randomBytes, randomUUIDv7 } from 'node:crypto'
import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { inspect } from 'node:util'
import type { Test } from 'tap'
import { loadConfig } from '../../../src/config/config.ts'
import { GatewayError } from '../../../src/errors.ts'
import type { Call, Content, Slot, VideoDraft, VideoPlatform } from '../../../src/platform/platform.ts'
import type { PlatformTools } from '../../../src/platform/tools.ts'
import type { PlatformDouble } from '../double.ts'

export type StartDouble = () => Promise<PlatformDouble>

/** One video and its way through an adapter, as the domain takes it. */
export interface Publication {
  draft: VideoDraft
  /** The slot as it was kept last. */
  slot: Slot
  provision(signal?: AbortSignal): Promise<void>
  upload(content: Content, signal?: AbortSignal): Promise<void>
  /** Provisions, uploads some bytes and lets the platform finish. */
  publish(): Promise<void>
  call(signal?: AbortSignal): Call
}

export interface Setup {
  double: PlatformDouble
  platform: VideoPlatform
  publication(title?: string): Publication
  /** The same platform by an adapter with other timeouts. */
  another(timeouts: Partial<PlatformTools['timeouts']>): VideoPlatform
  /** The error that the promise rejects with; fails the test when it does not, or when it tells a secret. */
  failure(promise: Promise<unknown>): Promise<GatewayError>
  /** Log lines so far. */
  logged: string[]
  /** Every slot so far that the gateway would have stored. */
  kept: Slot[]
}

/** `patience`: how long the adapter waits for an answer, in ms; more of it for tests with many calls at once. */
export type Scenario = (
  name: string,
  run: (t: Test, setup: Setup) => Promise<unknown>,
  patience?: number,
) => void

/**
 * Makes tests of an adapter, with short timeouts, in front of a fresh double each. At the end of every one nothing
 * may have been wrong with the requests, and no secret stands in the log or in a slot.
 */
export function scenarios(t: Test, startDouble: StartDouble): Scenario {
  return (name, run, patience = 1_200) =>
    void t.test(name, { buffered: true }, async (t) => {
      const setup = await setUp(t, startDouble, patience)
      const { double, platform, logged, kept } = setup
      try {
        await run(t, setup)
      } finally {
        await platform.close()
        await double.close()
      }
      t.strictSame(double.violations, [], 'nothing is wrong with what the platform was sent')
      t.ok(
        logged.every((line) => tellsNoSecret(double, line)),
        'no secret in the log',
      )
      const slots = JSON.stringify(kept)
      t.ok(tellsNoSecret(double, slots), 'no secret in a slot')
      t.notMatch(slots, '://', 'and no URL, for it may hold one')
    })
}

/** For tests in which nothing hangs on purpose: no call times out on a busy machine. */
export function patient(scenario: Scenario): Scenario {
  return (name, run) => scenario(name, run, 20_000)
}

async function setUp(t: Test, startDouble: StartDouble, patience: number): Promise<Setup> {
  const double = await startDouble()
  const logged: string[] = []
  const kept: Slot[] = []
  const log = (fields: object, message: string) =>
    void logged.push(`${message} ${inspect(fields, { depth: 8 })}`)
  const tools: PlatformTools = {
    log: { info: log, warn: log, error: log },
    observer: { call() {}, circuit() {}, tokenRequest() {} },
    traceHeaders: () => undefined,
    timeouts: { connect: 5_000, answer: patience, whole: 10 * patience, afterUpload: patience },
    retries: 1,
    settles: [],
    chunks: { attempts: 3, firstDelay: 50 },
    circuit: { failures: 1_000, halfOpenAfter: 1_000 },
  }
  const { definition } = double
  const config = loadConfig({ PLATFORM: definition.name, ...double.variables })
  const create = (tools: PlatformTools) => definition.create(config.platforms[0]?.variables as never, tools)
  const platform = create(tools)
  return {
    double,
    platform,
    logged,
    kept,
    another(timeouts) {
      const other = create({ ...tools, timeouts: { ...tools.timeouts, ...timeouts } })
      t.teardown(() => other.close())
      return other
    },
    publication: (title) => createPublication(double, platform, kept, title),
    async failure(promise) {
      const error = await promise.then(
        () => undefined,
        (reason) => reason,
      )
      t.type(error, GatewayError, 'it fails with a GatewayError')
      t.ok(tellsNoSecret(double, inspect(error, { depth: 8 })), 'no secret in the error')
      return error
    },
  }
}

function tellsNoSecret(double: PlatformDouble, text: string): boolean {
  return double.secrets().every((secret) => !text.includes(secret))
}

let made = 0

function createPublication(
  double: PlatformDouble,
  platform: VideoPlatform,
  kept: Slot[],
  title?: string,
): Publication {
  const draft = {
    id: randomUUIDv7(),
    title: title ?? `Evening news ${++made}`,
    description: 'Of today: “Ümläute”',
    reference: `cms-${made}`,
  }
  const publication: Publication = {
    draft,
    slot: { videoId: null, handle: null },
    call: (signal = new AbortController().signal) => ({
      signal,
      async creating() {},
      keep: async (slot) => {
        publication.slot = slot
        kept.push(slot)
      },
    }),
    async provision(signal) {
      publication.slot = await platform.provision(draft, publication.call(signal))
      kept.push(publication.slot)
    },
    upload: (content, signal) => platform.upload(publication.slot, draft, content, publication.call(signal)),
    async publish() {
      await publication.provision()
      await publication.upload(contentOf(randomBytes(5_000)))
      double.finish(draft.title)
    },
  }
  return publication
}

/** Bytes as an upload's content, in pieces that fit no chunk. */
export function contentOf(
  bytes: Buffer,
  size: number | null = bytes.length,
  maxSize?: number | undefined,
): Content {
  function* pieces() {
    for (let at = 0; at < bytes.length; at += 10_007) yield bytes.subarray(at, at + 10_007)
  }
  return { stream: Readable.from(pieces(), { objectMode: false }), size, maxSize, hold() {} }
}

/** Bytes that come as from a network, one piece per turn of the event loop: some are written between two reads. */
export function pacedContent(bytes: Buffer): Content {
  let at = 0
  const stream = new Readable({
    highWaterMark: 0,
    read() {
      const piece = bytes.subarray(at, at + 65_536)
      at += piece.length
      setImmediate(() => stream.push(piece.length > 0 ? piece : null))
    },
  })
  return { stream, size: bytes.length, hold() {} }
}

/**
 * Content of `size` bytes that supplies `until` of them and then stalls. `pulled` returns the number of bytes that were
 * read so far, `begun` waits until the first ones have had time to reach the platform.
 */
export function stuckContent(
  size: number,
  until: number,
): Content & { pulled(): number; begun(): Promise<void> } {
  const piece = Buffer.alloc(16_384, 'v')
  let pulled = 0
  const stream = new Readable({
    highWaterMark: 0,
    read() {
      if (pulled >= until) return
      const next = piece.subarray(0, Math.min(piece.length, until - pulled))
      pulled += next.length
      this.push(next)
    },
  })
  async function begun() {
    for (let wait = 0; pulled === 0 && wait < 1_000; wait++) await delay(10)
    await delay(200)
  }
  return { stream, size, hold() {}, pulled: () => pulled, begun }
}
