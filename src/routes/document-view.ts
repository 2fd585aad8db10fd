import type { Document } from './document.ts'
import { exampleOrigin } from './schemas.ts'

/** The part of the configuration that Swagger UI shows. None of it is secret. */
export interface DocumentView {
  /** Names of the configured platforms; the first is the default. */
  platforms: string[]
  /** Whether the token endpoint knows any client. */
  hasClients: () => boolean
  /** The external issuer whose access tokens the gateway accepts. */
  issuerUrl: string | undefined
  /** Base of the URLs that the gateway returns, without a slash at its end. */
  publicUrl: () => string
}

/** Returns the OpenAPI document for this gateway's configuration: the page's examples can be sent unchanged. */
export function viewOf(
  document: Document,
  { platforms, hasClients, issuerUrl, publicUrl }: DocumentView,
): Document {
  const base = new URL(publicUrl()).pathname.replace(/\/$/, '')
  const view = JSON.parse(JSON.stringify(document).replaceAll(exampleOrigin, publicUrl()))
  view.servers = base ? [{ url: base }] : undefined
  view.info.description += keyAdvice(hasClients(), issuerUrl)
  const { securitySchemes, schemas } = view.components
  securitySchemes.apiKey.description = issuerUrl
    ? `An API key, or an access token of ${issuerUrl}`
    : 'An API key'
  securitySchemes.oauth2.flows.clientCredentials.tokenUrl = `${base}/oauth2/token`
  for (const example of schemas.Video.examples) example.platform.name = platforms[0]
  for (const { parameters = [], requestBody } of operationsOf(view)) {
    for (const parameter of parameters) proposeParameter(parameter, platforms)
    const media: Document[] = Object.values(requestBody?.content ?? {})
    for (const { schema } of media) proposeFields(schema.properties ?? {}, platforms)
  }
  if (!hasClients()) removeTokens(view)
  return view
}

function keyAdvice(hasClients: boolean, issuerUrl: string | undefined): string {
  const ways = [
    'enter your API key',
    ...(issuerUrl ? [`enter an access token of ${issuerUrl}`] : []),
    ...(hasClients ? ['let the page request an access token for your OAuth2 client'] : []),
  ]
  return `

**Try it here:** press *Authorize* and ${ways.join(', or ')}. The operator creates a key with \`npm run apikey -- NAME\`; outside production, a gateway without keys prints one when it starts. Then open an operation and press *Execute*: the proposed values work as they are. Where an id is asked for, enter that of a video or of a webhook endpoint that you created.`
}

function operationsOf(view: Document): Document[] {
  return Object.values(view.paths as Document[]).flatMap((item) => Object.values(item as object))
}

/** No id is proposed: it would be that of no video. */
function proposeParameter(parameter: Document, platforms: string[]): void {
  if (parameter.name === 'platform') parameter.schema.enum = platforms
  if (parameter.name === 'id' || parameter.name === 'event') delete parameter.example
}

/** Swagger UI makes up a value of every field that has no example: `string`, `1`. */
function proposeFields(fields: Record<string, Document>, platforms: string[]): void {
  if (fields.platform) Object.assign(fields.platform, { enum: platforms, default: platforms[0] })
  for (const field of [fields.size, fields.client_id, fields.client_secret]) if (field) field.examples = ['']
}

/** OAuth2, where no client could get a token. */
function removeTokens(view: Document): void {
  const tag = 'Access tokens'
  delete view.components.securitySchemes.oauth2
  view.tags = view.tags.filter(({ name }: Document) => name !== tag)
  for (const [path, item] of Object.entries<Document>(view.paths)) {
    for (const operation of Object.values<Document>(item)) {
      operation.security = operation.security?.filter((scheme: object) => !('oauth2' in scheme))
      if (operation.tags.includes(tag)) delete view.paths[path]
    }
  }
}
