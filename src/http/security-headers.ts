import { IncomingMessage, type OutgoingHttpHeaders, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import helmet from 'helmet'

/** The policy of Swagger UI: its own files, its icons as `data:` images, and calls to this API. */
export const docsPolicy = {
  'default-src': ["'none'"],
  'script-src': ["'self'"],
  'style-src': ["'self'", "'unsafe-inline'"],
  'img-src': ["'self'", 'data:'],
  'font-src': ["'self'"],
  'connect-src': ["'self'"],
  'base-uri': ["'none'"],
  'form-action': ["'none'"],
  'frame-ancestors': ["'none'"],
}

/**
 * Headers that keep browsers from doing more with an answer than showing it. Everything but Swagger UI is data, so
 * nothing may be loaded from it. Strict-Transport-Security is sent only if the public address is https.
 */
export function registerSecurityHeaders(server: FastifyInstance, publicUrl: string | undefined): void {
  const headers = securityHeaders(publicUrl?.startsWith('https:') ?? false)
  server.addHook('onRequest', ({ routeOptions }, reply, done) => {
    reply.headers(headers)
    // Videos and tokens are for their caller alone, and change (OWASP REST Security Cheat Sheet; RFC 9111 §5.2.2.5).
    if (routeOptions.url?.startsWith('/v1/')) reply.header('cache-control', 'no-store')
    done()
  })
}

/** Helmet's headers are the same for every response, so they are computed once. */
function securityHeaders(isHttps: boolean): OutgoingHttpHeaders {
  const response = new ServerResponse(new IncomingMessage(new Socket()))
  const setHeaders = helmet({
    contentSecurityPolicy: {
      useDefaults: false,
      directives: { 'default-src': ["'none'"], 'base-uri': ["'none'"], 'frame-ancestors': ["'none'"] },
    },
    strictTransportSecurity: isHttps ? { maxAge: 31_536_000, includeSubDomains: false } : false,
    xFrameOptions: { action: 'deny' },
    // Helmet's other headers concern pages that run scripts (OWASP REST Security Cheat Sheet, "Security Headers").
    crossOriginOpenerPolicy: false,
    originAgentCluster: false,
    xDnsPrefetchControl: false,
    xDownloadOptions: false,
    xPermittedCrossDomainPolicies: false,
    xXssProtection: false,
  })
  setHeaders(response.req, response, (error) => {
    if (error) throw error
  })
  return response.getHeaders()
}
