import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { adviceOn, GatewayError, type ProblemCode, problems } from '../errors.ts'
import { harmlessPath, shortened } from '../observability/redaction.ts'
import { announceIfEarly } from './early-responses.ts'
import { firstPerPath } from './validation.ts'

/** The codes for statuses of Fastify and its plugins; any other 4xx is an invalid request. */
const codesByStatus: Record<number, ProblemCode> = {
  404: 'not-found',
  405: 'method-not-allowed',
  408: 'request-timeout',
  413: 'content-too-large',
  415: 'unsupported-media-type',
  429: 'too-many-requests',
  431: 'headers-too-large',
}

/** Maximum length of a text in a problem document, in characters. */
const maxMessageLength = 500

/** Default `Retry-After` of a 503, in seconds. */
const defaultRetryAfter = 5

/** Makes every error of the app problem+json (RFC 9457), and serves the pages that their `type` points to. */
export function registerProblems(app: FastifyInstance): void {
  app.setErrorHandler((error: FastifyError | GatewayError, request, reply) => {
    const problem = toGatewayError(error, request)
    if (problem.code === 'internal-error') request.log.error({ err: error }, 'unexpected failure')
    else
      request.log.info({ code: problem.code, detail: problem.message, ...causeOf(problem) }, 'request failed')
    return sendProblem(problem, request, reply)
  })

  app.setNotFoundHandler((request, reply) => {
    // Such as /v1/videos/, which is not the video without an id.
    if (/.\/$/.test(pathOf(request))) return sendProblem(slashAtEnd(), request, reply)
    const methods = app.supportedMethods.filter(
      (method) => app.hasRoute({ url: pathOf(request), method }) || matches(app, request, method),
    )
    // A route may have the method but not this file (those of Swagger UI): then the path does not exist.
    if (methods.length === 0 || methods.includes(request.method))
      return sendProblem(new GatewayError('not-found'), request, reply)
    // RFC 9110 §15.5.6: a 405 MUST have an Allow header.
    reply.header('allow', methods.join(', '))
    const detail = `This path supports ${methods.join(', ')}.`
    return sendProblem(new GatewayError('method-not-allowed', detail), request, reply)
  })

  app.addHook('onRequest', (request, _reply, done) => {
    // `*` is the server as a whole (RFC 9112 §3.2.4), which the router treats as `/`.
    if (request.url === '*') return done(new GatewayError('not-found'))
    const isApi = request.routeOptions.url?.startsWith('/v1/')
    done(isApi && pathOf(request).endsWith('/') ? slashAtEnd() : undefined)
  })

  app.get('/problems/:code', { schema: { hide: true } }, async (request, reply) => {
    const { code } = request.params as { code: string }
    if (!Object.hasOwn(problems, code)) throw new GatewayError('not-found')
    const { status, title } = problems[code as ProblemCode]
    return reply
      .type('text/plain; charset=utf-8')
      .send(`${code}\n\nStatus ${status}: ${title}.\n\n${adviceOn(code as ProblemCode)}\n`)
  })
}

/** No path of the API ends with a slash. */
function slashAtEnd(): GatewayError {
  return new GatewayError('not-found', 'No path of this API ends with a slash. Send the request without it.')
}

/** Responds to a path that cannot be decoded, which Fastify detects before any route or hook. */
export function rejectMalformedPath(
  _error: FastifyError,
  request: FastifyRequest,
  reply: FastifyReply,
): void {
  reply.header('x-request-id', request.id)
  const problem = new GatewayError('invalid-request', 'The path is malformed or too long.')
  announceIfEarly(reply, () => sendProblem(problem, request, reply))
}

/** Responds with a problem document; `detail` must not contain anything that the client should not see. */
export function sendProblem(
  problem: GatewayError,
  request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply {
  const { status } = problems[problem.code]
  const retryAfter = problem.retryAfter ?? (status === 503 ? defaultRetryAfter : undefined)
  if (retryAfter !== undefined) reply.header('retry-after', String(Math.max(1, Math.ceil(retryAfter))))
  return reply
    .code(status)
    .type('application/problem+json')
    .header('cache-control', 'no-store')
    .send({ ...problemDocument(problem), instance: harmlessPath(request.url), requestId: request.id })
}

/** Returns the document of a problem without a request. Texts that repeat the request are shortened. */
export function problemDocument({ code, message, errors }: GatewayError): object {
  const { status, title } = problems[code]
  const short = errors?.map((error) => ({
    path: shortened(error.path),
    message: shortened(error.message, maxMessageLength),
  }))
  const detail = shortened(message, maxMessageLength)
  return { type: `/problems/${code}`, title, status, detail, code, ...(short && { errors: short }) }
}

/** Returns the cause for the log: without a stack for a client's mistake, so that it does not fill the log. */
function causeOf({ code, cause }: GatewayError): object {
  if (cause === undefined) return {}
  if (problems[code].status >= 500) return { err: cause }
  return { reason: shortened(cause instanceof Error ? cause.message : String(cause), maxMessageLength) }
}

function toGatewayError(error: FastifyError | GatewayError, request: FastifyRequest): GatewayError {
  if (error instanceof GatewayError) return error
  if (error.validation) {
    const context = error.validationContext === 'body' ? '' : undefined
    const errors = error.validation.map(({ instancePath, message }) => ({
      path: context === undefined ? harmlessName(instancePath.slice(1)) : instancePath,
      message: message ?? 'is not valid',
    }))
    return new GatewayError('invalid-request', undefined, { errors: firstPerPath(errors), cause: undefined })
  }
  if (error.code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE')
    return new GatewayError('unsupported-media-type', typesOf(request), { cause: error })
  const status = error.statusCode ?? 500
  if (status === 413) return new GatewayError('content-too-large', limitOf(request), { cause: error })
  if (status < 400 || status >= 500) return new GatewayError('internal-error')
  return new GatewayError(codesByStatus[status] ?? 'invalid-request', undefined, { cause: error })
}

/** Returns the name of a parameter, unless it could be a secret that was put into the URL without a name. */
function harmlessName(name: string): string {
  return /^[a-z_-]{1,30}$/i.test(name) ? name : 'a parameter'
}

/** Returns the limit of bodies that are read as a whole. Content has its own limit. */
function limitOf({ routeOptions }: FastifyRequest): string {
  return `The body of this call may have at most ${routeOptions.bodyLimit} bytes.`
}

/** Returns what the call accepts instead of the body that was sent, according to its route's schema. */
function typesOf({ routeOptions }: FastifyRequest): string {
  const { content = {} } = (routeOptions.schema?.body ?? {}) as { content?: object }
  const types = Object.keys(content)
  return types.length === 0 ? 'This call has no body.' : `Send Content-Type: ${types.join(' or ')}.`
}

function pathOf(request: FastifyRequest): string {
  return request.url.split('?', 1)[0] ?? '/'
}

function matches(app: FastifyInstance, request: FastifyRequest, method: string): boolean {
  return app.findRoute({ url: pathOf(request), method } as never) !== null
}
