import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'
import type { allScopes } from '../auth/credentials.ts'
import { version } from '../config/version.ts'
import { docsPolicy } from '../http/security-headers.ts'
import { shareFiles } from '../http/shared-responses.ts'
import { ProblemDocument, VideoResource } from './schemas.ts'

const scopes = {
  'videos:read': 'look at videos',
  'videos:write': 'create and upload',
  'videos:delete': 'delete',
} satisfies Record<(typeof allScopes)[number], string>

/** The OpenAPI document, made from the routes' schemas, and Swagger UI. To be registered before the routes. */
export async function registerDocs(app: FastifyInstance): Promise<void> {
  app.addSchema(VideoResource)
  app.addSchema(ProblemDocument)

  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Video gateway',
        version,
        description:
          'One API for the life of a publication on any video platform: provision a slot, upload the mp4, watch its processing, read its metadata, remove it.',
        contact: { name: 'Video gateway maintainers' },
        license: { name: 'MIT', identifier: 'MIT' },
      },
      servers: [{ url: '/' }],
      tags: [
        { name: 'Videos', description: 'Slot provisioning, and the videos there are' },
        { name: 'Content', description: 'The binary, streamed through to the platform' },
        { name: 'Monitoring', description: 'What the platform makes of it' },
        { name: 'Metadata', description: 'Video and thumbnail information of a ready video' },
        { name: 'Removal', description: 'Off the platform' },
        { name: 'Authorization', description: 'Tokens for the calls above (OAuth2 client credentials)' },
        { name: 'Operations', description: 'Probes and metrics' },
      ],
      components: {
        securitySchemes: {
          apiKey: { type: 'http', scheme: 'bearer', description: 'A permanent API key' },
          oauth2: { type: 'oauth2', flows: { clientCredentials: { tokenUrl: '/oauth2/token', scopes } } },
        },
      },
    },
    refResolver: {
      buildLocalReference: (schema, _base, _fragment, index) => String(schema.$id ?? `schema-${index}`),
    },
  })

  await app.register(async (docs) => {
    shareFiles(docs)
    await app.register(swaggerUi, {
      routePrefix: '/docs',
      staticCSP: docsPolicy,
      theme: { title: 'Video gateway' },
      uiConfig: {
        deepLinking: true,
        displayRequestDuration: true,
        persistAuthorization: true,
        tryItOutEnabled: true,
      },
    })
  })

  // One buffer for all responses: a client that does not read its response keeps no copy of the document in memory.
  let document: Buffer | undefined
  app.get('/openapi.json', { schema: { hide: true } }, async (_request, reply) => {
    document ??= Buffer.from(JSON.stringify(app.swagger()))
    return reply.type('application/json; charset=utf-8').send(document)
  })
}
