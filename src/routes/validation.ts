import { TypeBoxValidatorCompiler } from '@fastify/type-provider-typebox'
import type { Static, TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { FastifySchemaCompiler } from 'fastify'
import { GatewayError } from '../errors.ts'

/** Bodies of these types are read as streams: their schemas are there for the document only. */
export const streamedTypes = ['multipart/form-data', 'video/mp4']

/** Validates with TypeBox whatever is not a stream. */
export const validatorCompiler: FastifySchemaCompiler<TSchema> = (route) => {
  const { contentType } = route as { contentType?: string }
  if (contentType && streamedTypes.includes(contentType)) return () => true
  return TypeBoxValidatorCompiler(route)
}

/** @throws GatewayError `invalid-request` that names every wrong field */
export function validate<T extends TSchema>(schema: T, value: unknown): Static<T> {
  if (Value.Check(schema, value)) return value
  const errors = [...Value.Errors(schema, value)].map(({ path, message }) => ({ path, message }))
  throw new GatewayError('invalid-request', undefined, { errors: firstPerPath(errors) })
}

/** TypeBox tells several things of one missing field; the first says it. */
export function firstPerPath(
  errors: { path: string; message: string }[],
): { path: string; message: string }[] {
  return errors.filter(({ path }, index) => errors.findIndex((other) => other.path === path) === index)
}
