import { readFileSync } from 'node:fs'
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'
import { docsPolicy } from '../http/security-headers.ts'
import { shareFiles } from '../http/shared-responses.ts'
import { foldErrors } from './docs-page/fold-errors.ts'
import { type Document, documentOptions } from './document.ts'
import { type DocumentView, viewOf } from './document-view.ts'
import { VideoEvent } from './event-schemas.ts'
import { ProblemDocument } from './schemas.ts'
import { VideoResource } from './video-schemas.ts'
import { DeliveryResource, WebhookResource, WebhookWithSecret } from './webhook-schemas.ts'

const file = (name: string) => readFileSync(new URL(`docs-page/${name}`, import.meta.url), 'utf8')

/**
 * The OpenAPI document, made from the routes' schemas, and Swagger UI, which shows it as this gateway is configured.
 * To be registered before the routes.
 * @returns shows the configuration as it is now
 */
export async function registerDocs(app: FastifyInstance, view: DocumentView): Promise<() => void> {
  app.addSchema(VideoResource)
  app.addSchema(VideoEvent)
  app.addSchema(WebhookResource)
  app.addSchema(WebhookWithSecret)
  app.addSchema(DeliveryResource)
  app.addSchema(ProblemDocument)
  await app.register(swagger, documentOptions)

  let shown: Document | undefined
  let dropFiles = () => {}
  await app.register(async (docs) => {
    dropFiles = shareFiles(docs)
    await docs.register(swaggerUi, {
      routePrefix: '/docs',
      staticCSP: docsPolicy,
      transformSpecification(document) {
        shown ??= viewOf(document, view)
        return shown
      },
      transformSpecificationClone: false,
      theme: {
        title: 'Video gateway',
        css: [{ filename: 'page.css', content: file('page.css') }],
        favicon: [
          {
            filename: 'favicon.svg',
            rel: 'icon',
            type: 'image/svg+xml',
            sizes: 'any',
            content: file('favicon.svg'),
          },
        ],
      },
      uiConfig: {
        // Without the bar of the standalone layout, which shows another's logo and opens other documents.
        layout: 'BaseLayout',
        plugins: [foldErrors],
        deepLinking: true,
        displayRequestDuration: true,
        persistAuthorization: true,
        tryItOutEnabled: true,
        // Every operation names its schemas.
        defaultModelsExpandDepth: -1,
      },
    })
  })

  // One buffer for all responses: a client that does not read its response keeps no copy of the document in memory.
  let document: Buffer | undefined
  app.get('/openapi.json', { schema: { hide: true } }, async (_request, reply) => {
    document ??= Buffer.from(JSON.stringify(app.swagger()))
    return reply.type('application/json; charset=utf-8').send(document)
  })

  return () => {
    shown = undefined
    dropFiles()
  }
}
