import formbody from '@fastify/formbody'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import OAuth2Server from '@node-oauth/oauth2-server'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import type { TokenIssuer } from '../auth/access-tokens.ts'
import { createTokenGrant, type TokenRequest } from '../auth/client-credentials.ts'
import { allScopes, type Credential } from '../auth/credentials.ts'
import { GatewayError, problems } from '../errors.ts'
import { tokenRateLimit } from '../http/limits.ts'
import { jwksSchema, metadataSchema, tokenSchema } from './oauth-schemas.ts'

const bodyLimit = 8 * 1024
/** Characters of an `error_description`. */
const longestDescription = 200

export interface OAuthRoutesOptions {
  issuer: TokenIssuer
  /** Clients that may request tokens; may be empty. */
  clients: Credential[]
  /** Base of the URLs in the metadata, without a slash at its end. */
  publicUrl: () => string
}

/** The gateway as an OAuth 2 authorization server: the token endpoint, and how to find it and its keys. */
export const oauthRoutes: FastifyPluginAsyncTypebox<OAuthRoutesOptions> = async (app, options) => {
  const { issuer, publicUrl } = options

  app.get('/.well-known/oauth-authorization-server', { schema: metadataSchema }, () => ({
    issuer: issuer.issuerUrl(),
    token_endpoint: `${publicUrl()}/oauth2/token`,
    jwks_uri: `${publicUrl()}/.well-known/jwks.json`,
    scopes_supported: [...allScopes],
    // Required by RFC 8414 §2 even without an authorization endpoint.
    response_types_supported: [],
    grant_types_supported: ['client_credentials'],
    token_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post'],
    service_documentation: `${publicUrl()}/docs`,
  }))

  app.get('/.well-known/jwks.json', { schema: jwksSchema }, (_request, reply) => {
    reply.header('cache-control', 'public, max-age=300')
    return issuer.jwks()
  })

  await app.register(tokenEndpoint, options)
}

/** In a scope of its own: forms are read here only, and errors keep the format of RFC 6749 §5.2. */
const tokenEndpoint: FastifyPluginAsyncTypebox<OAuthRoutesOptions> = async (app, { issuer, clients }) => {
  const grant = createTokenGrant(issuer, clients)
  app.removeAllContentTypeParsers()
  await app.register(formbody)
  app.setErrorHandler(answerError)

  const options = { schema: tokenSchema, bodyLimit, config: { rateLimit: tokenRateLimit } }
  app.post('/oauth2/token', options, async (request, reply) => {
    // RFC 6749 §5.1: a response with a token MUST have both headers.
    reply.header('cache-control', 'no-store').header('pragma', 'no-cache')
    return grant(request.headers.authorization, request.body as TokenRequest)
  })
}

function answerError(
  error: FastifyError | GatewayError | Error,
  request: FastifyRequest,
  reply: FastifyReply,
) {
  const { status, ...body } = describe(error)
  // RFC 6749 §5.2: a 401 MUST name the scheme that the client used, and RFC 9110 §15.5.2 requires one in every case.
  if (status === 401) reply.header('www-authenticate', 'Basic realm="video-gateway", charset="UTF-8"')
  if (status >= 500) request.log.error({ err: error }, 'the token endpoint failed')
  if (error instanceof GatewayError && error.retryAfter !== undefined)
    reply.header('retry-after', error.retryAfter)
  return reply.code(status).header('cache-control', 'no-store').header('pragma', 'no-cache').send(body)
}

/** Returns status and body of an error. Texts with more than the client may know are replaced. */
function describe(error: FastifyError | GatewayError | Error) {
  const status = statusOf(error)
  if (status === 401) {
    return { status, error: 'invalid_client', error_description: 'Client authentication failed' }
  }
  if (status === 429 || status === 503) {
    return { status, error: 'temporarily_unavailable', error_description: 'Try again later' }
  }
  if (status >= 500) {
    return { status, error: 'server_error', error_description: problems['internal-error'].title }
  }
  const code = error instanceof OAuth2Server.OAuthError ? error.name : 'invalid_request'
  const description = explain(error)
    .slice(0, longestDescription)
    .replaceAll(/[^ !#-[\]-~]/g, "'")
  return { status, error: code, error_description: description }
}

/** Returns what is wrong with the request, also where Fastify's message is not clear enough. */
function explain(error: FastifyError | GatewayError | Error): string {
  const { validation: [first] = [], code } = error as FastifyError
  // RFC 6749 §3.2: parameters MUST NOT be included more than once. A repeated one is an array instead of a string.
  if (first?.message === 'must be a string') return `${first.instancePath.slice(1)} occurs more than once`
  if (first) return `${first.instancePath.slice(1)} ${first.message}`
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') return `The body may have at most ${bodyLimit} bytes`
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') return 'Send Content-Type: application/x-www-form-urlencoded'
  return error.message
}

/** RFC 6749 §5.2 defines 400 and 401; errors of the app's hooks keep their status. */
function statusOf(error: FastifyError | GatewayError | Error): number {
  if (error instanceof OAuth2Server.InvalidClientError) return 401
  if (error instanceof OAuth2Server.ServerError) return 500
  if (error instanceof OAuth2Server.OAuthError) return 400
  const status =
    error instanceof GatewayError
      ? problems[error.code].status
      : ('statusCode' in error && error.statusCode) || 500
  return [413, 415].includes(status) ? 400 : status
}
