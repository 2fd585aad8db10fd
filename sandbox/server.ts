import { mkdtemp, rm } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Fastify, { type FastifyError, type FastifyInstance } from 'fastify'
import { clipRoutes } from './clips.ts'
import { controlRoutes } from './control.ts'
import { Fault } from './fault.ts'
import { faultHooks, InjectedAnswer } from './faults.ts'
import { ingestRoutes } from './ingest.ts'
import type { Knobs } from './knobs.ts'
import { oauthRoutes } from './oauth.ts'
import { createPlatform, type Platform, resetPlatform, type Stats, statsOf } from './platform.ts'
import { serveRoutes } from './serve.ts'

export interface SandboxOptions {
  /** 0, the default, takes any free port. */
  port?: number
  host?: string
  /** Origin of the URLs that it returns, if clients use another name than its address. */
  publicUrl?: string
  clientId?: string
  clientSecret?: string
  /** Knobs to start with; `reset` goes back to the defaults, not to these. */
  knobs?: Partial<Knobs>
}

export interface Sandbox {
  /** Its origin, without a slash at the end. */
  url: string
  clientId: string
  clientSecret: string
  /** Assign to change the behavior immediately. */
  knobs: Knobs
  stats(): Stats
  /** Drops all access tokens issued so far. */
  revoke(): void
  /** Drops clips, tokens, counts and changed knobs. */
  reset(): Promise<void>
  /** Closes all connections, stops the work in progress and deletes the files. */
  close(): Promise<void>
}

/** Starts the stand-in platform on a port of its own. */
export async function startSandbox(options: SandboxOptions = {}): Promise<Sandbox> {
  const { port = 0, host = '127.0.0.1', clientId = 'sandbox', clientSecret = 'sandbox-secret' } = options
  const directory = await mkdtemp(join(tmpdir(), 'sandbox-'))
  const platform = createPlatform(directory, { id: clientId, secret: clientSecret })
  Object.assign(platform.knobs, options.knobs)
  const app = build(platform)
  await app.listen({ port, host })
  platform.url = options.publicUrl?.replace(/\/$/, '') ?? origin(app.server.address() as AddressInfo)
  return {
    url: platform.url,
    clientId,
    clientSecret,
    knobs: platform.knobs,
    stats: () => statsOf(platform),
    revoke: () => platform.tokens.clear(),
    reset: () => resetPlatform(platform),
    async close() {
      await app.close()
      await resetPlatform(platform)
      await rm(directory, { recursive: true, force: true })
    },
  }
}

function build(platform: Platform): FastifyInstance {
  const app = Fastify({
    // Uploads may take as long as they need.
    requestTimeout: 0,
    // Closing does not wait for hanging clients.
    forceCloseConnections: true,
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, allowUnionTypes: true } },
  })
  app.setErrorHandler<FastifyError | Fault | InjectedAnswer>((error, request, reply) => {
    if (request.raw.socket.destroyed) return reply.hijack()
    if (error instanceof InjectedAnswer) return error.send(reply)
    const fault = error instanceof Fault ? error : toFault(error)
    return reply.code(fault.status).headers(fault.headers).send(fault.toJSON())
  })
  app.setNotFoundHandler((request, reply) =>
    reply.code(404).send(new Fault(404, 'unknown_path', `there is no ${request.method} ${request.url}`)),
  )
  faultHooks(app, platform)
  for (const routes of [oauthRoutes, clipRoutes, ingestRoutes, serveRoutes, controlRoutes]) {
    // Each in a scope of its own, so that its hooks and parsers do not reach the others.
    app.register(async (scope) => routes(scope, platform))
  }
  return app
}

function toFault(error: FastifyError): Fault {
  if (error.validation) return new Fault(422, 'invalid', error.message)
  const status = error.statusCode ?? 500
  return new Fault(status, status < 500 ? 'bad_request' : 'internal', error.message)
}

function origin({ address, family, port }: AddressInfo): string {
  if (address === '0.0.0.0' || address === '::') return `http://127.0.0.1:${port}`
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`
}
