import { createHash } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { version } from '../config/version.ts'

const style = `
body { max-width: 38rem; margin: 10vh auto; padding: 0 1.2rem; font: 1rem/1.5 system-ui, sans-serif; color: #222; background: #fff }
h1 { margin: 0; color: #1f4f8f }
li { margin: .4rem 0 }
small { color: #666 }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #161a20 } h1, a { color: #8ab8f5 } small { color: #999 } }
`

// Links are relative: the gateway may be below a path of its host.
const page = Buffer.from(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Video gateway</title>
<link rel="icon" type="image/svg+xml" href="docs/static/theme/favicon.svg">
<style>${style}</style>
</head>
<body>
<h1>Video gateway</h1>
<p>One REST API in front of external video platforms: create a video, upload the MP4, follow its processing, read its
launch URL and thumbnail, delete it.</p>
<ul>
<li><a href="docs/">Documentation</a>: every operation, with a form to try it</li>
<li><a href="openapi.json">openapi.json</a>: the OpenAPI 3.1 document, for code generators</li>
</ul>
<p><small>Version ${version}</small></p>
</body>
</html>
`)

/** Nothing but its own style and its icon. */
const policy = [
  "default-src 'none'",
  `style-src 'sha256-${createHash('sha256').update(style).digest('base64')}'`,
  "img-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ')

/** `GET /`: a short page for people who open the gateway's address in a browser. */
export function registerHome(app: FastifyInstance): void {
  app.get('/', { schema: { hide: true } }, async (_request, reply) =>
    reply.header('content-security-policy', policy).type('text/html; charset=utf-8').send(page),
  )
}
