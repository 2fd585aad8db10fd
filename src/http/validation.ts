import type { Static, TSchema } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { Value } from '@sinclair/typebox/value'
import type { FastifySchemaCompiler } from 'fastify'
import { GatewayError } from '../errors.ts'

/** Bodies of these types are read as streams: their schemas are there for the document only. */
export const streamedTypes = ['multipart/form-data', 'video/mp4']

/** Nobody mends more at once, and a body with thousands of wrong fields shall not cost more than one. */
const maxErrors = 20

/**
 * What Fastify makes of schemas: requests are validated, answers are written as the handlers made them. The tests hold
 * every answer against the document.
 */
export const compilersFactory = {
  // Typed by Fastify as if only its own Ajv could do it.
  buildValidator: (() => validatorCompiler) as never,
  buildSerializer: () => () => JSON.stringify,
}

/** Validates with TypeBox whatever is not a stream. */
const validatorCompiler: FastifySchemaCompiler<TSchema> = ({ schema, httpPart, ...route }) => {
  const { contentType } = route as { contentType?: string }
  if (contentType && streamedTypes.includes(contentType)) return () => true
  const compiled = TypeCompiler.Compile(schema)
  return (given: unknown) => {
    const value = httpPart === 'querystring' ? readIntegers(schema, given) : given
    if (compiled.Check(value)) return { value }
    const errors = firstPerPath(compiled.Errors(value))
    return { error: errors.map(({ path, message }) => ({ instancePath: path, message })) as never }
  }
}

/** A query is text. Where the schema wants an integer, decimal digits are one, and nothing else is (`1e1`, `true`). */
function readIntegers({ properties }: TSchema, query: unknown): unknown {
  const read = ([name, value]: [string, unknown]) => {
    const digits = properties[name]?.type === 'integer' && typeof value === 'string' && /^\d+$/.test(value)
    return [name, digits ? Number(value) : value]
  }
  return Object.fromEntries(Object.entries(query as object).map(read))
}

/** @throws GatewayError `invalid-request` that names the wrong fields */
export function validate<T extends TSchema>(schema: T, value: unknown): Static<T> {
  if (Value.Check(schema, value)) return value
  throw new GatewayError('invalid-request', undefined, { errors: firstPerPath(Value.Errors(schema, value)) })
}

/** TypeBox tells several things of one missing field; the first says it. Stops when there are enough. */
export function firstPerPath(
  errors: Iterable<{ path: string; message: string }>,
): { path: string; message: string }[] {
  const messages = new Map<string, string>()
  for (const { path, message } of errors) {
    if (!messages.has(path)) messages.set(path, message)
    if (messages.size === maxErrors) break
  }
  return [...messages].map(([path, message]) => ({ path, message }))
}
