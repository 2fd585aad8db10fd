import { readFileSync } from 'node:fs'
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import formats from 'ajv-formats'
import type { Json, TestResponse } from './gateway.ts'

/** Callers must ignore fields that they do not know; the gateway itself sends none that the document does not know. */
const closed = (_key: string, value: Json) =>
  value?.type === 'object' && value.properties ? { additionalProperties: false, ...value } : value
const file = new URL('../../openapi/openapi.json', import.meta.url)
const document: Json = JSON.parse(readFileSync(file, 'utf8'), closed)
const ajv = new Ajv2020({ strict: false, allErrors: true })
formats.default(ajv)
ajv.addFormat('binary', true)
ajv.addFormat('text', true)
ajv.addFormat('line', true)
ajv.addSchema(document, 'document')

const paths = Object.keys(document.paths).map((path) => ({
  path,
  matches: new RegExp(`^${path.replaceAll(/\{\w+\}/g, '[^/]+')}$`),
}))

/**
 * Holds an answer against the published document: the operation knows the status and the media type, and the body
 * fits. Paths and methods that the document does not have are left alone.
 * @throws Error that says what does not fit
 */
export function checkAgainstDocument(
  method: string,
  url: string,
  { status, headers, body }: TestResponse,
): void {
  const pathname = url.split('?', 1)[0] as string
  const path = paths.find(({ matches }) => matches.test(pathname))?.path
  const operation = path && document.paths[path][method.toLowerCase()]
  if (!operation) return
  const place = `${method} ${path} ${status}`
  const answer = operation.responses[status]
  if (!answer) throw new Error(`${place}: the document does not know this status`)
  const type = headers.get('content-type')?.split(';', 1)[0] ?? ''
  if (!answer.content) {
    if (body !== '') throw new Error(`${place}: the document knows no body`)
    return
  }
  if (!answer.content[type]) throw new Error(`${place}: the document does not know the type ${type}`)
  const validate = validatorOf(
    'paths',
    path,
    method.toLowerCase(),
    'responses',
    String(status),
    'content',
    type,
  )
  if (!validate(body))
    throw new Error(`${place}: ${ajv.errorsText(validate.errors)} in ${JSON.stringify(body)}`)
}

/**
 * Holds a webhook that the gateway sent against `webhooks` of the document.
 * @throws Error that says what does not fit
 */
export function checkWebhookAgainstDocument(headers: Record<string, string>, body: Json): void {
  const { post } = document.webhooks[body.type] ?? {}
  if (!post) throw new Error(`the document does not know the event ${body.type}`)
  for (const { name, required } of post.parameters)
    if (required && !headers[name]) throw new Error(`${body.type}: the header ${name} is missing`)
  const validate = validatorOf('webhooks', body.type, 'post', 'requestBody', 'content', 'application/json')
  if (!validate(body)) throw new Error(`${body.type}: ${ajv.errorsText(validate.errors)}`)
}

function validatorOf(...steps: string[]): ValidateFunction {
  const pointer = [...steps, 'schema'].map((step) => encodeURIComponent(step.replaceAll('/', '~1'))).join('/')
  return ajv.getSchema(`document#/${pointer}`) as ValidateFunction
}
