import type { Problem } from './generated/types.gen.ts'

/** An error response of the gateway: RFC 9457, with the gateway's stable `code`. */
export class GatewayProblem extends Error {
  override readonly name = 'GatewayProblem'
  readonly status: number
  /** Stable code for programs; docs/integration.md lists every code and what to do. */
  readonly code: string
  /** Seconds to wait before a retry, if the response has `Retry-After`. */
  readonly retryAfter: number | undefined
  /** Identifies the request in the gateway's log. */
  readonly requestId: string | undefined
  /** The invalid fields. */
  readonly errors: NonNullable<Problem['errors']>

  constructor(problem: Partial<Problem> & { status: number; code: string }, retryAfter?: number) {
    const { status, code, requestId, errors = [] } = problem
    // `detail` names the first invalid fields.
    super(problem.detail ?? problem.title ?? `the gateway returned ${status}`)
    this.status = status
    this.code = code
    this.retryAfter = retryAfter
    this.requestId = requestId
    this.errors = errors
  }

  /** Whether the same call may succeed later, unchanged. */
  get transient(): boolean {
    return [408, 429, 500, 502, 503, 504].includes(this.status)
  }
}

/** Whether a call may succeed later. fetch reports a broken connection as a TypeError. */
export function isTransient(error: unknown): boolean {
  return error instanceof GatewayProblem ? error.transient : error instanceof TypeError
}

type Body = Partial<Problem> & { error?: string; error_description?: string }

/** Reads the problem from a response; one from a proxy in between has a code of its own. */
export async function readProblem(response: Response): Promise<GatewayProblem> {
  const { status, headers } = response
  const body = (await response.json().catch(() => undefined)) as Body | undefined
  const retryAfter = readRetryAfter(headers.get('retry-after'))
  if (typeof body?.code === 'string')
    return new GatewayProblem({ ...body, status, code: body.code }, retryAfter)
  // The token endpoint returns errors of RFC 6749 §5.2.
  if (typeof body?.error === 'string')
    return new GatewayProblem(
      { status, code: body.error, detail: body.error_description ?? body.error },
      retryAfter,
    )
  return new GatewayProblem({ status, code: 'unexpected-answer' }, retryAfter)
}

/** Seconds of a `Retry-After`, which is a number or a date (RFC 9110 §10.2.3). */
export function readRetryAfter(value: string | null): number | undefined {
  if (value === null || value.trim() === '') return undefined
  const seconds = /^\d+$/.test(value.trim()) ? Number(value) : (Date.parse(value) - Date.now()) / 1000
  return Number.isNaN(seconds) ? undefined : Math.max(0, seconds)
}
