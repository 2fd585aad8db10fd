import type { Static, TSchema } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { Value, type ValueError, ValueErrorType } from '@sinclair/typebox/value'
import type { FastifySchemaCompiler } from 'fastify'
import { GatewayError } from '../errors.ts'

/**
 * Bodies of these types, or without a type, are read as streams where they are read at all: their schemas are there for
 * the document only.
 */
export const streamedTypes = ['multipart/form-data', 'video/mp4', 'application/octet-stream', '']

/** More do not help a client, and thousands of invalid fields must not cost more than a single one. */
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

/** Validates everything that is not a stream with TypeBox. */
const validatorCompiler: FastifySchemaCompiler<TSchema> = ({ schema, httpPart, ...route }) => {
  const { contentType } = route as { contentType?: string }
  if (contentType && streamedTypes.includes(contentType)) return () => true
  const compiled = TypeCompiler.Compile(schema)
  return (given: unknown) => {
    const value = httpPart === 'querystring' ? readIntegers(schema, given) : given
    if (compiled.Check(value)) return { value }
    const errors = fieldErrors(compiled.Errors(value))
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
  throw new GatewayError('invalid-request', undefined, { errors: fieldErrors(Value.Errors(schema, value)) })
}

function* readMessages(errors: Iterable<ValueError>): Iterable<{ path: string; message: string }> {
  for (const error of errors) {
    const orNull = nullableErrors(error)
    if (orNull) yield* readMessages(orNull)
    else yield { path: error.path, message: messageOf(error) }
  }
}

/** Returns the error of a nullable value: why it is not valid when it is not null. */
function nullableErrors({ type, schema, errors }: ValueError): Iterable<ValueError> | undefined {
  if (type !== ValueErrorType.Union || schema.anyOf.length !== 2) return undefined
  const other = schema.anyOf.findIndex((choice: TSchema) => choice.type !== 'null')
  return schema.anyOf[1 - other].type === 'null' ? errors[other] : undefined
}

function fieldErrors(errors: Iterable<ValueError>) {
  return firstPerPath(readMessages(errors))
}

const formatMessages: Record<string, string> = {
  line: 'must be one line of text, without control characters',
  text: 'must be text, without NUL and control characters of the C1 set',
  'date-time': 'must be a time of RFC 3339 such as 2026-11-24T08:00:00Z',
}

/** Returns the message for a field: a predicate that follows its path. */
function messageOf({ type, schema, message }: ValueError): string {
  switch (type) {
    case ValueErrorType.ObjectRequiredProperty:
      return 'is required'
    case ValueErrorType.ObjectAdditionalProperties:
      return 'is not a known field'
    case ValueErrorType.Object:
      return 'must be a JSON object'
    case ValueErrorType.ObjectMinProperties:
      return 'must have at least one field'
    case ValueErrorType.Array:
      return 'must be an array'
    case ValueErrorType.ArrayMinItems:
      return 'must not be empty'
    case ValueErrorType.ArrayUniqueItems:
      return 'must not have the same element twice'
    case ValueErrorType.Boolean:
      return 'must be true or false'
    case ValueErrorType.String:
      return 'must be a string'
    case ValueErrorType.StringMaxLength:
      return `must have at most ${schema.maxLength} characters`
    case ValueErrorType.StringMinLength:
    case ValueErrorType.StringPattern:
      return 'must not be empty'
    case ValueErrorType.StringFormat:
      return formatMessages[schema.format] ?? message
    case ValueErrorType.Union: {
      const choices = schema.anyOf.map((choice: TSchema) => choice.const)
      return choices.includes(undefined) ? message : `must be one of ${choices.join(', ')}`
    }
    case ValueErrorType.Integer:
    case ValueErrorType.IntegerMinimum:
    case ValueErrorType.IntegerMaximum:
      return `must be an integer from ${schema.minimum} to ${schema.maximum}`
    default:
      return message
  }
}

/** TypeBox reports several errors for one missing field, of which the first is sufficient. Stops at the maximum. */
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
