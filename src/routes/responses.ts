import { Type } from '@sinclair/typebox'
import type { Scope } from '../auth/credentials.ts'
import { type ProblemCode, problems } from '../errors.ts'

/** Problems that any route may return. */
const commonProblems: ProblemCode[] = [
  'invalid-request',
  'request-timeout',
  'too-many-requests',
  'internal-error',
  'store-unavailable',
]
const authProblems: ProblemCode[] = ['unauthorized', 'insufficient-scope', 'issuer-unavailable']
/** Problems of a call to the platform. */
export const platformFailures: ProblemCode[] = [
  'platform-rejected',
  'platform-throttled',
  'platform-unavailable',
  'platform-protocol-error',
  'platform-unauthorized',
  'platform-timeout',
]

/** Returns the responses of a route that requires a scope: successes, and every problem that it may return, by status. */
export function responses(good: Record<number, unknown>, ...codes: ProblemCode[]): Record<number, unknown> {
  return { ...good, ...problemResponses([...commonProblems, ...authProblems, ...codes]) }
}

export function problemResponses(codes: ProblemCode[]): Record<number, unknown> {
  const byStatus = Map.groupBy(new Set(codes), (code) => problems[code].status)
  return Object.fromEntries(
    [...byStatus].map(([status, group]) => {
      const examples = Object.fromEntries(
        group.map((code) => [code, { summary: problems[code].title, value: problemExample(code) }]),
      )
      const description = group.map((code) => `\`${code}\``).join(', ')
      return [
        status,
        { description, content: { 'application/problem+json': { schema: Type.Ref('Problem'), examples } } },
      ]
    }),
  )
}

function problemExample(code: ProblemCode) {
  const { status, title } = problems[code]
  return {
    type: `/problems/${code}`,
    title,
    status,
    detail: title,
    instance: '/v1/videos',
    code,
    requestId: '7f3c1d2e',
  }
}

/** The OpenAPI security requirement of a route: an API key, or an access token with the scope. */
export function securedBy(scope: Scope): { [scheme: string]: readonly string[] }[] {
  return [{ apiKey: [] }, { oauth2: [scope] }]
}

/** Returns the description of a JSON response for a route's schema. */
export function json(description: string, schema: object) {
  return { description, content: { 'application/json': { schema } } }
}
